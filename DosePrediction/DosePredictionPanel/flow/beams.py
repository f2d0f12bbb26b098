"""Which beams a prediction has: what is chosen, and what that means for this model and case."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from ..i18n import _
from .state import PanelState

if TYPE_CHECKING:
    from DosePredictionLib.beams.arrangement import BeamArrangement

__all__ = [
    "PLAN",
    "beams_in_order",
    "beams_label",
    "beams_name",
    "chosen_beams",
    "fault_of_beams",
    "from_text",
    "plan_beams",
    "used_beams",
]

PLAN = "plan"
"""The choice of the beams of the RTPLAN that came with the CT."""


def chosen_beams(state: PanelState) -> str:
    """The choice that counts: empty where the model knows no beams, or the plan has gone."""
    choices, model = state.choices, state.model
    if choices is None or model is None or not model.beams:
        return ""
    return "" if choices.beams == PLAN and not plan_beams(state) else choices.beams


def plan_beams(state: PanelState) -> str:
    """Those of the plan of the chosen CT, as JSON; empty when unknown."""
    ct = state.choices.ct if state.choices is not None else ""
    return next((node.beams for node in state.nodes if node.id == ct), "")


def used_beams(state: PanelState) -> BeamArrangement | None:
    """The beams of the next prediction, the model's own included; None: it knows none."""
    model, chosen = state.model, chosen_beams(state)
    if model is None or not model.beams:
        return None
    if not chosen:
        return from_text(model.beams)
    planned = from_text(plan_beams(state)) if plan_beams(state) else None
    if chosen == PLAN:
        return planned
    from DosePredictionLib.beams.arrangement import parse_beams

    beams = parse_beams(chosen)
    if planned is None:
        return beams
    return replace(beams, patient_position=planned.patient_position)


def beams_in_order(state: PanelState) -> str:
    """As an order has them: JSON; empty for the model's own."""
    from DosePredictionLib.schema import to_json

    return json.dumps(to_json(used_beams(state))) if chosen_beams(state) else ""


def beams_name(choice: str) -> str:
    """A choice as a person reads it."""
    names = {
        "": _("The model's own"),
        PLAN: _("The plan's own"),
        "nine-field": _("Nine fields"),
        "seven-field": _("Seven fields"),
        "five-field": _("Five fields"),
        "four-field": _("Four fields"),
        "four-field-open": _("Four open fields"),
        "arc": _("Full arc"),
    }
    return names.get(choice, choice)


def beams_label(choice: str) -> str:
    """A choice in the name of a result."""
    from DosePredictionLib.beams.arrangement import ARRANGEMENTS

    if choice == PLAN:
        return _("the plan's beams")
    if choice in ARRANGEMENTS:
        return beams_name(choice).lower()
    return _("beams {angles}").format(angles=choice)


def fault_of_beams(text: str) -> str:
    """Why a text is no choice of beams, and what is; empty when it is one."""
    from DosePredictionLib.beams.arrangement import parse_beams
    from DosePredictionLib.errors import DosePredictionError

    if text in ("", PLAN):
        return ""
    try:
        parse_beams(text, _("Beams"))
    except DosePredictionError as error:
        return str(error)
    return ""


def from_text(text: str) -> BeamArrangement:
    """An arrangement from its JSON.

    Raises:
        CaseError: it is none.
    """
    from DosePredictionLib.beams.arrangement import BeamArrangement
    from DosePredictionLib.errors import CaseError
    from DosePredictionLib.schema import from_json, parse_json

    arrangement: BeamArrangement = from_json(BeamArrangement, parse_json(text), "beams", CaseError)
    return arrangement
