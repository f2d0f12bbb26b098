"""Plans that a machine could deliver, by the planner's process; and its packages."""

from __future__ import annotations

import traceback
from typing import Any

from ..flow.beams import from_text
from ..flow.events import Event
from ..flow.facts import PlanOrder
from ..flow.plan_messages import (
    CancelPlanning,
    InstallPlanner,
    MakePlan,
    PlanFailed,
    PlanFinished,
    PlannerAbsent,
    PlannerInstalled,
    PlanProgress,
)
from ..i18n import _
from ..plan_run import FromPlanner, PlanWishes, start_plan
from ..prediction_run import Callbacks
from ..result_tables import verdict_of
from ..result_view import bands_note, result_summary, result_tables
from ..services import KeptResult
from .context import Context, carries_out, node_of

__all__: list[str] = []


@carries_out(MakePlan)
def _make(context: Context, effect: MakePlan) -> None:
    from DosePredictionLib.errors import PredictionCancelled

    token, order, services = effect.token, effect.order, context.ports.services
    if not services.planner.is_there():
        context.dispatch(PlannerAbsent(token))
        return

    def failed(error: Exception, details: str = "") -> None:
        context.planning = None
        services.planner.stop()
        context.dispatch(_failure(token, error, details))

    def finished(plan: FromPlanner) -> None:
        context.planning = None
        services.planner.stop()  # the influence matrix goes with its process
        context.dispatch(_finished(context, effect, plan))

    def begin(kept: KeptResult) -> None:
        if context.cancelled_plan == token:  # while the files were fetched
            failed(PredictionCancelled(_("Cancelled.")))
            return
        callbacks = Callbacks(_heard(context, token), lambda *_all: None, failed)
        try:
            context.planning = start_plan(kept, _wishes(order), services, finished, callbacks)
        except (OSError, ValueError) as error:  # the library's: cause and remedy in the message
            failed(error)
        except Exception as error:
            text = _("The plan cannot be started: {error}. Copy the details for a report.")
            failed(RuntimeError(text.format(error=error)), traceback.format_exc())

    dose = node_of(order.dose)
    if dose is None:
        failed(ValueError(_("The result has been removed. Predict again.")))
        return
    services.with_files(dose, begin, lambda message: failed(ValueError(message)))


@carries_out(InstallPlanner)
def _install(context: Context, effect: InstallPlanner) -> None:
    services = context.ports.services

    def ended(error: Exception | None, details: str) -> None:
        services.planner.stop()
        done: Event = PlannerInstalled(effect.token)
        if error is not None:
            done = _failure(effect.token, error, details)
        context.dispatch(done)

    try:
        services.planner.install(_heard(context, effect.token), ended)
    except (OSError, ValueError) as error:
        ended(error, "")


@carries_out(CancelPlanning)
def _cancel(context: Context, effect: CancelPlanning) -> None:
    context.cancelled_plan = effect.token
    if context.planning is not None:
        context.planning.cancel()
    else:
        context.ports.services.planner.cancel_installation()


def _heard(context: Context, token: int) -> Any:
    def heard(share: float, stage: str) -> None:
        context.dispatch(PlanProgress(token, share, stage))

    return heard


def _failure(token: int, error: Exception, details: str) -> PlanFailed:
    from DosePredictionLib.errors import PredictionCancelled

    is_cancelled = isinstance(error, PredictionCancelled)
    return PlanFailed(token, str(error), details or repr(error), is_cancelled)


def _wishes(order: PlanOrder) -> PlanWishes:
    beams = from_text(order.beams) if order.beams else None
    return PlanWishes(beams, order.wishes, order.goals, order.label)


def _finished(context: Context, effect: MakePlan, plan: FromPlanner) -> PlanFinished:
    from DosePredictionLib.scene import default_range

    result = plan.result
    other = context.ports.services.result(node_of(effect.order.dose))
    return PlanFinished(
        token=effect.token,
        run=result.run,
        dose=result.dose.GetID(),
        name=result.name,
        summary=result_summary(result),
        tables=result_tables(result, other),
        verdict=verdict_of(result.goals),
        bands=bands_note(result),
        ranges={"Gy": default_range(result, "Gy"), "%": default_range(result, "%")},
        plan=plan.facts,
        picture=plan.picture,
    )
