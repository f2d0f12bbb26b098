"""How long the steps of a prediction take."""

from __future__ import annotations

import time

__all__ = ["Clock"]


class Clock:
    """Seconds of each step since the last one."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, step: str) -> None:
        """End a step."""
        now = time.perf_counter()
        self._laps[step] = now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        """By step, and `total`."""
        rounded = {step: round(seconds, 3) for step, seconds in self._laps.items()}
        return {**rounded, "total": round(sum(self._laps.values()), 3)}
