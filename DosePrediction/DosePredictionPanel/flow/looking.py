"""Looking at a result: places, what lies under the mouse, structures, isodose levels."""

from __future__ import annotations

from dataclasses import replace

from .effects import (
    Highlight,
    JumpTo,
    JumpToWorst,
    RememberLevels,
    ShowLayout,
)
from .events import (
    FindingClicked,
    LayoutPressed,
    LevelsRecalled,
    LevelsTyped,
    PlaceAsked,
    PlaceFound,
    Probed,
    StructureHovered,
    StructureToggled,
)
from .levels import parse_levels
from .registry import Outcome, chain, handles
from .results import acted, display_chosen, structures_shown
from .state import CaseMemory, Notice, PanelState

__all__: list[str] = []


@handles(PlaceAsked)
def _place_asked(state: PanelState, event: PlaceAsked) -> Outcome:
    result = state.result
    if result is None or not result.has_numbers or state.choices is None:
        return state, ()
    marks = state.choices.marks
    return state, (JumpToWorst(result.dose, event.structure, event.sense, marks),)


@handles(PlaceFound)
def _place_found(state: PanelState, event: PlaceFound) -> Outcome:
    return replace(state, probe=event.text), ()


@handles(Probed)
def _probed(state: PanelState, event: Probed) -> Outcome:
    return (state if state.probe == event.text else replace(state, probe=event.text)), ()


@handles(StructureToggled)
def _structure_toggled(state: PanelState, event: StructureToggled) -> Outcome:
    result = state.result
    if result is None or not result.has_numbers:
        return state, ()
    memory = state.cases.get(result.ct, CaseMemory())
    other = {event.structure}
    hidden = memory.hidden - other if event.is_shown else memory.hidden | other
    state = replace(state, cases={**state.cases, result.ct: replace(memory, hidden=hidden)})
    return state, (structures_shown(state, result),)


@handles(StructureHovered)
def _structure_hovered(state: PanelState, event: StructureHovered) -> Outcome:
    result = state.result
    if result is None or not result.has_numbers:
        return state, ()
    return state, (Highlight(result.dose, event.structure),)


@handles(LevelsRecalled)
def _levels_recalled(state: PanelState, event: LevelsRecalled) -> Outcome:
    return replace(state, levels=event.levels), ()


@handles(LevelsTyped)
def _levels_typed(state: PanelState, event: LevelsTyped) -> Outcome:
    """Kept for this person, drawn at once; a text that is none says what is wrong with it."""
    try:
        levels = parse_levels(event.text)
    except ValueError as error:
        return replace(state, error=Notice(str(error), "error")), ()
    if levels == state.levels:
        return acted(state), ()
    state = replace(acted(state), levels=levels)
    return chain(
        state,
        lambda s: (s, (RememberLevels(levels),)),
        lambda s: display_chosen(s, unit_changed=False) if s.choices is not None else (s, ()),
    )


@handles(LayoutPressed)
def _layout_pressed(state: PanelState, _event: LayoutPressed) -> Outcome:
    result = state.result
    if result is None or not result.has_numbers:
        return state, ()
    return state, (ShowLayout(result.dose),)


@handles(FindingClicked)
def _finding_clicked(state: PanelState, event: FindingClicked) -> Outcome:
    if state.choices is None or not state.choices.ct:
        return state, ()
    return state, (JumpTo(event.position_mm, state.choices.ct),)
