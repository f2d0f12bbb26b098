"""Time as the panel needs it: now, and timers of an event loop. Qt's is `qt_clock.QtClock`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Clock", "Timer"]


class Timer(Protocol):
    """Calls back once, or again and again, after it was started."""

    def start(self) -> None:
        """Begin, or begin from anew."""

    def stop(self) -> None:
        """Call back no more."""


class Clock(Protocol):
    """Where timers come from."""

    def now_s(self) -> float:
        """Seconds since some moment; never runs backwards."""

    def timer(
        self, call: Callable[[], None], milliseconds: int = 0, *, repeats: bool = False
    ) -> Timer:
        """A timer that is not started yet; with 0 ms it calls in the next turn of the loop."""
