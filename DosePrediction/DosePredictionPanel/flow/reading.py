"""The inputs: matched by name, read once they have come to rest, checked by the worker."""

from __future__ import annotations

from dataclasses import replace

from ..freshness import Freshness
from ..i18n import _
from .derived import can_read, fitting_template, order_of
from .effects import (
    CancelPrediction,
    CheckInputs,
    CompareInputs,
    Effect,
    LookAtSegments,
    Match,
    ReadInputs,
    RememberCorrections,
    StartTimer,
    StopReading,
    StopTimer,
    StopWorker,
)
from .events import (
    Checked,
    Compared,
    CorrectionChosen,
    InputsRead,
    MatchAgainPressed,
    Matched,
    ReadFailed,
    ReadStep,
    SegmentsEdited,
    SegmentsSeen,
)
from .registry import Outcome, chain, handles, next_token
from .results import acted, change_choices, follow_goals
from .starting import start_live
from .state import Matching, ModelFacts, Notice, PanelState, Reading

__all__ = [
    "EDIT_TIMER",
    "REST_TIMER",
    "begin_reading",
    "compare",
    "compare_edits",
    "look_at_segments",
    "match",
    "rest_worker",
    "schedule_reading",
    "stop_reading",
    "watch_edits",
]

REST_TIMER, EDIT_TIMER = "rest", "edit"
_REST_MS = 400  # a person choosing several inputs
_EDIT_REST_MS = 700  # after the last stroke of a brush
_LIVE_REST_MS = 500


def match(state: PanelState, recall: bool = False) -> Outcome:
    """Segments to channels, by name and by hand; reads no voxels."""
    c = state.choices
    if c is None:
        return replace(state, matching=Matching()), ()
    protocol = state.model.protocol if state.model is not None else ""
    order = Match(c.ct, c.segmentation, c.plan_dose, protocol, c.corrections, recall)
    return state, (order,)


def schedule_reading(state: PanelState) -> Outcome:
    """Read and check after a moment of rest; during a prediction: afterwards."""
    if state.run is not None:
        return state, ()
    if not can_read(state):
        return _forget_inputs(state)
    state, token = next_token(state)
    reading = Reading(token, "waiting", _("waiting for the inputs"))
    if state.error is not None and state.error.text == state.input_error:
        state = replace(state, error=None)
    state = replace(state, reading=reading, input_error="")
    rest_ms = 0 if state.is_live_due else _REST_MS
    return state, (StopReading(), StartTimer(REST_TIMER, rest_ms))


def begin_reading(state: PanelState) -> Outcome:
    """The inputs have come to rest."""
    if state.reading is None or state.choices is None:
        return state, ()
    c, token = state.choices, state.reading.token
    state = replace(state, reading=replace(state.reading, phase="reading"))
    return state, (ReadInputs(token, c.ct, c.segmentation, c.plan_dose),)


def stop_reading(state: PanelState) -> Outcome:
    """Give up what is under way; what was found before stays."""
    return replace(state, reading=None), (StopTimer(REST_TIMER), StopReading())


def watch_edits(state: PanelState) -> Outcome:
    """Compare once the segments have come to rest; from anew: a stroke follows another."""
    rest_ms = _LIVE_REST_MS if is_live(state) else _EDIT_REST_MS
    return state, (StartTimer(EDIT_TIMER, rest_ms),)


def is_live(state: PanelState) -> bool:
    """Whether strokes are predicted by themselves: asked for, and there is what they change."""
    c, result = state.choices, state.result
    return c is not None and c.live and result is not None and result.has_numbers


def compare_edits(state: PanelState) -> Outcome:
    """The segments have come to rest: what is different now?"""
    return chain(replace(state, edited_elsewhere=False), compare, match)


def compare(state: PanelState) -> Outcome:
    """What differs from the inputs of the shown result."""
    c, result = state.choices, state.result
    if c is None or result is None or not result.has_numbers or not c.ct or not c.segmentation:
        return state, ()
    return state, (CompareInputs(result.dose, c.ct, c.segmentation, c.plan_dose),)


@handles(SegmentsSeen)
def _segments_seen(state: PanelState, event: SegmentsSeen) -> Outcome:
    """Other structures may need another protocol's model."""
    if state.choices is None or event.segmentation != state.choices.segmentation:
        return state, ()
    model = _model_for(state, event)
    name = model.name if model is not None else state.choices.model
    state, effects = change_choices(state, model=name)
    if event.keep_model and state.case.goals == fitting_template(state):
        state = state.with_case(goals=None)  # saved with the scene, where it had followed
    return chain(
        state,
        lambda s: (s, effects),
        follow_goals,
        lambda s: match(s, recall=event.recall),
    )


def _model_for(state: PanelState, event: SegmentsSeen) -> ModelFacts | None:
    """The model to take for these segments."""
    fits = [m for m in state.models if m.protocol == event.protocol]
    fitting = next((m for m in fits if m.is_default), None)
    chosen = state.model
    if chosen is None:
        return fitting or next(iter(state.models), None)
    if event.keep_model or fitting is None or chosen.protocol == fitting.protocol:
        return chosen
    return fitting


@handles(Matched)
def _matched(state: PanelState, event: Matched) -> Outcome:
    state = replace(state, matching=event.matching)
    if state.choices is None:
        return state, ()
    corrections = event.corrections
    return chain(state, lambda s: change_choices(s, corrections=corrections), schedule_reading)


@handles(CorrectionChosen)
def _correction_chosen(state: PanelState, event: CorrectionChosen) -> Outcome:
    """A segment fills one channel: the new choice goes before an older one."""
    if state.choices is None:
        return state, ()
    old = dict(state.choices.corrections)
    kept = {c: s for c, s in old.items() if not event.segment or s != event.segment}
    return _correct(state, {**kept, event.channel: event.segment or ""})


@handles(MatchAgainPressed)
def _match_again(state: PanelState, _event: MatchAgainPressed) -> Outcome:
    return _correct(state, {}) if state.choices is not None else (state, ())


def _correct(state: PanelState, corrections: dict[str, str]) -> Outcome:
    ordered = tuple(sorted(corrections.items()))
    effects: tuple[Effect, ...] = ()
    if state.model is not None:
        names = state.matching.names
        effects = (RememberCorrections(state.model.protocol, names, ordered),)
    return chain(
        acted(state),
        lambda s: change_choices(s, corrections=ordered),
        lambda s: (s, effects),
        match,
    )


@handles(ReadStep)
def _read_step(state: PanelState, event: ReadStep) -> Outcome:
    if state.reading is None or state.reading.token != event.token:
        return state, ()
    return replace(state, reading=replace(state.reading, stage=event.stage)), ()


@handles(InputsRead)
def _inputs_read(state: PanelState, event: InputsRead) -> Outcome:
    if state.reading is None or state.reading.token != event.token:
        return state, ()
    reading = Reading(event.token, "checking", _("checking"))
    state = replace(state, reading=reading, prepared=event.prepared)
    if state.is_live_due and is_live(state):
        return start_live(state)
    state = replace(state, is_live_due=False)
    return state, (CheckInputs(event.token, order_of(state)),)


@handles(Checked)
def _checked(state: PanelState, event: Checked) -> Outcome:
    if state.reading is None or state.reading.token != event.token:
        return state, ()  # of inputs that have changed since
    state = replace(state, reading=None, findings=event.findings, input_error="")
    return rest_worker(state)


@handles(ReadFailed)
def _read_failed(state: PanelState, event: ReadFailed) -> Outcome:
    if state.reading is None or state.reading.token != event.token:
        return state, ()
    prepared = state.prepared if state.reading.phase == "checking" else None
    state = replace(
        state,
        reading=None,
        prepared=prepared,
        findings=(),
        input_error=event.message,
        is_live_due=False,
    )
    if event.details:  # the reason stands beside the button, but cannot be copied with them there
        state = replace(state, error=Notice(event.message, "error", event.details))
    return rest_worker(state)


@handles(SegmentsEdited)
def _segments_edited(state: PanelState, _event: SegmentsEdited) -> Outcome:
    # Reading takes turns of the event loop, which belong to the person contouring elsewhere.
    if not state.is_entered and not is_live(state):
        return replace(state, edited_elsewhere=True), ()
    state = replace(state, edited_elsewhere=False, is_live_due=is_live(state))
    return chain(state, _drop_live_run, watch_edits)


def _drop_live_run(state: PanelState) -> Outcome:
    """A stroke that followed has overtaken it."""
    run = state.run
    if run is None or not run.order.is_live or run.is_cancelling:
        return state, ()
    state = replace(state, run=replace(run, is_cancelling=True))
    return state, (CancelPrediction(run.token),)


@handles(Compared)
def _compared(state: PanelState, event: Compared) -> Outcome:
    result = state.result_of_dose(event.dose)
    if result is None:
        return state, ()
    fresh = Freshness(result=result.settings).edited(event.names, event.structures)
    results = tuple(
        replace(each, edited=fresh.inputs) if each is result else each for each in state.results
    )
    return replace(state, results=results), ()


def look_at_segments(state: PanelState, keep_model: bool, recall: bool) -> Outcome:
    """Which protocol do the chosen segments fit?"""
    segmentation = state.choices.segmentation if state.choices is not None else ""
    return state, (LookAtSegments(segmentation, keep_model, recall),)


def _forget_inputs(state: PanelState) -> Outcome:
    """Nothing is chosen any more."""
    state, effects = stop_reading(state)
    state = replace(state, prepared=None, findings=(), input_error="")
    state, more = rest_worker(state)
    return state, effects + more


def rest_worker(state: PanelState) -> Outcome:
    """A worker that is not to be kept warm ends once nothing needs it."""
    asked = state.plan_check
    is_awaited = asked is not None and not asked.text
    is_kept = state.choices is None or state.choices.keep_warm
    is_needed = state.run is not None or state.organs is not None or is_awaited
    return state, () if is_kept or is_needed else (StopWorker(),)
