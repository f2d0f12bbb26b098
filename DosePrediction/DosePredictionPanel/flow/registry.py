"""Which function handles which event, and how handlers are put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from .effects import Effect
from .events import Event
from .state import PanelState

__all__ = ["HANDLERS", "Outcome", "chain", "handles", "next_token"]

Outcome = tuple[PanelState, tuple[Effect, ...]]
Handler = Callable[[PanelState, Any], Outcome]
Decorated = TypeVar("Decorated", bound=Handler)

HANDLERS: dict[type[Event], Handler] = {}
"""Class of an event → the function that handles it."""


def handles(event: type[Event]) -> Callable[[Decorated], Decorated]:
    """Register a function for a class of events; each class has one."""

    def register(handler: Decorated) -> Decorated:
        assert event not in HANDLERS, event
        HANDLERS[event] = handler
        return handler

    return register


def chain(state: PanelState, *steps: Callable[[PanelState], Outcome]) -> Outcome:
    """One step after the other, their effects in order."""
    effects: list[Effect] = []
    for step in steps:
        state, more = step(state)
        effects += more
    return state, tuple(effects)


def next_token(state: PanelState) -> tuple[PanelState, int]:
    """A token by which late answers are distinguished from awaited ones."""
    token = state.serial + 1
    return replace(state, serial=token), token
