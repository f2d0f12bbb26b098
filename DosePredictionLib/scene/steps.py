"""Long work in steps, so that a window can draw between them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple, TypeVar

__all__ = ["Step", "Steps", "finish"]

Result = TypeVar("Result")


class Step(NamedTuple):
    """What has just been done, in words, and how far the work is."""

    label: str
    done: int
    total: int


Steps = Generator[Step, None, Result]


def finish(steps: Steps[Result], on_step: Callable[[Step], None] | None = None) -> Result:
    """Run steps to their end; what the generator returns."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        if on_step is not None:
            on_step(step)
