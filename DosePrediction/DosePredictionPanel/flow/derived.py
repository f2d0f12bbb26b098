"""What follows from the state: whether Apply can be pressed, what is out of date, the order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..apply_state import Situation
from ..finding_rows import blocking_messages
from ..freshness import Freshness, RunSettings
from ..i18n import _
from .state import PanelState, PredictionOrder

if TYPE_CHECKING:
    from DosePredictionLib.findings import Finding

__all__ = [
    "can_read",
    "findings_of",
    "fitting_template",
    "freshness_of",
    "order_of",
    "removed_sentence",
    "settings_of",
    "situation_of",
    "template_of_case",
]


def situation_of(state: PanelState) -> Situation:
    """What decides on Apply."""
    choices = state.choices
    if choices is None:
        return Situation()
    return Situation(
        has_ct=bool(choices.ct),
        has_segmentation=bool(choices.segmentation),
        has_model=state.model is not None,
        input_problem=state.input_error,
        missing=state.installation.missing,
        reading=state.reading is not None,
        blocking=blocking_messages(findings_of(state)),
        running=state.run is not None,
        cancelling=state.run is not None and state.run.is_cancelling,
        outdated=freshness_of(state).is_outdated,
    )


def findings_of(state: PanelState) -> tuple[Finding, ...]:
    """What was noticed about the inputs, with and without reading them."""
    return (*state.matching.problems, *state.findings)


def can_read(state: PanelState) -> bool:
    """Whether everything is chosen that reading and checking needs."""
    choices = state.choices
    if choices is None or not choices.ct or not choices.segmentation or state.matching.problems:
        return False
    return state.matching.mapping is not None


def settings_of(state: PanelState) -> RunSettings:
    """What a prediction would rest on now."""
    c = state.choices
    if c is None:
        return RunSettings()
    mapping = state.matching.mapping
    return RunSettings(
        values={
            _("the CT"): c.ct,
            _("the segmentation"): c.segmentation,
            _("the plan dose"): c.plan_dose,
            _("the model"): c.model,
            _("the prescription"): f"{_own_prescription_gy(state):g}",
            _("the margin of the strips"): f"{c.strip_margin_mm:g}",
        },
        mapping={m.channel: m.structure for m in mapping.matches} if mapping else {},
    )


def freshness_of(state: PanelState) -> Freshness:
    """The shown result against what is chosen now."""
    result = state.result
    if result is None or state.choices is None:
        return Freshness()
    return Freshness(result.settings, settings_of(state), result.edited)


def order_of(state: PanelState) -> PredictionOrder:
    """What Apply asks for. What changed is shown against an outdated result of the same CT."""
    c = state.choices
    assert c is not None
    result = state.result
    is_comparable = (
        result is not None
        and result.has_numbers
        and result.ct == c.ct
        and _PLACE_OF_CT not in result.edited
        and freshness_of(state).is_outdated
    )
    return PredictionOrder(
        ct=c.ct,
        segmentation=c.segmentation,
        plan_dose=c.plan_dose,
        model=c.model,
        mapping=state.matching.order,
        prescription_gy=_own_prescription_gy(state),
        goals=c.goals,
        device=c.device,
        precision=c.precision,
        strip_margin_mm=c.strip_margin_mm,
        keep_coarse=c.keep_coarse,
        keep_strips=c.keep_strips,
        before=result.dose if result is not None and is_comparable else "",
    )


def template_of_case(state: PanelState) -> str:
    """The template chosen by hand for this case; else the one that fits."""
    by_hand = state.case.goals
    return fitting_template(state) if by_hand is None else by_hand


def fitting_template(state: PanelState) -> str:
    """The template that is written for the model's protocol and the prescription; "" for none."""
    model = state.model
    if model is None:
        return ""
    highest_gy = _own_prescription_gy(state) or model.highest_gy
    fits = (each.id for each in state.templates if each.fits(model.protocol, highest_gy))
    return next(fits, "")


def removed_sentence(name: str) -> str:
    """An input of a running prediction went away."""
    text = _(
        "{name} was removed from the scene while the prediction ran; it was stopped, nothing was "
        "added. Choose the inputs anew and press Apply."
    )
    return text.format(name=name)


_PLACE_OF_CT = "place of CT"  # as `scene.what_changed` names it: the grids differ then


def _own_prescription_gy(state: PanelState) -> float:
    """The person's prescription; 0 for the model's own or a model with levels."""
    if state.choices is None or state.model is None or state.model.has_levels:
        return 0.0
    return state.choices.prescription_gy
