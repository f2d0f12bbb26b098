"""A prediction: started, on its way, cancelled, failed or complete."""

from __future__ import annotations

from dataclasses import replace

from ..apply_state import apply_button
from ..i18n import _
from .derived import situation_of, template_of_case
from .effects import CancelPrediction, StopWorker
from .events import ApplyPressed, CancelPressed, RunFailed, RunFinished, RunProgress
from .reading import schedule_reading, stop_reading, watch_edits
from .registry import Outcome, chain, handles
from .results import acted, change_choices, show_result
from .starting import start
from .state import Notice, PanelState, ResultState

__all__: list[str] = []

_DOUBLE_CLICK_S = 0.5


@handles(ApplyPressed)
def _apply_pressed(state: PanelState, event: ApplyPressed) -> Outcome:
    """Apply, or Cancel while a prediction runs; the second click of a double click is neither."""
    is_second = event.at_s - state.pressed_s < _DOUBLE_CLICK_S
    state = replace(state, pressed_s=event.at_s)
    if is_second:
        return state, ()
    if state.run is not None:
        return _cancel(state)
    if not apply_button(situation_of(state)).enabled:
        return state, ()
    return chain(
        acted(state),
        stop_reading,
        lambda s: change_choices(s, goals=template_of_case(s)),
        start,
    )


@handles(CancelPressed)
def _cancel_pressed(state: PanelState, _event: CancelPressed) -> Outcome:
    return _cancel(state) if state.run is not None else (state, ())


def _cancel(state: PanelState) -> Outcome:
    run = state.run
    if run is None or run.is_cancelling:
        return state, ()
    state = replace(acted(state), run=replace(run, is_cancelling=True))
    return state, (CancelPrediction(run.token),)


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
        label=order.label,
        contents=run.contents,
        is_live=order.is_live,
        verdict=event.verdict,
        other=order.before,
        outputs=event.outputs,
        bands=event.bands,
        has_bands=event.has_bands,
        findings=event.findings,
    )
    is_first = not any(each.has_numbers for each in state.results)
    is_new = not any(each.has_numbers for each in state.results_of_ct(order.ct))
    # A result that is updated in place keeps its dose node under another run.
    was_shown = state.result is not None and state.result.dose == event.dose
    state = replace(state, run=None, arrived=event.run).with_result(result)
    if was_shown:
        state = replace(state, shown=event.run)
    stop = () if state.choices is None or state.choices.keep_warm else (StopWorker(),)
    return chain(
        state,
        lambda s: (s, stop),
        lambda s: _show_finished(s, result, layout=is_first, center=is_new),
        watch_edits,
    )


def _show_finished(
    state: PanelState, result: ResultState, *, layout: bool, center: bool
) -> Outcome:
    assert state.choices is not None
    if state.choices.ct != result.ct:
        text = _("The prediction of {name} is complete. Choose its CT to see it.")
        return replace(state, message=Notice(text.format(name=result.name))), ()
    change = result.tables.get("change")
    if change is not None and change.rows and not result.is_live:
        state = replace(state, tab="change")
    return show_result(state, result, other=result.other, layout=layout, center=center)


@handles(RunFailed)
def _run_failed(state: PanelState, event: RunFailed) -> Outcome:
    if state.run is None or state.run.token != event.token:
        return state, ()
    was_live = state.run.order.is_live
    state = replace(state, run=None)
    if event.cancelled and was_live and state.is_live_due:
        return schedule_reading(state)  # the stroke that followed
    if event.cancelled:
        state = replace(state, message=Notice(_("Cancelled. The scene is as it was.")))
    else:
        state = replace(state, error=Notice(event.message, "error", event.details))
    return schedule_reading(state)
