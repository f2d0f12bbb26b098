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
    JumpTo,
    OpenFile,
    RemoveResult,
    ShowCt,
    ShowLayout,
    ShowResult,
    StopShowing,
    WriteChoices,
    WriteExport,
)
from .events import (
    Displayed,
    DisplayFailed,
    ExportEnded,
    ExportPressed,
    FindingClicked,
    GoalsFileChosen,
    GoalsJudged,
    LayoutPressed,
    PathChosen,
    RemovePressed,
    TabChosen,
)
from .registry import Outcome, chain, handles, next_token
from .state import Notice, PanelState, ResultState, Showing

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
    "sync_results",
]

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
    state: PanelState, result: ResultState, *, layout: bool = False, center: bool = False
) -> Outcome:
    """Make a result the shown one: its range and, step by step, its dose on the slices.

    Args:
        layout: whether the views are arranged for it.
        center: whether the slices move to its CT, as for another patient's.
    """
    before = state.result
    effects: list[Effect] = [StopShowing()]
    if before is not None and before.dose != result.dose and before.has_numbers:
        effects.append(HideResult(before.dose))
    state = replace(state, shown=result.run, showing=None)
    state, more = change_choices(state, result_dose=result.dose, **_range_changes(state, result))
    effects += more
    if not result.has_numbers:
        return state, (*effects, ShowCt(result.ct)) if center else tuple(effects)
    state, token = next_token(state)
    display = state.display()
    state = replace(state, showing=Showing(token, result.run, display), tab=_tab(state, result))
    return state, (*effects, ShowResult(token, result.dose, display, layout, center))


def follow_case(state: PanelState) -> Outcome:
    """Another CT is chosen: show what belongs to it, or only the CT if there is nothing yet."""
    assert state.choices is not None
    ct = state.choices.ct
    latest = state.latest_of_ct(ct)
    if latest is not None:
        return chain(
            state,
            lambda s: show_result(s, latest, center=True),
            lambda s: change_choices(s, goals=latest.goals) if latest.has_numbers else (s, ()),
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
    if not was_shown:
        return state, ()
    state = replace(state, shown="", showing=None)
    state, effects = change_choices(state, result_dose="")
    latest = state.latest_of_ct(state.choices.ct) if state.choices is not None else None
    if latest is None:
        return state, (StopShowing(), *effects)
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
    if unit_changed:  # the same limits would mean other doses
        state = state.with_case(has_own_range=False)
        state, effects = change_choices(state, **_range_changes(state, result))
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
    return state, (JudgeGoals(result.dose, choices.goals),)


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


@handles(GoalsJudged)
def _goals_judged(state: PanelState, event: GoalsJudged) -> Outcome:
    result = state.result_of_dose(event.dose)
    if result is None:
        return state, ()
    judged = replace(result, goals=event.goals, tables=event.tables)
    results = tuple(judged if each is result else each for each in state.results)
    state = replace(state, results=results, tab="goals")
    return replace(state, tab=_tab(state, judged)), ()


@handles(TabChosen)
def _tab_chosen(state: PanelState, event: TabChosen) -> Outcome:
    return (state if state.tab == event.tab else replace(state, tab=event.tab)), ()


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


@handles(RemovePressed)
def _remove_pressed(state: PanelState, _event: RemovePressed) -> Outcome:
    result = state.result
    if result is None:
        return state, ()
    state, effects = drop_result(acted(state), result)
    # Removed first: what is shown next must not be hidden by it.
    return state, (StopShowing(), RemoveResult(result.dose), *effects)


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
        return replace(state, error=Notice(event.error, "error")), ()
    if event.warning:
        return replace(state, message=Notice(event.warning, "warning")), ()
    state = replace(state, message=Notice(_("Written: {path}").format(path=event.path)))
    return state, (OpenFile(event.path),) if event.kind == "report" else ()


def forget_result(state: PanelState, dose: str) -> Outcome:
    """A dose node is leaving the scene by another hand."""
    result = state.result_of_dose(dose)
    if result is None or state.choices is None:
        return state, ()
    state, effects = drop_result(state, result)
    return state, (StopShowing(), ForgetResult(dose), *effects)


def _hide(state: PanelState) -> Outcome:
    """Nothing of a result is shown any more."""
    result = state.result
    state = replace(state, shown="", showing=None)
    state, effects = change_choices(state, result_dose="")
    if result is None or not result.has_numbers:
        return state, effects
    return state, (StopShowing(), HideResult(result.dose), *effects)


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
