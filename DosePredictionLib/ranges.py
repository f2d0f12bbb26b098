"""Quantities that several kinds of files hold, with the range that each may lie in."""

from __future__ import annotations

from typing import Annotated, Any

from .schema import FieldError, Range

__all__ = ["CtHu", "DoseGy", "Fractions", "Seed", "SizeXyz", "SpacingXyzMm", "require_rising"]

DoseGy = Annotated[float, Range(0, 200, above=True)]
"""A prescribed dose."""

Fractions = Annotated[int, Range(1, 100)]

CtHu = Annotated[float, Range(-1e9, 1e9)]
"""A CT value, or the end of a window, which may lie far beyond what a CT holds."""

Seed = Annotated[int, Range(0, 2**63 - 1)]

_Voxels = Annotated[int, Range(1, 1024)]
SizeXyz = tuple[_Voxels, _Voxels, _Voxels]

_EdgeMm = Annotated[float, Range(0.1, 50)]
SpacingXyzMm = tuple[_EdgeMm, _EdgeMm, _EdgeMm]


def require_rising(field: str, low: Any, high: Any) -> None:
    """Refuse a field that lies below the one that bounds it; numbers, or one an axis.

    Args:
        field: the name of the upper one.
        low, high: None: not given.

    Raises:
        FieldError: an upper value is smaller than its lower one.
    """
    if low is None or high is None:
        return
    pairs = zip(low, high, strict=True) if isinstance(low, tuple) else [(low, high)]
    if any(below > above for below, above in pairs):
        raise FieldError(field, f"must not be smaller than its minimum, {low}; got {high}.")
