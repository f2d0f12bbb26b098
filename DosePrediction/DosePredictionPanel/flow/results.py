"""Results of all patients: which one is shown and how, its goals, writing and removing it."""

from __future__ import annotations

from dataclasses import replace

from ..i18n import _
from .derived import template_of_case
from .effects import (
    ApplyDisplay,
    AskForPath,
    Effect,
    ForgetResult,
    HideResult,
    JudgeGoals,
    OpenFile,
    RemoveResult,
    ShowCt,
    ShowResult,
    ShowStructures,
    StartProbing,
    StopProbing,
    StopShowing,
    SweepOrphans,
    Tabulate,
    WriteChoices,
    WriteExport,
)
from .events import (
    Displayed,
    DisplayFailed,
    ExportEnded,
    ExportPressed,
    GoalsFileChosen,
    OtherChosen,
    PathChosen,
    RemovePressed,
    ResultsRestored,
    TabChosen,
    Tabulated,
)
from .registry import Outcome, chain, handles, next_token
from .state import CaseMemory, Notice, PanelState, ResultState, Showing

__all__ = [
    "acted",
    "change_choices",
    "choose_goals",
    "display_chosen",
    "drop_result",
    "follow_case",
    "follow_goals",
    "forget_result",
    "judge_goals",
    "show_result",
    "structures_shown",
    "sync_results",
]

_LAYERS = ("prediction", "other", "plan", "difference", "change", "nothing")
_LAYERS_OF_TWO = ("other", "change")
_HIGHEST = 150.0  # limit of the range's widget, Gy or %


def acted(state: PanelState) -> PanelState:
    """The person does something: what there was to state has been read."""
    return replace(state, error=None, message=None)


def change_choices(state: PanelState, **changes: object) -> Outcome:
    """Choices that the panel makes by itself."""
    choices = state.choices
    assert choices is not None
    new = tuple((name, value) for name, value in changes.items() if getattr(choices, name) != value)
    if not new:
        return state, ()
    return state.with_choices(**dict(new)), (WriteChoices(new),)


def show_result(
    state: PanelState,
    result: ResultState,
    *,
    other: str = "",
    layout: bool = False,
    center: bool = False,
) -> Outcome:
    """Make a result the shown one: its range and, step by step, its dose on the slices.

    Args:
        other: dose of the result that it is compared with.
        layout: whether the views are arranged for it.
        center: whether the slices move to its target, as for another patient's.
    """
    before = state.result
    effects: list[Effect] = [StopShowing()]
    if before is not None and before.dose != result.dose and before.has_numbers:
        effects.append(HideResult(before.dose, keeps_comparison=before.ct != result.ct))
    state = replace(state, shown=result.run, showing=None, probe="")
    state, more = change_choices(
        state,
        result_dose=result.dose,
        compared_dose=other,
        **_range_changes(state, result),
        **_layer_changes(state, other, result),
    )
    effects += more
    if not result.has_numbers:
        effects += [StopProbing()]
        return state, (*effects, ShowCt(result.ct)) if center else tuple(effects)
    if result.other != other:
        effects.append(Tabulate(result.dose, result.goals, other))
    structures = structures_shown(state, result)
    if structures.hidden or not structures.bands:
        effects.append(structures)
    state, token = next_token(state)
    display = state.display()
    state = replace(state, showing=Showing(token, result.run, display), tab=_tab(state, result))
    show = ShowResult(token, result.dose, display, layout, center)
    return state, (*effects, show, StartProbing(result.dose))


def structures_shown(state: PanelState, result: ResultState) -> ShowStructures:
    """Which structures of a result are shown, and whether with their bands."""
    hidden = state.cases.get(result.ct, CaseMemory()).hidden
    bands = state.choices is None or state.choices.bands
    return ShowStructures(result.dose, hidden, bands)


def _layer_changes(
    state: PanelState, other: str, result: ResultState | None = None
) -> dict[str, str]:
    """A comparison is no layer without another result, nor is what a result does not have."""
    assert state.choices is not None
    shown = state.choices.shown
    outputs = {role for role, _label in result.outputs} if result is not None else set()
    is_there = shown in _LAYERS or shown in outputs
    return {} if is_there and (other or shown not in _LAYERS_OF_TWO) else {"shown": "prediction"}


def follow_case(state: PanelState) -> Outcome:
    """Another CT is chosen: show what belongs to it, or only the CT if there is nothing yet.

    Of several results the one that was chosen with the CT, else the one that was shown last.
    """
    assert state.choices is not None
    ct, kept = state.choices.ct, state.case.choices
    doses = [state.choices.result_dose, kept.result_dose if kept is not None else ""]
    known = [state.result_of_dose(dose) for dose in doses]
    found = next((each for each in known if each is not None and each.ct == ct), None)
    result = found or state.latest_of_ct(ct)
    if result is not None:
        beside = state.result_of_dose(kept.compared_dose) if kept is not None else None
        is_beside = beside is not None and beside.has_numbers and beside.ct == ct
        other = beside.dose if beside is not None and is_beside and beside is not result else ""
        return chain(
            state,
            lambda s: show_result(s, result, other=other, center=True),
            lambda s: change_choices(s, goals=result.goals) if result.has_numbers else (s, ()),
        )
    state, effects = _hide(state)
    if effects and ct:
        effects = (*effects, ShowCt(ct))
    state, more = follow_goals(state)
    return state, effects + more


def follow_goals(state: PanelState) -> Outcome:
    """The template follows the case, until a result is shown: that has been judged by its own."""
    if state.choices is None or state.result is not None:
        return state, ()
    return change_choices(state, goals=template_of_case(state))


def drop_result(state: PanelState, result: ResultState) -> Outcome:
    """A result is no more; the CT's latest one is shown in its place."""
    assert state.choices is not None
    was_shown = state.shown == result.run
    results = tuple(each for each in state.results if each is not result)
    state = replace(state, results=results)
    choices = state.choices
    assert choices is not None
    if not was_shown and choices.compared_dose == result.dose:
        return compare_with(state, "")
    if not was_shown:
        return state, ()
    state = replace(state, shown="", showing=None, probe="")
    state, effects = change_choices(
        state, result_dose="", compared_dose="", **_layer_changes(state, "")
    )
    latest = state.latest_of_ct(state.choices.ct) if state.choices is not None else None
    if latest is None:
        return state, (StopShowing(), StopProbing(), *effects)
    state, more = show_result(state, latest)
    return state, (*effects, *more)


def sync_results(state: PanelState) -> Outcome:
    """Results by what the scene holds: those that came with it, and none whose dose has gone."""
    doses = {node.id: node for node in state.nodes if node.run and node.role == "dose"}
    known = [each for each in state.results if each.dose in doses]
    doses_known = {each.dose for each in known}
    new = [
        ResultState(node.run, node.id, node.name, node.ct, node.segmentation)
        for node in doses.values()
        if node.id not in doses_known
    ]
    if len(known) == len(state.results) and not new:
        return state, ()
    return replace(state, results=(*sorted(new, key=lambda each: each.run), *known)), ()


def display_chosen(state: PanelState, *, unit_changed: bool) -> Outcome:
    """Overlay, range, isodoses or legend were changed."""
    result = state.result
    if result is None or not result.has_numbers:
        return state, ()
    effects: tuple[Effect, ...] = ()
    other = state.choices.compared_dose if state.choices is not None else ""
    if result.other != other:
        effects = (Tabulate(result.dose, result.goals, other),)
    if unit_changed:  # the same limits would mean other doses
        state = state.with_case(has_own_range=False)
        state, more = change_choices(state, **_range_changes(state, result))
        effects += more
    if state.showing is not None:
        return state, effects  # its steps go on until what is chosen is shown
    state, token = next_token(state)
    return state, (*effects, ApplyDisplay(token, result.dose, state.display()))


def choose_goals(state: PanelState, template: str) -> Outcome:
    """The person chose a template for this case."""
    state = state.with_case(goals=template)
    return chain(state, lambda s: change_choices(s, goals=template), judge_goals)


def judge_goals(state: PanelState) -> Outcome:
    """Hold the shown result against the chosen template; nothing is predicted."""
    result, choices = state.result, state.choices
    if result is None or not result.has_numbers or choices is None:
        return state, ()
    return state, (JudgeGoals(result.dose, choices.goals, choices.compared_dose),)


def compare_with(state: PanelState, other: str) -> Outcome:
    """Show another result, or none, beside the shown one; the difference comes to the front."""
    result = state.result
    if result is None or not result.has_numbers or state.choices is None:
        return state, ()
    against = state.result_of_dose(other)
    if other and (against is None or not against.has_numbers or against is result):
        return state, ()
    if other == state.choices.compared_dose:
        return state, ()
    layer = _layer_changes(state, other, result)
    return chain(
        state,
        lambda s: change_choices(s, compared_dose=other, **layer),
        lambda s: display_chosen(s, unit_changed=False),
    )


@handles(Displayed)
def _displayed(state: PanelState, event: Displayed) -> Outcome:
    showing, result = state.showing, state.result
    if showing is None or showing.token != event.token:
        return state, ()
    if result is None or event.display == state.display():
        return replace(state, showing=None), ()
    state, token = next_token(state)  # the person went on choosing meanwhile
    display = state.display()
    state = replace(state, showing=Showing(token, result.run, display))
    return state, (ShowResult(token, result.dose, display),)


@handles(DisplayFailed)
def _display_failed(state: PanelState, event: DisplayFailed) -> Outcome:
    """There is no plan, or nothing before to compare with: the prediction is shown instead."""
    if state.showing is not None and state.showing.token != event.token:
        return state, ()
    state = replace(state, showing=None)
    if state.choices is None:
        return state, ()
    if not event.is_expected or state.choices.shown == "prediction":
        return replace(state, error=Notice(event.message, "error")), ()
    state = replace(state, message=Notice(event.message))
    return chain(
        state,
        lambda s: change_choices(s, shown="prediction"),
        lambda s: display_chosen(s, unit_changed=False),
    )


@handles(GoalsFileChosen)
def _goals_file_chosen(state: PanelState, event: GoalsFileChosen) -> Outcome:
    if state.choices is None or not event.path:
        return state, ()
    return choose_goals(state, event.path)


@handles(Tabulated)
def _tabulated(state: PanelState, event: Tabulated) -> Outcome:
    """The tab in front stays, unless other goals were asked for."""
    result = state.result_of_dose(event.dose)
    if result is None:
        return state, ()
    judged = replace(
        result,
        goals=event.goals,
        tables=event.tables,
        verdict=event.verdict,
        other=event.other,
    )
    results = tuple(judged if each is result else each for each in state.results)
    is_judged_anew = result.goals != event.goals
    state = replace(state, results=results, tab="goals" if is_judged_anew else state.tab)
    return (replace(state, tab=_tab(state, judged)) if judged.run == state.shown else state), ()


@handles(OtherChosen)
def _other_chosen(state: PanelState, event: OtherChosen) -> Outcome:
    state = acted(state)
    if event.dose:
        state = replace(state, tab="change")
    return compare_with(state, event.dose)


@handles(ResultsRestored)
def _results_restored(state: PanelState, event: ResultsRestored) -> Outcome:
    """Results that came with the scene take the place of what was known of them."""
    known = {each.dose: each for each in state.results}
    for result in event.results:
        if result.dose not in known or not known[result.dose].has_numbers:
            state = state.with_result(result)
    return state, ()


@handles(TabChosen)
def _tab_chosen(state: PanelState, event: TabChosen) -> Outcome:
    return (state if state.tab == event.tab else replace(state, tab=event.tab)), ()


@handles(RemovePressed)
def _remove_pressed(state: PanelState, _event: RemovePressed) -> Outcome:
    result = state.result
    if result is None:
        return state, ()
    shown = _unhidden(state, result)
    state, effects = drop_result(acted(state), result)
    # Removed first: what is shown next must not be hidden by it.
    return state, (StopShowing(), *shown, RemoveResult(result.dose), *effects)


def _unhidden(state: PanelState, result: ResultState) -> tuple[Effect, ...]:
    """With a case's last result its structures are shown as they were before."""
    is_last = len(state.results_of_ct(result.ct)) == 1
    hidden = state.cases.get(result.ct, CaseMemory()).hidden
    return (ShowStructures(result.dose, frozenset()),) if is_last and hidden else ()


@handles(ExportPressed)
def _export_pressed(state: PanelState, event: ExportPressed) -> Outcome:
    result = state.result
    if result is None or not (result.has_numbers or event.kind == "dose"):
        return state, ()
    return acted(state), (AskForPath(event.kind),)


@handles(PathChosen)
def _path_chosen(state: PanelState, event: PathChosen) -> Outcome:
    result = state.result
    if result is None or not event.path:
        return state, ()
    if event.kind == "report":
        state = replace(state, export=_("writing the report"))
    return state, (WriteExport(event.kind, result.dose, event.path),)


@handles(ExportEnded)
def _export_ended(state: PanelState, event: ExportEnded) -> Outcome:
    if event.kind == "report":
        state = replace(state, export="")
    if event.error:
        return replace(state, error=Notice(event.error, "error", event.details)), ()
    if event.warning:
        return replace(state, message=Notice(event.warning, "warning")), ()
    state = replace(state, message=Notice(_("Written: {path}").format(path=event.path)))
    return state, (OpenFile(event.path),) if event.kind == "report" else ()


def forget_result(state: PanelState, dose: str) -> Outcome:
    """A dose node is leaving the scene by another hand: what is left of its result goes, too."""
    result = state.result_of_dose(dose)
    if result is None or state.choices is None:
        return state, ()
    state, effects = drop_result(state, result)
    return state, (StopShowing(), ForgetResult(dose), *effects, SweepOrphans())


def _hide(state: PanelState) -> Outcome:
    """Nothing of a result is shown any more."""
    result = state.result
    state = replace(state, shown="", showing=None, probe="")
    state, effects = change_choices(
        state, result_dose="", compared_dose="", **_layer_changes(state, "")
    )
    if result is None or not result.has_numbers:
        return state, effects
    hide = HideResult(result.dose, keeps_comparison=True)
    return state, (StopShowing(), StopProbing(), hide, *effects)


def _range_changes(state: PanelState, result: ResultState) -> dict[str, float]:
    """The range that follows the prescription, unless one was chosen for this case."""
    choices = state.choices
    assert choices is not None
    own = state.cases.get(result.ct)
    limits = result.ranges.get(choices.unit)
    if limits is None:
        return {}
    if own is not None and own.has_own_range:
        return {}
    return {"range_low": max(0.0, limits[0]), "range_high": min(_HIGHEST, limits[1])}


def _tab(state: PanelState, result: ResultState) -> str:
    """The table in front; one without rows gives way to the first that has some."""
    filled = [name for name, table in result.tables.items() if table.rows]
    return state.tab if state.tab in filled or not filled else filled[0]
