"""Volumes, arrays and tensors taken alike, and the checks that every measure makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DosePredictionError, GeometryError
from ..mask import to_binary
from ..volume import Volume

__all__ = ["as_array", "as_mask", "require_finite", "require_same_grid", "voxel_mm"]


def as_array(values: Volume | Any) -> NDArray:
    """A numpy array of a volume, array or tensor (detached), without copying where possible."""
    if isinstance(values, Volume):
        values = values.array
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values)


def as_mask(values: Volume | Any) -> NDArray[np.bool_]:
    """A boolean array of a mask. See `Mask.binary`."""
    return to_binary(as_array(values))


def voxel_mm(
    values: Volume | Any, spacing_mm: Sequence[float] | None
) -> tuple[float, float, float]:
    """Spacing (x, y, z) of a volume, or `spacing_mm` for an array.

    Raises:
        GeometryError: an array without a spacing, or a spacing that is not three positive numbers.
    """
    if isinstance(values, Volume):
        return values.grid.spacing
    if spacing_mm is None:
        raise GeometryError("spacing_mm (x, y, z) is needed where the dose is a bare array.")
    spacing = np.asarray(spacing_mm, dtype=float)
    if spacing.shape != (3,) or not (np.all(np.isfinite(spacing)) and np.all(spacing > 0)):
        raise GeometryError(
            f"spacing_mm must be three positive numbers (x, y, z); got {spacing_mm}."
        )
    return (float(spacing[0]), float(spacing[1]), float(spacing[2]))


def require_same_grid(
    first: Volume | Any, second: Volume | Any, first_label: str, second_label: str
) -> None:
    """Refuse two volumes on different grids, or two arrays of different shapes.

    Raises:
        GeometryError: names both grids.
    """
    if isinstance(first, Volume) and isinstance(second, Volume):
        if not first.grid.matches(second.grid):
            raise GeometryError(
                f"{first_label} lies on {first.grid}, {second_label} on {second.grid}. Resample "
                "one of them first."
            )
        return
    shapes = as_array(first).shape, as_array(second).shape
    if shapes[0] != shapes[1]:
        raise GeometryError(
            f"{first_label} has the shape (z, y, x) {shapes[0]}, {second_label} {shapes[1]}."
        )


def require_finite(array: NDArray, label: str) -> None:
    """Refuse NaN and infinite values.

    Raises:
        DosePredictionError: says how many there are.
    """
    if array.size == 0:
        raise DosePredictionError(f"{label} has no voxels.")
    if not (np.isfinite(array.min()) and np.isfinite(array.max())):
        count = int(np.count_nonzero(~np.isfinite(array)))
        raise DosePredictionError(f"{label} holds {count} voxels that are NaN or infinite.")
