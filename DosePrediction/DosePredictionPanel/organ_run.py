"""Organs from nodes to nodes: found in the worker or taken from another segmentation.

They are added to the user's, or held against them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .executor.context import node_of
from .flow.facts import OrganOrder
from .i18n import _
from .prediction_run import Callbacks, Job, PredictionRun, RunInputs
from .prepared import PreparedInputs
from .services import Services
from .starting import ready_inputs

if TYPE_CHECKING:
    from DosePredictionLib.scene import FoundOrgans, SceneCase, Step
    from DosePredictionLib.structures.bound import BoundCase

    Further = Callable[[FoundOrgans, BoundCase, SceneCase], Generator[Step, None, Any]]
    Filled = Generator[Step, None, tuple[Any, tuple[str, ...]]]

__all__ = ["costs_job", "filling_job", "start_organs"]


def filling_job(order: OrganOrder) -> Job:
    """Add the organs of the order's channels in a new segmentation: the node, and notes."""
    from DosePredictionLib.scene import found_steps

    def steps(found: FoundOrgans, _bound: BoundCase, source: SceneCase) -> Filled:
        node = yield from found_steps(found, source, order.channels)
        return node, found.notes

    return _job(order, steps)


def costs_job(order: OrganOrder) -> Job:
    """Read the order's dose on drawn and found organs: a list of `ContourCost`."""
    from DosePredictionLib.scene import cost_steps

    dose = node_of(order.dose)
    return _job(order, lambda found, bound, source: cost_steps(found, bound, source, dose))


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


def _job(order: OrganOrder, further: Further) -> Job:
    """What was found, and the case with its voxels, on to further steps."""

    def from_model(
        _inputs: RunInputs, prepared: PreparedInputs, output: Path
    ) -> Generator[Step, None, Any]:
        from DosePredictionLib.scene import Step, found_organs
        from DosePredictionLib.worker.exchange import read_prediction

        source = prepared.source()
        prediction = read_prediction(output, source.case)
        yield Step(_("reading the organs"), 0, 1)
        return (yield from further(found_organs(prediction), prediction.bound, source))

    def from_scene(
        _inputs: RunInputs, prepared: PreparedInputs, _output: Path
    ) -> Generator[Step, None, Any]:
        from DosePredictionLib.scene import organs_of_totalsegmentator
        from DosePredictionLib.structures.bound import bind
        from DosePredictionLib.structures.protocol import StructureProtocol

        source, protocol = prepared.source(), StructureProtocol.load(order.protocol)
        found = yield from organs_of_totalsegmentator(node_of(order.source), source, protocol)
        bound = bind(source.case, protocol, dict(order.mapping))
        return (yield from further(found, bound, source))

    return Job(None, from_scene) if order.source else Job(_request, from_model)
