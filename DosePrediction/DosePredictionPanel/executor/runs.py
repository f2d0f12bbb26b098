"""Predictions: started, cancelled, aborted, and what came of them."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from ..arguments import as_prescription, as_wishes
from ..flow.beams import from_text
from ..flow.effects import AbortPrediction, CancelPrediction, StartPrediction
from ..flow.events import RunFailed, RunFinished, RunProgress
from ..flow.state import PredictionOrder
from ..i18n import _
from ..prediction_run import RunInputs
from ..result_tables import verdict_of
from ..result_view import (
    bands_note,
    further_outputs,
    has_bands,
    result_findings,
    result_summary,
    result_tables,
)
from ..starting import start_run
from .context import Context, carries_out, node_of

if TYPE_CHECKING:
    from DosePredictionLib.scene import SceneResult

__all__: list[str] = []


@carries_out(StartPrediction)
def _start(context: Context, effect: StartPrediction) -> None:
    token = effect.token

    def progress(share: float, stage: str) -> None:
        context.dispatch(RunProgress(token, share, stage))

    def failed(error: Exception, details: str) -> None:
        from DosePredictionLib.errors import PredictionCancelled

        context.run = None
        is_cancelled = isinstance(error, PredictionCancelled)
        context.dispatch(RunFailed(token, str(error), details or repr(error), is_cancelled))

    try:
        inputs = _inputs(context, effect.order)

        def finished(result: SceneResult) -> None:
            context.run = None
            other = context.ports.services.result(node_of(effect.order.before))
            context.dispatch(_finished(token, result, other))

        run = start_run(inputs, context.ports.services, finished, progress, failed)
    except (OSError, ValueError) as error:  # the library's: cause and remedy in the message
        failed(error, "")
    except Exception as error:
        text = _("The prediction cannot be started: {error}. Copy the details for a report.")
        failed(RuntimeError(text.format(error=error)), traceback.format_exc())
    else:
        context.run, context.run_token = run, token


@carries_out(CancelPrediction)
def _cancel(context: Context, effect: CancelPrediction) -> None:
    if context.run is not None and context.run_token == effect.token:
        context.run.cancel()


@carries_out(AbortPrediction)
def _abort(context: Context, effect: AbortPrediction) -> None:
    if context.run is not None and context.run_token == effect.token:
        context.run.abort(_("An input was removed."))


def _inputs(context: Context, order: PredictionOrder) -> RunInputs:
    from DosePredictionLib.evaluation.goals import GoalSet
    from DosePredictionLib.scene import Keeping
    from DosePredictionLib.worker.messages import PredictOptions

    margin_mm = order.strip_margin_mm
    return RunInputs(
        ct=node_of(order.ct),
        segmentation=node_of(order.segmentation),
        plan_dose=node_of(order.plan_dose),
        model=order.model,
        mapping=dict(order.mapping),
        prescription=as_prescription(order.prescription_gy or None, order.model),
        beams=from_text(order.beams) if order.beams else None,
        wishes=as_wishes(order.wishes),
        options=PredictOptions(
            device=order.device,
            precision=order.precision,
            strip_margin_mm=margin_mm if margin_mm >= 0 else None,
            keep=("coarse dose",) if order.keep_coarse else (),
            keep_strips=order.keep_strips,
            samples=order.samples,
            seed=order.seed,
        ),
        goals=GoalSet.load(order.goals) if order.goals else None,
        keeping=Keeping(
            label=order.label,
            replaces=_run_of(order.replaces),
            options=dict(order.options),
            goals=order.goals,
        ),
    )


def _run_of(dose: str) -> str | None:
    node = node_of(dose)
    return None if node is None else node.GetAttribute("DosePrediction.Run")


def _finished(token: int, result: Any, other: SceneResult | None) -> RunFinished:
    from DosePredictionLib.scene import default_range

    return RunFinished(
        token=token,
        run=result.run,
        dose=result.dose.GetID(),
        name=result.name,
        summary=result_summary(result),
        tables=result_tables(result, other),
        verdict=verdict_of(result.goals),
        outputs=further_outputs(result),
        bands=bands_note(result),
        has_bands=has_bands(result),
        findings=result_findings(result),
        ranges={"Gy": default_range(result, "Gy"), "%": default_range(result, "%")},
    )
