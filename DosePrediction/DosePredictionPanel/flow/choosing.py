"""What the person chooses, and what goes with it: a model, corrections, goals, another patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..i18n import _
from .effects import AskForGoals, Effect, ObserveSegmentation, StopWorker, WriteChoices
from .events import ChoicesChanged, ParametersTaken
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
)
from .state import (
    CHECKING,
    DISPLAY,
    GOALS_FROM_FILE,
    INPUTS,
    MATCHING,
    CaseMemory,
    Choices,
    Notice,
    PanelState,
    changed_fields,
)

__all__ = ["fill_defaults"]

_SELECTORS = ("ct", "segmentation", "plan_dose")
_REMEMBERED = ("segmentation", "plan_dose", "model", "prescription_gy")


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
    state, more = _take_up(state, after)
    if refused:
        state = replace(state, error=Notice(refused, "error"))
    if event.choices.goals == GOALS_FROM_FILE:
        more = (*more, AskForGoals())
    return state, effects + more


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
    """The first CT and segmentation where nothing was chosen; what was removed stays empty."""
    choices = state.choices
    assert choices is not None
    changes: dict[str, object] = {}
    for name in ("ct", "segmentation"):
        if not getattr(choices, name) and name not in state.emptied:
            first = next((node.id for node in state.nodes if node.fits(name)), "")
            changes[name] = first
    return change_choices(state, **changes)


def _fill(state: PanelState) -> Outcome:
    """Defaults while the scene is open: as if the person had chosen them."""
    assert state.choices is not None
    filled, effects = fill_defaults(state)
    if filled.choices is None or not effects:
        return state, ()
    state, more = _take_up(state, filled.choices)
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
        wanted = replace(wanted, result_dose=before.result_dose)
    if wanted.goals == GOALS_FROM_FILE:
        wanted = replace(wanted, goals=before.goals)
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


def _take_up(state: PanelState, after: Choices) -> Outcome:
    """Everything that follows from other choices."""
    before = state.choices
    assert before is not None
    changed = changed_fields(before, after)
    if not changed:
        return state, ()
    state = replace(state, choices=after)
    if changed - DISPLAY - {"result_dose"}:
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
        lambda s: choose_goals(s, after.goals) if "goals" in changed else (s, ()),
        lambda s: _cool_down(s) if "keep_warm" in changed else (s, ()),
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
    return chain(state, lambda s: change_choices(s, **back), follow_case)


def _belonging(state: PanelState) -> dict[str, object]:
    """What goes with the chosen CT: as chosen last, or as its result was predicted."""
    choices = state.choices
    assert choices is not None
    kept = state.case.choices
    if kept is not None:
        return {name: getattr(kept, name) for name in _REMEMBERED}
    latest = state.latest_of_ct(choices.ct)
    return {"segmentation": latest.segmentation} if latest and latest.segmentation else {}


def _show_chosen(state: PanelState) -> Outcome:
    """A result was chosen by its dose."""
    choices = state.choices
    assert choices is not None
    result = state.result_of_dose(choices.result_dose)
    if result is None or result.run == state.shown:
        return state, ()
    return show_result(state, result)


def _cool_down(state: PanelState) -> Outcome:
    choices = state.choices
    is_needed = state.run is not None or state.reading is not None
    if choices is None or choices.keep_warm or is_needed:
        return state, ()
    return state, (StopWorker(),)
