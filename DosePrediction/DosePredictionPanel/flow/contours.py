"""Organs that nobody contoured are found; what the drawn contours cost is read from a dose."""

from __future__ import annotations

from dataclasses import replace

from ..i18n import _
from .choosing import take_up
from .effects import CancelOrgans, FindOrgans, SwitchContours
from .events import (
    CostPressed,
    CostsFound,
    FillPressed,
    OrgansAdded,
    OrgansCancelPressed,
    OrgansFailed,
    OrganSourceChosen,
    OrgansProgress,
)
from .facts import NodeFacts, OrganModelFacts, OrganOrder, OrganRun
from .reading import rest_worker
from .registry import Outcome, chain, handles, next_token
from .results import acted
from .state import Notice, PanelState

__all__ = [
    "drawn_organs",
    "missing_organs",
    "organ_model",
    "organ_nodes",
    "organ_source",
    "why_no_costs",
    "why_not_fill",
]


def organ_model(state: PanelState) -> OrganModelFacts | None:
    """The model that finds the organs of the chosen dose model's protocol."""
    protocol = state.matching.protocol
    fits = (m for m in state.organ_models if protocol is not None and m.protocol == protocol.id)
    return next(fits, None)


def organ_nodes(state: PanelState) -> tuple[NodeFacts, ...]:
    """Segmentations of the scene that organs can be taken from."""
    return tuple(node for node in state.nodes if node.organs_of and node.fits("segmentation"))


def organ_source(state: PanelState) -> NodeFacts | None:
    """The segmentation that organs are taken from; None: the model finds them.

    The model, unless another source is chosen or there is no model.
    """
    nodes = organ_nodes(state)
    chosen = next((node for node in nodes if node.id == state.organ_source), None)
    return nodes[0] if chosen is None and nodes and organ_model(state) is None else chosen


def missing_organs(state: PanelState) -> tuple[str, ...]:
    """Channels of organs that no segment fills, in the protocol's order."""
    filled = _filled(state)
    return tuple(name for name in _organs(state) if not filled.get(name))


def drawn_organs(state: PanelState) -> tuple[str, ...]:
    """Channels of organs that somebody contoured, and no model found."""
    filled, found = _filled(state), dict(state.matching.found)
    return tuple(n for n in _organs(state) if filled.get(n) and filled[n] not in found)


def why_not_fill(state: PanelState) -> str:
    """Why no organs can be added; empty when they can."""
    reason = _why_not_find(state)
    if reason:
        return reason
    return "" if missing_organs(state) else _("Every organ of the model has a segment.")


def why_no_costs(state: PanelState) -> str:
    """Why it cannot be said what the drawn contours cost; empty when it can."""
    reason, result = _why_not_find(state), state.result
    if reason:
        return reason
    if not drawn_organs(state):
        return _("No organ was contoured by hand.")
    choices, source = state.choices, organ_source(state)
    if choices is not None and source is not None and source.id == choices.segmentation:
        return _("Choose another source of organs than the contours themselves.")
    is_there = result is not None and result.has_numbers
    if choices is None or result is None or not is_there or result.ct != choices.ct:
        return _("Predict a dose first: it is read on both contours.")
    return ""


def _why_not_find(state: PanelState) -> str:
    choices = state.choices
    if choices is None or not choices.ct or not choices.segmentation:
        return _("Choose a CT and a segmentation.")
    if state.matching.protocol is None or state.matching.mapping is None:
        return _("Choose a model of doses: it says which organs are needed.")
    source = organ_source(state)
    if source is None and organ_model(state) is None:
        text = _("No model that finds the organs of {protocol} is installed.")
        return text.format(protocol=state.matching.protocol.title)
    if source is None and state.installation.missing:
        text = _("{missing} is missing: see the section Installation.")
        return text.format(missing=state.installation.missing)
    if state.run is not None or state.organs is not None:
        return _("Wait until what runs is complete.")
    return ""


def _organs(state: PanelState) -> tuple[str, ...]:
    protocol = state.matching.protocol
    channels = () if protocol is None else protocol.channels
    return tuple(channel.name for channel in channels if channel.role == "organ")


def _filled(state: PanelState) -> dict[str, str | None]:
    mapping = state.matching.mapping
    return {} if mapping is None else {m.channel: m.structure for m in mapping.matches}


@handles(OrganSourceChosen)
def _source_chosen(state: PanelState, event: OrganSourceChosen) -> Outcome:
    return replace(acted(state), organ_source=event.source, costs=None), ()


@handles(FillPressed)
def _fill_pressed(state: PanelState, _event: FillPressed) -> Outcome:
    if why_not_fill(state):
        return state, ()
    return _find(state, channels=missing_organs(state))


@handles(CostPressed)
def _cost_pressed(state: PanelState, _event: CostPressed) -> Outcome:
    if why_no_costs(state) or state.result is None:
        return state, ()
    return _find(state, dose=state.result.dose)


def _find(state: PanelState, channels: tuple[str, ...] = (), dose: str = "") -> Outcome:
    choices, protocol = state.choices, state.matching.protocol
    source, model = organ_source(state), organ_model(state)
    assert choices is not None
    assert protocol is not None
    order = OrganOrder(
        ct=choices.ct,
        segmentation=choices.segmentation,
        model=model.name if source is None and model is not None else "",
        channels=channels,
        mapping=state.matching.order,
        dose=dose,
        device=choices.device,
        precision=choices.precision,
        source="" if source is None else source.id,
        protocol=protocol.id,
    )
    state, token = next_token(acted(state))
    run = OrganRun(token, order, stage=_("reading the inputs"))
    return replace(state, organs=run, costs=None), (FindOrgans(token, order),)


@handles(OrgansCancelPressed)
def _cancel_pressed(state: PanelState, _event: OrgansCancelPressed) -> Outcome:
    run = state.organs
    if run is None or run.is_cancelling:
        return state, ()
    return replace(state, organs=replace(run, is_cancelling=True)), (CancelOrgans(run.token),)


@handles(OrgansProgress)
def _progress(state: PanelState, event: OrgansProgress) -> Outcome:
    run = state.organs
    if run is None or run.token != event.token:
        return state, ()
    return replace(state, organs=replace(run, share=event.share, stage=event.stage)), ()


@handles(OrgansAdded)
def _added(state: PanelState, event: OrgansAdded) -> Outcome:
    """The new segmentation is chosen, unless another one has been chosen meanwhile."""
    run, choices = state.organs, state.choices
    if run is None or run.token != event.token or choices is None:
        return state, ()
    text = _("Found: {names}. They are proposals of a network: check them before you use them.")
    said = (text.format(names=", ".join(event.names)), *event.notes)
    notice = Notice(" ".join(said), "warning")
    state = replace(state, organs=None)
    before = run.order.segmentation
    if (choices.ct, choices.segmentation) != (run.order.ct, before):
        return rest_worker(replace(state, message=notice))
    state = state.with_case(by_hand=state.case.by_hand | {"segmentation"})
    after = replace(choices, segmentation=event.segmentation)
    return chain(
        state,
        lambda s: take_up(s, after, by_hand=False),
        lambda s: (replace(s, message=notice), (SwitchContours(before, event.segmentation),)),
    )


@handles(CostsFound)
def _costs_found(state: PanelState, event: CostsFound) -> Outcome:
    run = state.organs
    if run is None or run.token != event.token:
        return state, ()
    costs = (run.order.dose, run.order.segmentation, event.table)
    return rest_worker(replace(state, organs=None, costs=costs))


@handles(OrgansFailed)
def _failed(state: PanelState, event: OrgansFailed) -> Outcome:
    run = state.organs
    if run is None or run.token != event.token:
        return state, ()
    state = replace(state, organs=None)
    if event.cancelled:
        notice = Notice(_("Cancelled. The scene is as it was."))
        return rest_worker(replace(state, message=notice))
    return rest_worker(replace(state, error=Notice(event.message, "error", event.details)))
