"""Organs from nodes to nodes: found in the worker, added to the user's or held against them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .i18n import _
from .prediction_run import Callbacks, Job, PredictionRun, RunInputs
from .prepared import PreparedInputs
from .services import Services
from .starting import ready_inputs

if TYPE_CHECKING:
    from DosePredictionLib.prediction import Prediction
    from DosePredictionLib.scene import SceneCase, Step

__all__ = ["costs_job", "filling_job", "start_organs"]


def filling_job(channels: tuple[str, ...]) -> Job:
    """Add the organs of these channels in a new segmentation: the node."""
    from DosePredictionLib.scene import found_steps

    return _job(lambda prediction, source: found_steps(prediction, source, channels))


def costs_job(dose: Any) -> Job:
    """Read a dose on drawn and found organs: a list of `ContourCost`."""
    from DosePredictionLib.scene import cost_steps

    return _job(lambda prediction, source: cost_steps(prediction, source, dose))


def start_organs(
    inputs: RunInputs,
    job: Job,
    shared: Services,
    on_finished: Callable[[Any], None],
    callbacks: Callbacks,
) -> PredictionRun:
    """Find organs without waiting; what was read is kept, what the worker wrote is discarded.

    Raises:
        CaseError: the nodes cannot be read.
    """

    def finished(prepared: PreparedInputs, output: Path, value: Any) -> None:
        shared.keep_prepared(prepared)
        shared.scratch.discard([output])
        on_finished(value)

    whole = Callbacks(callbacks.progress, finished, callbacks.error)
    ready, scratch = ready_inputs(inputs, shared), shared.scratch
    return PredictionRun(ready, shared.worker, scratch, shared.clock, whole, job).start()


def _request(inputs: RunInputs, prepared: PreparedInputs, output: Path) -> Any:
    from DosePredictionLib.worker.messages import Predict, PredictOptions

    return Predict(
        id=output.name,
        case=str(prepared.folder),
        output=str(output),
        model=inputs.model,
        mapping=dict(inputs.mapping),
        options=inputs.options or PredictOptions(),
        gives="segment",
    )


def _job(further: Callable[[Prediction, SceneCase], Generator[Step, None, Any]]) -> Job:
    """What was found, and the case with its voxels, on to further steps."""

    def steps(
        _inputs: RunInputs, prepared: PreparedInputs, output: Path
    ) -> Generator[Step, None, Any]:
        from DosePredictionLib.scene import Step
        from DosePredictionLib.worker.exchange import read_prediction

        source = prepared.source()
        prediction = read_prediction(output, source.case)
        yield Step(_("reading the organs"), 0, 1)
        return (yield from further(prediction, source))

    return Job(_request, steps)
