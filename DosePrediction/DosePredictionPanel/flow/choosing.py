"""What the person chooses, and what goes with it: a model, corrections, goals, another patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..i18n import _
from .beams import PLAN, fault_of_beams
from .effects import (
    AskForBeams,
    AskForGoals,
    ClearMarks,
    Effect,
    ObserveSegmentation,
    StopWorker,
    SwitchContours,
    WriteChoices,
)
from .events import (
    BeamsTyped,
    ChoicesChanged,
    ParametersTaken,
    PlanBeamsPressed,
    PlanBeamsRead,
    ResultChosen,
    WishesTyped,
    WishSet,
)
from .partners import first_case, partner
from .reading import compare, look_at_segments, match, schedule_reading
from .registry import Outcome, chain, handles
from .results import (
    acted,
    change_choices,
    choose_goals,
    display_chosen,
    follow_case,
    follow_goals,
    show_result,
    structures_shown,
)
from .state import (
    CHECKING,
    DISPLAY,
    GOALS_FROM_FILE,
    INPUTS,
    MATCHING,
    CaseMemory,
    Choices,
    NodeFacts,
    Notice,
    PanelState,
    changed_fields,
)
from .wishes import fault_of_wishes, texts_of, with_wish

__all__ = ["fill_defaults", "follow_new_case", "take_up"]

_ASIDE = {"plan_beams", "show_beams"}  # no error is taken away by these
_SELECTORS = ("ct", "segmentation", "plan_dose")
_REMEMBERED = ("segmentation", "plan_dose", "model", "prescription_gy", "beams", "wishes")


@handles(ChoicesChanged)
def _choices_changed(state: PanelState, event: ChoicesChanged) -> Outcome:
    """Do what the changed choices ask for, and no more."""
    if state.choices is None:
        return state, ()
    after, refused = _accepted(state, event.choices)
    effects: tuple[Effect, ...] = ()
    if after != event.choices:
        back = changed_fields(event.choices, after)
        effects = (WriteChoices(tuple((name, getattr(after, name)) for name in sorted(back))),)
    state, more = take_up(state, after)
    if refused:
        state = replace(state, error=Notice(refused, "error"))
    if event.choices.goals == GOALS_FROM_FILE:
        more = (*more, AskForGoals())
    return state, effects + more


@handles(ResultChosen)
def _result_chosen(state: PanelState, event: ResultChosen) -> Outcome:
    """Another result of the case, with the model and the prescription that it was made with."""
    result, choices = state.result_of_dose(event.dose), state.choices
    if result is None or choices is None or result.run == state.shown:
        return state, ()
    other = choices.compared_dose if choices.compared_dose != result.dose else ""
    state, effects = show_result(acted(state), result, other=other)
    assert state.choices is not None
    wanted = state.choices
    if result.settings is not None:
        values = result.settings.values
        model = values.get(_("model"), "") or wanted.model
        gy = float(values.get(_("prescription"), "0") or 0)
        beams, wishes = values.get(_("beams"), ""), values.get(_("wishes"), "")
        wanted = replace(wanted, model=model, prescription_gy=gy, beams=beams, wishes=wishes)
        wanted = replace(wanted, goals=result.goals)
    state, more = take_up(state, wanted, by_hand=False)
    return state, effects + more


@handles(BeamsTyped)
def _beams_typed(state: PanelState, event: BeamsTyped) -> Outcome:
    """Gantry angles; a text that is none says what is wrong with it, and nothing else changes."""
    text, fault = event.text.strip(), fault_of_beams(event.text.strip())
    if fault:
        return replace(state, error=Notice(fault, "error")), ()
    if state.choices is None:
        return state, ()
    return take_up(state, replace(state.choices, beams=text), by_hand=False)


@handles(WishSet)
def _wish_set(state: PanelState, event: WishSet) -> Outcome:
    """A slider was let go: one wish is another one, or none."""
    if state.choices is None:
        return state, ()
    text = with_wish(state.choices.wishes, event.organ, event.dose_gy, event.percent)
    return take_up(state, replace(state.choices, wishes=text), by_hand=False)


@handles(WishesTyped)
def _wishes_typed(state: PanelState, event: WishesTyped) -> Outcome:
    """Goals; a text that holds none says what is wrong with it, and nothing else changes."""
    fault = fault_of_wishes(event.text)
    if fault:
        return replace(state, error=Notice(fault, "error")), ()
    if state.choices is None:
        return state, ()
    text = "; ".join(texts_of(event.text))
    return take_up(state, replace(state.choices, wishes=text), by_hand=False)


@handles(PlanBeamsPressed)
def _plan_beams_pressed(state: PanelState, _event: PlanBeamsPressed) -> Outcome:
    ct = state.choices.ct if state.choices is not None else ""
    return (acted(state), (AskForBeams(ct),)) if ct else (state, ())


@handles(PlanBeamsRead)
def _plan_beams_read(state: PanelState, event: PlanBeamsRead) -> Outcome:
    """The beams of an RTPLAN are known for a CT now, and meant if that is the chosen one."""
    nodes = (replace(n, beams=event.beams) if n.id == event.ct else n for n in state.nodes)
    state = replace(state, nodes=tuple(nodes))
    if state.choices is None or state.choices.ct != event.ct:
        return state, ()
    if state.choices.beams == PLAN:  # of another plan than before
        return schedule_reading(state)
    return take_up(state, replace(state.choices, beams=PLAN), by_hand=False)


@handles(ParametersTaken)
def _parameters_taken(state: PanelState, event: ParametersTaken) -> Outcome:
    """A scene's choices, with defaults where nothing is chosen yet, to save clicks."""
    if state.choices is not None:
        return chain(state, lambda s: _choices_changed(s, ChoicesChanged(event.choices)), _fill)
    state = replace(state, choices=event.choices, shown="")
    state, effects = fill_defaults(state)
    if event.choices.goals not in ("", GOALS_FROM_FILE):
        state = state.with_case(goals=event.choices.goals)  # saved with the scene
    choices = state.choices
    assert choices is not None
    result = state.result_of_dose(choices.result_dose) if choices.result_dose else None
    recall = not choices.corrections
    return chain(
        state,
        lambda s: (s, (*effects, ObserveSegmentation(choices.segmentation))),
        lambda s: show_result(s, result) if result is not None else (s, ()),
        lambda s: look_at_segments(s, keep_model=True, recall=recall),
    )


def fill_defaults(state: PanelState) -> Outcome:
    """A CT and what goes with it where nothing was chosen; what was removed stays empty."""
    choices = state.choices
    assert choices is not None
    changes: dict[str, object] = {}
    ct = choices.ct
    if not ct and "ct" not in state.emptied:
        changes["ct"] = ct = first_case(state.nodes)
    memory = state.cases.get(ct, CaseMemory())
    for name in ("segmentation", "plan_dose"):
        is_open = name not in state.emptied and name not in memory.by_hand
        if ct and is_open and not getattr(choices, name):
            changes[name] = partner_of(state, ct, name)
    segmentations = [node.id for node in state.nodes if node.fits("segmentation")]
    is_missing = not choices.segmentation and not changes.get("segmentation")
    if is_missing and "segmentation" not in state.emptied and len(segmentations) == 1:
        changes["segmentation"] = segmentations[0]
    return change_choices(state, **changes)


def partner_of(state: PanelState, ct: str, choice: str) -> str:
    """The node that goes with a CT, if that is unambiguous."""
    node = next((each for each in state.nodes if each.id == ct), None)
    return "" if node is None else partner(node, choice, state.nodes)


def follow_new_case(state: PanelState, new: Sequence[NodeFacts]) -> Outcome:
    """A CT that was loaded just now and is what the slices show is what is meant.

    What comes after its CT is chosen with it. A prediction under way is not left for it.
    """
    choices = state.choices
    if choices is None or not new:
        return state, ()
    arrived = [node for node in new if node.fits("ct") and node.is_background]
    if arrived and state.run is None and arrived[-1].id != choices.ct:
        return take_up(state, replace(choices, ct=arrived[-1].id), by_hand=False)
    return _fill(state)


def _fill(state: PanelState) -> Outcome:
    """Defaults while the scene is open: as if the person had chosen them."""
    assert state.choices is not None
    filled, effects = fill_defaults(state)
    if filled.choices is None or not effects:
        return state, ()
    state, more = take_up(state, filled.choices, by_hand=False)
    return state, effects + more


def _accepted(state: PanelState, wanted: Choices) -> tuple[Choices, str]:
    """The choices that can be taken, and why one cannot.

    A selector takes the next node when the chosen one is removed: that is nobody's choice. A
    script may choose what a selector would not offer.
    """
    before, refused = state.choices, ""
    assert before is not None
    nodes = {node.id: node for node in state.nodes}
    for name in _SELECTORS:
        node = nodes.get(getattr(wanted, name))
        if getattr(wanted, name) == getattr(before, name):
            continue
        if state.leaving:
            wanted = replace(wanted, **{name: getattr(before, name)})
        elif node is not None and not node.fits(name):
            wanted = replace(wanted, **{name: getattr(before, name)})
            refused = _refusal(name, node.name, bool(node.run))
    if state.leaving:
        wanted = replace(wanted, result_dose=before.result_dose, compared_dose=before.compared_dose)
    if "compared_dose" in changed_fields(before, wanted):
        against = state.result_of_dose(wanted.compared_dose)
        is_sound = against is not None and against.has_numbers and against is not state.result
        if wanted.compared_dose and not is_sound:
            wanted = replace(wanted, compared_dose=before.compared_dose)
    if wanted.goals == GOALS_FROM_FILE:
        wanted = replace(wanted, goals=before.goals)
    if wanted.beams != before.beams and fault_of_beams(wanted.beams):
        refused = fault_of_beams(wanted.beams)
        wanted = replace(wanted, beams=before.beams)
    if wanted.wishes != before.wishes and fault_of_wishes(wanted.wishes):
        refused = fault_of_wishes(wanted.wishes)
        wanted = replace(wanted, wishes=before.wishes)
    return wanted, refused


def _refusal(choice: str, name: str, is_predicted: bool) -> str:
    """Why a node cannot be chosen, and what can."""
    if is_predicted:
        what = _("{name} was made by a prediction.")
    else:
        what = {
            "ct": _("{name} is a dose, or no volume."),
            "segmentation": _("{name} is no segmentation."),
            "plan_dose": _("{name} has values below 0 Gy, or is no volume."),
        }[choice]
    remedy = {
        "ct": _("Choose the planning CT."),
        "segmentation": _("Choose the structures of the CT."),
        "plan_dose": _("Choose the dose of a plan, or none."),
    }[choice]
    return f"{what.format(name=name)} {remedy}"


def take_up(state: PanelState, after: Choices, *, by_hand: bool = True) -> Outcome:
    """Everything that follows from other choices.

    Args:
        by_hand: whether the person made them, and the parameters have them.
    """
    before = state.choices
    assert before is not None
    changed = changed_fields(before, after)
    if not changed:
        return state, ()
    state = replace(state, choices=after)
    if not by_hand:
        written = tuple((name, getattr(after, name)) for name in sorted(changed))
        state, effects = _followed(state, before, changed, by_hand=False)
        return state, (WriteChoices(written), *effects)
    return _followed(_with_hand(state, changed), before, changed, by_hand=True)


def _with_hand(state: PanelState, changed: frozenset[str]) -> PanelState:
    """What the person chose for a case is not filled by itself any more."""
    chosen = changed & {"segmentation", "plan_dose"}
    if not chosen or state.leaving:
        return state
    return state.with_case(by_hand=state.case.by_hand | chosen)


def _followed(
    state: PanelState, before: Choices, changed: frozenset[str], *, by_hand: bool
) -> Outcome:
    after = state.choices
    assert after is not None
    if changed - DISPLAY - {"result_dose", "marks", "bands", "live", *_ASIDE}:
        state = acted(state)
    state = replace(state, emptied=state.emptied - changed)
    if changed & {"range_low", "range_high"} and "unit" not in changed:
        state = state.with_case(has_own_range=True)
    steps: list[Callable[[PanelState], Outcome]] = [
        lambda s: _switch_case(s, before, changed) if "ct" in changed else (s, ()),
        lambda s: _show_chosen(s) if "result_dose" in changed and "ct" not in changed else (s, ()),
        lambda s: _inputs_chosen(s, before),
        lambda s: (
            display_chosen(s, unit_changed="unit" in changed) if changed & DISPLAY else (s, ())
        ),
        lambda s: choose_goals(s, after.goals) if "goals" in changed and by_hand else (s, ()),
        lambda s: _cool_down(s) if "keep_warm" in changed else (s, ()),
        lambda s: _clear_marks(s) if "marks" in changed else (s, ()),
        lambda s: _show_bands(s) if "bands" in changed else (s, ()),
    ]
    return chain(state, *steps)


def _inputs_chosen(state: PanelState, before: Choices) -> Outcome:
    """Match, compare and read again, as far as the inputs are others than before."""
    choices = state.choices
    assert choices is not None
    changed = changed_fields(before, choices)
    steps: list[Callable[[PanelState], Outcome]] = []
    if "segmentation" in changed:
        keep_model = "model" in changed
        steps.append(lambda s: (s, (ObserveSegmentation(choices.segmentation),)))
        steps.append(lambda s: look_at_segments(s, keep_model=keep_model, recall=True))
    elif changed & (MATCHING | INPUTS):
        steps.append(lambda s: match(s, recall="model" in changed))
    elif changed & CHECKING:
        steps.append(schedule_reading)
    if changed & INPUTS:
        steps.append(compare)
    if changed & {"model", "prescription_gy"}:
        steps.append(follow_goals)
    return chain(state, *steps)


def _switch_case(state: PanelState, before: Choices, changed: frozenset[str]) -> Outcome:
    """Another CT is another case: what was chosen for it comes back, with its result."""
    choices = state.choices
    assert choices is not None
    cases = dict(state.cases)
    if before.ct:
        cases[before.ct] = replace(cases.get(before.ct, CaseMemory()), choices=before)
    elif "" in cases:  # chosen before there was a CT: for the one that comes
        cases.setdefault(choices.ct, cases.pop(""))
    state = replace(state, cases=cases)
    memory = state.case
    there = {"", *(node.id for node in state.nodes)}
    back = {
        name: value
        for name, value in _belonging(state).items()
        if name not in changed and (name not in _SELECTORS or value in there)
    }
    kept = memory.choices
    if memory.has_own_range and kept is not None:
        if kept.unit == choices.unit:
            back |= {"range_low": kept.range_low, "range_high": kept.range_high}
        else:
            state = state.with_case(has_own_range=False)
    return chain(
        state,
        lambda s: change_choices(s, **back),
        lambda s: _switch_contours(s, before.segmentation),
        follow_case,
    )


def _switch_contours(state: PanelState, before: str) -> Outcome:
    """Contours of the patient before would lie over this one's CT."""
    after = state.choices.segmentation if state.choices is not None else ""
    return (state, (SwitchContours(before, after),)) if before != after else (state, ())


def _belonging(state: PanelState) -> dict[str, object]:
    """What goes with the chosen CT: as chosen last, or as its result was predicted."""
    choices = state.choices
    assert choices is not None
    kept = state.case.choices
    if kept is not None:
        return {name: getattr(kept, name) for name in _REMEMBERED}
    latest = state.latest_of_ct(choices.ct)
    belonging: dict[str, object] = {
        name: partner_of(state, choices.ct, name) for name in ("segmentation", "plan_dose")
    }
    if latest is not None and latest.segmentation:
        belonging["segmentation"] = latest.segmentation
    others = {"prescription_gy": 0.0, "beams": "", "wishes": ""}
    return {**belonging, **others} if choices.ct else {}


def _show_chosen(state: PanelState) -> Outcome:
    """A result was chosen by its dose."""
    choices = state.choices
    assert choices is not None
    result = state.result_of_dose(choices.result_dose)
    if result is None or result.run == state.shown:
        return state, ()
    return show_result(state, result)


def _clear_marks(state: PanelState) -> Outcome:
    result = state.result
    assert state.choices is not None
    if result is None or not result.has_numbers or state.choices.marks:
        return state, ()
    return state, (ClearMarks(result.dose),)


def _show_bands(state: PanelState) -> Outcome:
    result = state.result
    if result is None or not result.has_bands:
        return state, ()
    return state, (structures_shown(state, result),)


def _cool_down(state: PanelState) -> Outcome:
    choices = state.choices
    is_needed = state.run is not None or state.reading is not None
    if choices is None or choices.keep_warm or is_needed:
        return state, ()
    return state, (StopWorker(),)
