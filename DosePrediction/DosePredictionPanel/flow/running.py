"""A prediction: started, on its way, cancelled, failed or complete."""

from __future__ import annotations

from dataclasses import replace

from ..apply_state import apply_button
from ..i18n import _
from .derived import order_of, settings_of, situation_of, template_of_case
from .effects import CancelPrediction, StartPrediction, StopWorker
from .events import ApplyPressed, RunFailed, RunFinished, RunProgress
from .reading import schedule_reading, stop_reading, watch_edits
from .registry import Outcome, chain, handles, next_token
from .results import acted, change_choices, show_result
from .state import Notice, PanelState, ResultState, Run

__all__: list[str] = []

_DOUBLE_CLICK_S = 0.5


@handles(ApplyPressed)
def _apply_pressed(state: PanelState, event: ApplyPressed) -> Outcome:
    """Apply, or Cancel while a prediction runs; the second click of a double click is neither."""
    is_second = event.at_s - state.pressed_s < _DOUBLE_CLICK_S
    state = replace(state, pressed_s=event.at_s)
    if is_second:
        return state, ()
    run = state.run
    if run is not None:
        if run.is_cancelling:
            return state, ()
        state = replace(acted(state), run=replace(run, is_cancelling=True))
        return state, (CancelPrediction(run.token),)
    if not apply_button(situation_of(state)).enabled:
        return state, ()
    return chain(
        acted(state),
        stop_reading,
        lambda s: change_choices(s, goals=template_of_case(s)),
        _start,
    )


def _start(state: PanelState) -> Outcome:
    state, token = next_token(state)
    order = order_of(state)
    run = Run(token, order, settings_of(state), stage=_("reading the inputs"))
    return replace(state, run=run), (StartPrediction(token, order),)


@handles(RunProgress)
def _run_progress(state: PanelState, event: RunProgress) -> Outcome:
    if state.run is None or state.run.token != event.token:
        return state, ()
    return replace(state, run=replace(state.run, share=event.share, stage=event.stage)), ()


@handles(RunFinished)
def _run_finished(state: PanelState, event: RunFinished) -> Outcome:
    """Shown if its CT is still chosen; what was edited meanwhile is compared after a rest."""
    run = state.run
    if run is None or run.token != event.token or state.choices is None:
        return state, ()
    order = run.order
    result = ResultState(
        run=event.run,
        dose=event.dose,
        name=event.name,
        ct=order.ct,
        segmentation=order.segmentation,
        settings=run.settings,
        goals=order.goals,
        summary=event.summary,
        tables=event.tables,
        ranges=event.ranges,
    )
    is_first = not any(each.has_numbers for each in state.results)
    # A result that is updated in place keeps its dose node under another run.
    was_shown = state.result is not None and state.result.dose == event.dose
    state = replace(state, run=None).with_result(result)
    if was_shown:
        state = replace(state, shown=event.run)
    stop = () if state.choices is None or state.choices.keep_warm else (StopWorker(),)
    return chain(
        state,
        lambda s: (s, stop),
        lambda s: _show_finished(s, result, is_first),
        watch_edits,
    )


def _show_finished(state: PanelState, result: ResultState, is_first: bool) -> Outcome:
    assert state.choices is not None
    if state.choices.ct != result.ct:
        text = _("The prediction of {name} is complete. Choose its CT to see it.")
        return replace(state, message=Notice(text.format(name=result.name))), ()
    change = result.tables.get("change")
    if change is not None and change.rows:
        state = replace(state, tab="change")
    return show_result(state, result, layout=is_first)


@handles(RunFailed)
def _run_failed(state: PanelState, event: RunFailed) -> Outcome:
    if state.run is None or state.run.token != event.token:
        return state, ()
    state = replace(state, run=None)
    if event.cancelled:
        state = replace(state, message=Notice(_("Cancelled. The scene is as it was.")))
    else:
        state = replace(state, error=Notice(event.message, "error", event.details))
    return schedule_reading(state)
