"""A prediction begins: by Apply, or by itself after a stroke."""

from __future__ import annotations

from dataclasses import replace

from ..i18n import _
from .derived import order_of, settings_of
from .effects import StartPrediction
from .naming import used_contents
from .registry import Outcome, next_token
from .state import PanelState, Run

__all__ = ["start", "start_live"]


def start(state: PanelState, *, is_live: bool = False) -> Outcome:
    """Predict what is chosen."""
    state, token = next_token(state)
    order = order_of(state, is_live=is_live)
    run = Run(token, order, settings_of(state), used_contents(state), stage=_("reading the inputs"))
    return replace(state, run=run), (StartPrediction(token, order),)


def start_live(state: PanelState) -> Outcome:
    """Predict the stroke that has rested; the worker's own checks have to do."""
    state = replace(state, reading=None, is_live_due=False, findings=())
    return start(state, is_live=True)
