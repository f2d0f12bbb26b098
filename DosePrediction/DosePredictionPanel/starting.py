"""A prediction in the background, for the panel and the console alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import require_no_blocking
from .prediction_run import Callbacks, PredictionRun, RunInputs
from .prepared import PreparedInputs
from .services import KeptResult, Services

if TYPE_CHECKING:
    from DosePredictionLib.scene import SceneResult

__all__ = ["ready_inputs", "start_run"]


def ready_inputs(inputs: RunInputs, shared: Services) -> RunInputs:
    """The same, with what has been read already.

    Raises:
        CaseError: the nodes cannot be predicted.
    """
    from DosePredictionLib.scene import input_findings

    nodes = (inputs.ct, inputs.segmentation, inputs.plan_dose)
    require_no_blocking(input_findings(*nodes))
    return replace(inputs, prepared=shared.prepared(*nodes))


def start_run(
    inputs: RunInputs,
    shared: Services,
    on_finished: Callable[[SceneResult], None],
    on_progress: Callable[[float, str], None],
    on_error: Callable[[Exception, str], None],
) -> PredictionRun:
    """Predict without waiting; the result is kept before `on_finished` is called.

    Raises:
        CaseError: the nodes cannot be predicted.
    """

    def finished(prepared: PreparedInputs, output: Path, result: Any) -> None:
        shared.keep_prepared(prepared)
        shared.keep_result(KeptResult(result, prepared, output))
        on_finished(result)

    callbacks = Callbacks(progress=on_progress, finished=finished, error=on_error)
    ready = ready_inputs(inputs, shared)
    return PredictionRun(ready, shared.worker, shared.scratch, shared.clock, callbacks).start()
