"""Prediction that waits: without an event loop, for the console and for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .i18n import _
from .prediction_run import RunInputs, export_steps, predict_request
from .prepared import prepare_steps
from .services import KeptResult, Services

if TYPE_CHECKING:
    from DosePredictionLib.scene import SceneResult

__all__ = ["predict_blocking"]


def predict_blocking(
    inputs: RunInputs, shared: Services, timeout_s: float | None = None
) -> SceneResult:
    """Read, predict and add the result; on any failure the scene is untouched.

    Raises:
        DosePredictionError: as the worker reports it.
        WorkerTimeoutError: the time ran out; the worker was ended.
        KeyboardInterrupt: the prediction was asked to stop.
    """
    from DosePredictionLib.errors import WorkerTimeoutError
    from DosePredictionLib.scene import finish
    from DosePredictionLib.worker.messages import Failure, Progress
    from DosePredictionLib.worker.session import as_exception

    prepared = inputs.prepared
    if prepared is None:
        folder = shared.scratch.new("case")
        prepared = finish(prepare_steps(inputs.ct, inputs.segmentation, inputs.plan_dose, folder))
        shared.keep_prepared(prepared)
    output = shared.scratch.new("prediction")
    answers: list[Any] = []

    def replied(reply: Any) -> None:
        if not isinstance(reply, Progress):
            answers.append(reply)

    request = predict_request(inputs, prepared, output)
    shared.worker.send(request, replied)
    try:
        if not shared.worker.wait(lambda: bool(answers), timeout_s):
            shared.worker.kill()
            raise WorkerTimeoutError(
                _("The prediction took longer than {seconds:g} s and was ended.").format(
                    seconds=timeout_s
                )
            )
    except KeyboardInterrupt:
        shared.worker.cancel(request.id)
        raise
    if isinstance(answers[0], Failure):
        raise as_exception(answers[0])
    result = finish(export_steps(inputs, prepared, output))
    shared.keep_result(KeptResult(result, prepared, output))
    return result
