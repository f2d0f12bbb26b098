"""Qt's event loop as the panel's clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import qt

__all__ = ["QtClock"]


class QtClock:
    """See `clock.Clock`."""

    def now_s(self) -> float:
        """Seconds of a clock that never runs backwards."""
        return time.monotonic()

    def timer(
        self, call: Callable[[], None], milliseconds: int = 0, *, repeats: bool = False
    ) -> Any:
        """A QTimer, which has the `start` and `stop` that are wanted."""
        timer = qt.QTimer()
        timer.setSingleShot(not repeats)
        timer.setInterval(milliseconds)
        timer.connect("timeout()", call)
        return timer
