"""`reduce(state, event) -> (state, effects)`: everything that the panel decides."""

from __future__ import annotations

from . import (  # noqa: F401 - they register
    choosing,
    contours,
    looking,
    making,
    plan,
    reading,
    results,
    running,
    scenes,
    setup,
)
from .beam_marks import with_beam_marks
from .events import Event
from .registry import HANDLERS, Outcome, chain
from .state import PanelState

__all__ = ["reduce"]


def reduce(state: PanelState, event: Event) -> Outcome:
    """The state after an event, and what is to be done. Pure: the same in, the same out."""
    return chain(state, lambda s: HANDLERS[type(event)](s, event), with_beam_marks)
