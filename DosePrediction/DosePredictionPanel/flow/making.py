"""A prediction is made deliverable: asked for, on its way, cancelled, failed or complete."""

from __future__ import annotations

from dataclasses import replace

from ..i18n import _
from .facts import PlanOrder, PlanRun
from .plan import asked_beams, beams_as_json
from .plan_messages import (
    CancelPlanning,
    InstallPlanner,
    InstallPlannerPressed,
    MakePlan,
    MakePlanPressed,
    PlanCancelPressed,
    PlanFailed,
    PlanFinished,
    PlannerAbsent,
    PlannerInstalled,
    PlanProgress,
    PrioritySet,
)
from .registry import Outcome, handles, next_token
from .results import acted, show_result
from .state import Notice, PanelState, ResultState

__all__ = ["PRIORITY_WEIGHTS", "planned_result", "shown_plan", "why_not_make"]

PRIORITY_WEIGHTS = (0.0, 3.0, 10.0, 30.0, 100.0)
"""Of a goal's slider: by how much the voxels that it concerns count more than others."""


def planned_result(state: PanelState) -> ResultState | None:
    """The prediction that plans are made of: the shown one, or that of the shown plan."""
    result = state.result
    if result is None or result.plan is None:
        return result
    of = result.plan.of
    return next((each for each in state.results if each.run == of), None)


def shown_plan(state: PanelState) -> ResultState | None:
    """The shown plan, or the latest one of the shown prediction."""
    result = state.result
    if result is None or result.plan is not None:
        return result
    plans = (each for each in reversed(state.results) if each.plan is not None)
    return next((each for each in plans if each.plan and each.plan.of == result.run), None)


def why_not_make(state: PanelState) -> str:
    """Why no plan can be made; empty when one can."""
    if state.result is None:
        return _("Predict a dose first.")
    base = planned_result(state)
    if base is None:
        return _("The prediction of this plan has gone: choose another result.")
    if not base.has_numbers:
        return _("Predict a dose first.")
    if state.making.run is not None:
        return _("Wait until what runs is complete.")
    return ""


@handles(MakePlanPressed)
def _make_pressed(state: PanelState, _event: MakePlanPressed) -> Outcome:
    base = planned_result(state)
    if why_not_make(state) or base is None:
        return state, ()
    state, token = next_token(acted(state))
    order = PlanOrder(
        dose=base.dose,
        run=base.run,
        beams=beams_as_json(state, asked_beams(state), base),
        wishes=tuple(
            (goal, PRIORITY_WEIGHTS[priority])
            for goal, priority in state.making.priorities
            if priority > 0
        ),
        goals=base.goals,
        label=_label(state, base),
    )
    run = PlanRun(token, order, stage=_("starting the planner"))
    return replace(state, making=replace(state.making, run=run)), (MakePlan(token, order),)


def _label(state: PanelState, base: ResultState) -> str:
    """What tells a plan from the other results of its case; its kind stands first."""
    taken = {each.label for each in state.results_of_ct(base.ct)}
    wished = any(priority for _goal, priority in state.making.priorities)
    kind = _("deliverable plan, replanned") if wished else _("deliverable plan")
    beams = asked_beams(state)
    if beams:
        kind = _("{kind}, {count} beams").format(kind=kind, count=beams)
    label, count = kind, 1
    while label in taken:
        count += 1
        label = _("{name} ({count})").format(name=kind, count=count)
    return label


@handles(InstallPlannerPressed)
def _install_pressed(state: PanelState, _event: InstallPlannerPressed) -> Outcome:
    if state.making.run is not None:
        return state, ()
    state, token = next_token(acted(state))
    run = PlanRun(token, stage=_("starting pip"))
    return replace(state, making=replace(state.making, run=run)), (InstallPlanner(token),)


@handles(PlanCancelPressed)
def _cancel_pressed(state: PanelState, _event: PlanCancelPressed) -> Outcome:
    run = state.making.run
    if run is None or run.is_cancelling:
        return state, ()
    making = replace(state.making, run=replace(run, is_cancelling=True))
    return replace(state, making=making), (CancelPlanning(run.token),)


@handles(PrioritySet)
def _priority_set(state: PanelState, event: PrioritySet) -> Outcome:
    kept = {**dict(state.making.priorities), event.goal: event.priority}
    priorities = tuple((goal, priority) for goal, priority in kept.items() if priority)
    return replace(state, making=replace(state.making, priorities=priorities)), ()


@handles(PlanProgress)
def _progress(state: PanelState, event: PlanProgress) -> Outcome:
    if not _is_awaited(state, event.token) or state.making.run is None:
        return state, ()
    run = replace(state.making.run, share=event.share, stage=event.stage)
    return replace(state, making=replace(state.making, run=run)), ()


@handles(PlannerAbsent)
def _absent(state: PanelState, event: PlannerAbsent) -> Outcome:
    if not _is_awaited(state, event.token):
        return state, ()
    return replace(state, making=replace(state.making, run=None, is_absent=True)), ()


@handles(PlannerInstalled)
def _installed(state: PanelState, event: PlannerInstalled) -> Outcome:
    if not _is_awaited(state, event.token):
        return state, ()
    making = replace(state.making, run=None, is_absent=False)
    return replace(state, making=making, message=Notice(_("The planner is installed."))), ()


@handles(PlanFailed)
def _failed(state: PanelState, event: PlanFailed) -> Outcome:
    run = state.making.run
    if run is None or run.token != event.token:
        return state, ()
    state = replace(state, making=replace(state.making, run=None))
    if event.cancelled:
        done = _("No plan was made.") if run.order is not None else _("Nothing was installed.")
        text = _("Cancelled. {done} The scene is as it was.").format(done=done)
        return replace(state, message=Notice(text)), ()
    return replace(state, error=Notice(event.message, "error", event.details)), ()


@handles(PlanFinished)
def _finished(state: PanelState, event: PlanFinished) -> Outcome:
    """The plan beside the prediction: both are shown, A and B, if their CT is still chosen."""
    run = state.making.run
    if run is None or run.order is None or run.token != event.token or state.choices is None:
        return state, ()
    pictures = (*state.making.pictures, (event.run, event.picture))
    state = replace(state, making=replace(state.making, run=None, pictures=pictures))
    base = next((each for each in state.results if each.run == run.order.run), None)
    if base is None:  # removed meanwhile; its nodes come up as those of a scene
        return state, ()
    result = replace(
        base,
        run=event.run,
        dose=event.dose,
        name=event.name,
        label=run.order.label,
        summary=event.summary,
        tables=event.tables,
        verdict=event.verdict,
        goals=run.order.goals,
        bands=event.bands,
        has_bands=False,
        ranges=event.ranges,
        outputs=(),
        other=base.dose,
        is_live=False,
        plan=event.plan,
    )
    state = state.with_result(result)
    if state.choices is None or state.choices.ct != result.ct:
        text = _("The plan for {name} is complete. Choose its CT to see it.")
        return replace(state, message=Notice(text.format(name=result.name))), ()
    return show_result(state, result, other=base.dose)


def _is_awaited(state: PanelState, token: int) -> bool:
    return state.making.run is not None and state.making.run.token == token
