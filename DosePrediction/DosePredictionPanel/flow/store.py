"""The loop: an event goes in, the effects are carried out, the new state is drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from .effects import Effect
from .events import Event
from .reducer import reduce
from .state import PanelState

__all__ = ["Executor", "Store"]


class Executor(Protocol):
    """Carries out effects; may dispatch further events, at once or later."""

    def carry_out(self, effect: Effect) -> None:
        """Do what an effect says."""


class Store:
    """Holds the state.

    An event that comes while another one is handled waits for its turn: what it brings was seen
    before the effects were carried out.

    Args:
        draw: called with the state once nothing waits any more.

    Attributes:
        state: as it is now.
        executor: carries out effects; set before the first event.
    """

    def __init__(self, draw: Callable[[PanelState], None]) -> None:
        self.state = PanelState()
        self.executor: Executor | None = None
        self._draw = draw
        self._waiting: deque[Event] = deque()
        self._is_busy = False
        self._is_closed = False

    def close(self, event: Event) -> None:
        """Take up a last event and draw no more: the widgets go.

        Answers of the worker and timers may come later still; they are of no effect.
        """
        self._draw = lambda _state: None
        self.dispatch(event)
        self._is_closed = True

    def dispatch(self, event: Event) -> None:
        """Take up an event, and what follows from it."""
        if self._is_closed:
            return
        self._waiting.append(event)
        if self._is_busy:
            return
        before = self.state
        self._is_busy = True
        try:
            while self._waiting:
                self._take_up(self._waiting.popleft())
        finally:
            self._is_busy = False
        if self.state is not before:
            self._draw(self.state)

    def _take_up(self, event: Event) -> None:
        self.state, effects = reduce(self.state, event)
        for effect in effects:
            assert self.executor is not None
            self.executor.carry_out(effect)
