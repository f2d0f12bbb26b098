"""The scene: nodes come and go, it is closed and loaded, the module is opened and left."""

from __future__ import annotations

from dataclasses import replace

from DosePredictionLib.findings import worst_first

from ..i18n import _
from .choosing import follow_new_case
from .derived import findings_of, findings_of_result, removed_sentence
from .effects import (
    AbortPrediction,
    CancelOrgans,
    CheckInstallation,
    DropParameters,
    Effect,
    ForgetScene,
    JumpTo,
    ListModels,
    ListNodes,
    ObserveSegmentation,
    RecallLevels,
    StartTimer,
    StopProbing,
    StopReading,
    StopShowing,
    StopTimer,
    TakeParameters,
)
from .events import (
    Entered,
    Exited,
    NextFindingPressed,
    NodeAdded,
    NodeRemoved,
    NodeRemoving,
    NodesListed,
    PanelClosed,
    SceneClosed,
    SceneClosing,
    SceneLoaded,
    Started,
    TimerFired,
)
from .plan_messages import CancelPlanning
from .reading import (
    EDIT_TIMER,
    REST_TIMER,
    begin_reading,
    compare_edits,
    match,
    stop_reading,
    watch_edits,
)
from .registry import Outcome, chain, handles
from .results import change_choices, compare_with, forget_result, sync_results
from .state import Matching, NodeFacts, Notice, PanelState

__all__: list[str] = []

_LIST_TIMER = "list"
_SELECTORS = ("ct", "segmentation", "plan_dose")


@handles(Entered)
def _entered(state: PanelState, _event: Entered) -> Outcome:
    is_due = state.edited_elsewhere or bool(state.input_error)
    state = replace(state, is_entered=True)
    effects: tuple[Effect, ...] = (ListModels(), TakeParameters())
    if not is_due:
        return state, effects
    state, more = watch_edits(state)
    return state, effects + more


@handles(Exited)
def _exited(state: PanelState, _event: Exited) -> Outcome:
    """Segments edited in another module are read when the person comes back."""
    return replace(state, is_entered=False), ()


@handles(TimerFired)
def _timer_fired(state: PanelState, event: TimerFired) -> Outcome:
    if event.name == REST_TIMER:
        return begin_reading(state)
    if event.name == EDIT_TIMER:
        return compare_edits(state)
    return state, (ListNodes(),)


@handles(NextFindingPressed)
def _next_finding(state: PanelState, _event: NextFindingPressed) -> Outcome:
    """One after the other those that have a place, from the first one again behind the last."""
    findings = worst_first((*findings_of(state), *findings_of_result(state)))
    places = [n for n, finding in enumerate(findings) if finding.position_mm is not None]
    if not places or state.choices is None or not state.choices.ct:
        return state, ()
    ct = state.choices.ct
    number = next((n for n in places if n > state.looked_at), places[0])
    position_mm = findings[number].position_mm
    assert position_mm is not None
    state = replace(state, looked_at=number, message=Notice(findings[number].message, "info"))
    return state, (JumpTo(position_mm, ct),)


@handles(NodeAdded)
def _node_added(state: PanelState, _event: NodeAdded) -> Outcome:
    # What a node is, its attributes say, which are set after it has been added.
    return state, (StartTimer(_LIST_TIMER, 0),)


@handles(NodesListed)
def _nodes_listed(state: PanelState, event: NodesListed) -> Outcome:
    known = {node.id for node in state.nodes}
    new = [node for node in event.nodes if node.id not in known]
    emptied = frozenset(name for name in state.emptied if not any(n.fits(name) for n in new))
    state = replace(state, nodes=event.nodes, emptied=emptied)
    return chain(state, sync_results, lambda s: follow_new_case(s, new) if event.came else (s, ()))


@handles(NodeRemoving)
def _node_removing(state: PanelState, event: NodeRemoving) -> Outcome:
    """What was chosen becomes empty, never another node; a prediction of it is stopped."""
    state = replace(state, leaving=(*state.leaving, event.id))
    if state.choices is None:
        return state, ()
    return chain(
        state,
        lambda s: _abort_run_of(s, event),
        lambda s: forget_result(s, event.id),
        lambda s: _empty_choices(s, event.id),
    )


@handles(NodeRemoved)
def _node_removed(state: PanelState, event: NodeRemoved) -> Outcome:
    cases = {ct: memory for ct, memory in state.cases.items() if ct != event.id}
    leaving = tuple(each for each in state.leaving if each != event.id)
    nodes = tuple(node for node in state.nodes if node.id != event.id)
    return replace(state, cases=cases, leaving=leaving, nodes=nodes), ()


def _abort_run_of(state: PanelState, event: NodeRemoving) -> Outcome:
    run = state.run
    if run is None or event.id not in run.order.inputs:
        return state, ()
    error = Notice(removed_sentence(event.name), "error")
    return replace(state, run=None, error=error), (AbortPrediction(run.token),)


def _empty_choices(state: PanelState, id: str) -> Outcome:
    choices = state.choices
    assert choices is not None
    if choices.compared_dose == id:
        return compare_with(state, "")
    gone = [name for name in _SELECTORS if getattr(choices, name) == id]
    if not gone:
        return state, ()
    steps = [stop_reading, lambda s: change_choices(s, **dict.fromkeys(gone, ""))]
    if "segmentation" in gone:
        steps.append(lambda s: (s, (ObserveSegmentation(""),)))
    # Without a CT or a segmentation nothing is matched, and what was read is forgotten.
    return chain(replace(state, emptied=state.emptied | frozenset(gone)), *steps, match)


@handles(Started)
def _started(state: PanelState, _event: Started) -> Outcome:
    return state, (RecallLevels(), ListModels(), TakeParameters(), CheckInstallation())


@handles(SceneClosing)
def _scene_closing(state: PanelState, _event: SceneClosing) -> Outcome:
    error = None
    if state.run is not None:
        text = _("The scene was closed while the prediction ran; it was stopped.")
        error = Notice(text, "error")
    state, effects = _let_go(state)
    return replace(state, error=error), effects


@handles(PanelClosed)
def _panel_closed(state: PanelState, _event: PanelClosed) -> Outcome:
    return _let_go(state)


def _let_go(state: PanelState) -> Outcome:
    """Stop everything that works with the scene's nodes."""
    run, organs, making = state.run, state.organs, state.making.run
    abort: tuple[Effect, ...] = () if run is None else (AbortPrediction(run.token),)
    state = replace(
        state,
        choices=None,
        reading=None,
        prepared=None,
        findings=(),
        input_error="",
        matching=Matching(),
        run=None,
        organs=None,
        making=replace(state.making, run=None, priorities=()),
        costs=None,
        plan_check=None,
        showing=None,
        error=None,
        message=None,
        probe="",
        is_live_due=False,
    )
    timers = (StopTimer(REST_TIMER), StopTimer(EDIT_TIMER))
    stops: tuple[Effect, ...] = (
        StopReading(),
        StopShowing(),
        StopProbing(),
        ObserveSegmentation(""),
        DropParameters(),
    )
    if organs is not None:
        stops = (*stops, CancelOrgans(organs.token))
    if making is not None:
        stops = (*stops, CancelPlanning(making.token))
    return state, (*abort, *timers, *stops)


@handles(SceneClosed)
def _scene_closed(state: PanelState, _event: SceneClosed) -> Outcome:
    """Nothing is left that anything belongs to; an error of before stays to be read."""
    no_nodes: tuple[NodeFacts, ...] = ()
    state = replace(
        state,
        nodes=no_nodes,
        leaving=(),
        emptied=frozenset(),
        results=(),
        shown="",
        cases={},
        edited_elsewhere=False,
        tab="goals",
    )
    return state, (ForgetScene(), TakeParameters())


@handles(SceneLoaded)
def _scene_loaded(state: PanelState, _event: SceneLoaded) -> Outcome:
    return state, (TakeParameters(),)
