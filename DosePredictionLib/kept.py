"""What was computed from volumes, kept as long as they are: the same ones give it back.

A volume is never changed once it is made, so the object itself is the key. Of a case in which one
contour was edited the other volumes stay the same objects (`worker.exchange.CaseReader`), and what
was computed from them is not computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from .volume import Volume

__all__ = ["KEPT", "kept"]

KEPT = "_kept"
"""The attribute of a volume that holds what was computed from it; it is not pickled."""

_MOST = 4  # values of one function at one volume: other grids, other contours

P = ParamSpec("P")
V = TypeVar("V", bound="Volume")
R = TypeVar("R")


def kept(
    function: Callable[Concatenate[V, P], R],
) -> Callable[Concatenate[V, P], R]:
    """Keep what a function of a volume gives, by its other arguments: volumes or hashable values.

    The last few values are kept. They are shared, so nobody changes them; and they do not refer to
    the volume, which would then be freed by the garbage collector alone.
    """

    @wraps(function)
    def looked_up(volume: V, /, *args: P.args, **kwargs: P.kwargs) -> R:
        values = volume.__dict__.setdefault(KEPT, {}).setdefault(function, {})
        key = (args, tuple(sorted(kwargs.items())))
        value = values.pop(key) if key in values else function(volume, *args, **kwargs)
        while len(values) >= _MOST:
            del values[next(iter(values))]
        values[key] = value  # the last one used is the last in order
        return value

    return looked_up
