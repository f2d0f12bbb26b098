"""What the section of the contours shows: a pure function of the state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .flow.contours import (
    missing_organs,
    organ_model,
    organ_nodes,
    organ_source,
    why_no_costs,
    why_not_fill,
)
from .flow.state import PanelState
from .i18n import _
from .result_tables import Cell, Table

if TYPE_CHECKING:
    from DosePredictionLib.scene import ContourCost

__all__ = ["ContoursView", "contours_view", "costs_table"]

_NOTHING = Table((), ())


@dataclass(frozen=True)
class ContoursView:
    """Organs that are missing, and what can be done.

    Args:
        title: of the section, which says how it stands when it is folded.
        sentence: which organs are missing, and which model finds them.
        sources: other extensions that find organs, and what such organs lack; empty without any.
        choices: where organs can come from, id → words; of one there is no choice.
        chosen: which of them.
        can_fill, fill_tip: whether organs can be added, and what that does or why not.
        can_cost, cost_tip: likewise for what contours cost.
        share: done, 0…1; below 0: unknown; None: nothing is under way.
        stage: what is being done.
        is_cancelling: whether it has been asked to stop.
        costs: an organ a row.
    """

    title: str
    sentence: str
    sources: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    chosen: int = 0
    can_fill: bool = False
    fill_tip: str = ""
    can_cost: bool = False
    cost_tip: str = ""
    share: float | None = None
    stage: str = ""
    is_cancelling: bool = False
    costs: Table = _NOTHING


def contours_view(state: PanelState) -> ContoursView:
    """What is missing, from which model it can come, and what runs."""
    missing, fill, cost = _labels(state), why_not_fill(state), why_no_costs(state)
    choices, source = _choices(state), organ_source(state)
    ids = [id for id, _words in choices]
    title = _("Contours")
    if missing:
        title = _("Contours – {count} organs missing").format(count=len(missing))
    run = state.organs
    return ContoursView(
        title=title,
        sentence=_sentence(state, missing, fill),
        sources=_sources(state),
        choices=choices,
        chosen=ids.index(source.id if source is not None else "") if choices else 0,
        can_fill=not fill,
        fill_tip=fill or _("Add them in a new segmentation; yours stays as it is."),
        can_cost=not cost,
        cost_tip=cost or _("Read the shown dose on your organs and on those of the source."),
        share=None if run is None else run.share,
        stage="" if run is None else run.stage,
        is_cancelling=run is not None and run.is_cancelling,
        costs=_costs(state),
    )


def _labels(state: PanelState) -> list[str]:
    protocol = state.matching.protocol
    labels = {} if protocol is None else {each.name: each.label for each in protocol.channels}
    return [labels[name] for name in missing_organs(state)]


def _sentence(state: PanelState, missing: Sequence[str], why_not: str) -> str:
    """A reason stands alone: nobody reads the tip of a gray button."""
    model, source = organ_model(state), organ_source(state)
    if not missing or (model is None and source is None):
        text = _("Missing: {organs}.").format(organs=", ".join(missing)) if missing else ""
        return f"{text} {why_not}".strip()
    if source is not None:
        text = _("Missing: {organs}. What {name} has of them is taken; the target stays yours.")
        return text.format(organs=", ".join(missing), name=source.name)
    assert model is not None
    text = _("Missing: {organs}. {model} finds them on the CT; the target stays yours.")
    return text.format(organs=", ".join(missing), model=model.title)


def _choices(state: PanelState) -> tuple[tuple[str, str], ...]:
    """The model, and segmentations of the scene."""
    model = organ_model(state)
    own = () if model is None else (("", model.title),)
    text = _("{name} (by {who})")
    others = ((n.id, text.format(name=n.name, who=n.organs_of)) for n in organ_nodes(state))
    return (*own, *others)


def _sources(state: PanelState) -> str:
    source = organ_source(state)
    if source is not None:
        text = _(
            "{who} has no rectum. Femoral heads are cut from its femurs; marrow is its hips, "
            "sacrum and L5 as whole bones."
        )
        return text.format(who=source.organs_of)
    if not state.organ_sources:
        return ""
    text = _(
        "{names} is another source: run it on this CT, then its segmentation can be chosen here. "
        "It finds no rectum; femoral heads are cut from its femurs."
    )
    return text.format(names=", ".join(state.organ_sources))


def _costs(state: PanelState) -> Table:
    """Those of the shown result and the chosen segmentation."""
    result, choices = state.result, state.choices
    if state.costs is None or result is None or choices is None:
        return _NOTHING
    dose, segmentation, table = state.costs
    return table if (dose, segmentation) == (result.dose, choices.segmentation) else _NOTHING


def costs_table(costs: Sequence[ContourCost]) -> Table:
    """What the drawn contour says more than the found one; the largest difference first."""
    from DosePredictionLib.report.wording import endpoint_label, number, signed

    endpoints = tuple(costs[0].drawn) if costs else ()
    headers = (
        _("Drawn − found"),
        *(_("Δ{endpoint}, Gy").format(endpoint=endpoint_label(key)) for key in endpoints),
        _("ΔV, cc"),
    )
    rows = []
    for cost in costs:
        cells, largest = [Cell(cost.name)], 0.0
        for key in endpoints:
            drawn, found = cost.drawn[key], cost.found[key]
            tip = _("{drawn} Gy drawn, {found} Gy found")
            words = tip.format(drawn=number(drawn), found=number(found))
            delta = None if drawn is None or found is None else drawn - found
            largest = max(largest, abs(delta or 0.0))
            cells.append(Cell(signed(delta), words))
        tip = _("{drawn} cc drawn, {found} cc found")
        volumes = tip.format(drawn=number(cost.drawn_cc), found=number(cost.found_cc))
        cells.append(Cell(signed(cost.drawn_cc - cost.found_cc), volumes))
        rows.append((largest, tuple(cells)))
    rows.sort(key=lambda row: -row[0])
    return Table(headers, tuple(cells for _largest, cells in rows))
