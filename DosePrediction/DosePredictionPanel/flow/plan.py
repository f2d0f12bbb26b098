"""Whether any plan could give the shown dose: asked of the ray model, without leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from ..i18n import _
from .beams import PLAN, from_text, plan_beams
from .effects import CheckDeliverability
from .events import DeliverabilityChecked, DeliverablePressed
from .facts import PlanCheck
from .reading import rest_worker
from .registry import Outcome, handles, next_token
from .results import acted
from .state import Notice, PanelState, ResultState

if TYPE_CHECKING:
    from DosePredictionLib.beams.arrangement import BeamArrangement

__all__ = ["PLAN_BEAMS", "asked_beams", "beams_as_json", "why_not_check"]

PLAN_BEAMS = ("", "9", "20", "30")
"""Choices: the prediction's own beams, else the plan's or its protocol's; so many evenly spaced."""


def asked_beams(state: PanelState) -> str:
    """The choice that counts."""
    chosen = state.choices.plan_beams if state.choices is not None else ""
    return chosen if chosen in PLAN_BEAMS else ""


def why_not_check(state: PanelState) -> str:
    """Why it cannot be asked; empty when it can."""
    result, asked = state.result, state.plan_check
    if result is None or not result.has_numbers:
        return _("Predict a dose first.")
    if asked is not None and not asked.text:
        return _("Wait for the answer.")
    return ""


@handles(DeliverablePressed)
def _pressed(state: PanelState, _event: DeliverablePressed) -> Outcome:
    result = state.result
    if why_not_check(state) or result is None:
        return state, ()
    state, token = next_token(acted(state))
    beams = asked_beams(state)
    state = replace(state, plan_check=PlanCheck(token, result.run, beams))
    return state, (CheckDeliverability(token, result.dose, beams_as_json(state, beams, result)),)


def beams_as_json(state: PanelState, choice: str, result: ResultState) -> str:
    """The chosen beams for a result; empty where only those of the protocol's plans can be meant.

    Evenly spaced ones are for a patient who lies as the CT's plan says, if there is one.
    """
    from DosePredictionLib.beams.arrangement import BeamArrangement

    if not choice:
        return _own_beams(state, result)
    count = int(choice)
    beams = BeamArrangement.of_angles([360.0 * number / count for number in range(count)])
    return _for_patient(state, beams)


def _own_beams(state: PanelState, result: ResultState) -> str:
    """Those that a dose was predicted for; else those of the CT's plan."""
    from DosePredictionLib.beams.arrangement import parse_beams

    values = {} if result.settings is None else result.settings.values
    name, chosen = values.get(_("model"), ""), values.get(_("beams"), "")
    of_model = next((model.beams for model in state.models if model.name == name), "")
    if not of_model or chosen == PLAN:
        return plan_beams(state)
    return _for_patient(state, parse_beams(chosen)) if chosen else of_model


def _for_patient(state: PanelState, beams: BeamArrangement) -> str:
    from DosePredictionLib.schema import to_json

    if plan_beams(state):
        beams = replace(beams, patient_position=from_text(plan_beams(state)).patient_position)
    return json.dumps(to_json(beams))


@handles(DeliverabilityChecked)
def _checked(state: PanelState, event: DeliverabilityChecked) -> Outcome:
    asked = state.plan_check
    if asked is None or asked.token != event.token:
        return state, ()
    if event.error:
        notice = Notice(event.error, "error", event.details)
        return rest_worker(replace(state, plan_check=None, error=notice))
    answered = replace(asked, text=event.text, severity=event.severity)
    return rest_worker(replace(state, plan_check=answered))
