"""Work in steps: some milliseconds of it per turn of the event loop; the window stays usable."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from .clock import Clock

__all__ = ["StepRunner"]

_TURN_S = 0.015


class StepRunner:
    """Runs a generator a step per turn of the loop, or several short ones.

    Args:
        steps: yields after each step.
        clock: whose loop.
        on_step: called with what was yielded.
        on_done: called with what the generator returned.
        on_error: called with what it raised.
    """

    def __init__(
        self,
        steps: Generator[Any, None, Any],
        clock: Clock,
        on_step: Callable[[Any], None],
        on_done: Callable[[Any], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._steps, self._on_step = steps, on_step
        self._on_done, self._on_error = on_done, on_error
        self._clock = clock
        self._is_stopped = False
        self._timer = clock.timer(self._tick, repeats=True)

    def start(self) -> StepRunner:
        """Begin with the next turn of the event loop."""
        self._timer.start()
        return self

    def stop(self) -> None:
        """Take no further step; the generator's clean-up runs now."""
        self._is_stopped = True
        self._timer.stop()
        self._steps.close()

    def _tick(self) -> None:
        """One step, and further ones as long as they are short."""
        end_s = self._clock.now_s() + _TURN_S
        while self._take() and self._clock.now_s() < end_s:
            pass

    def _take(self) -> bool:
        """Take a step; false when no further one may follow."""
        try:
            step = next(self._steps)
        except StopIteration as stop:
            value = stop.value
        except Exception as error:  # whatever a node may do: shown to the person, never lost
            self._timer.stop()
            self._on_error(error)
            return False
        else:
            self._on_step(step)
            return not self._is_stopped
        self._timer.stop()
        self._on_done(value)
        return False
