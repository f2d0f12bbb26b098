"""What the values of a mask file mean: inside and outside, occupancy, or the labels of a map.

One rule for every source, so that nothing that interpolation left behind counts as inside.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import CaseError
from ..findings import Finding

__all__ = ["DUST", "label_values", "mask_from_values", "without_dust"]

DUST = 1e-3
"""Occupancy that counts as none: rounding, interpolation noise."""

_LARGEST_LABEL = 65535
_FEW_LABELS = 8
_SMALL_LABEL = 100  # masks that were scaled reach 100, 255, 1000 …
_SOLID = 0.03  # a cube of three voxels; two values at random have half of it
_NOISE = 0.02
_FULL = 0.98


def label_values(array: NDArray) -> tuple[int, ...]:
    """The labels of a map that holds several structures; empty when the array is one mask.

    Interpolation leaves ramps, in which no voxel equals its six neighbours; a label map consists of
    such voxels. So it is one where that holds for two values at least, or where the values are
    few and small (labels thinner than three voxels).

    Args:
        array: `(z, y, x)`.
    """
    if array.dtype == bool:
        return ()
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and 1 < high <= _LARGEST_LABEL):
        return ()
    values = _box(array)
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        return ()
    values = values.astype(np.int32)
    counts = np.bincount(values.ravel())
    counts[0] = 0
    present = np.flatnonzero(counts)
    if present.size < 2:
        return ()
    solid = np.bincount(values[_uniform(values)].ravel(), minlength=counts.size)
    is_solid = solid[present] >= _SOLID * counts[present]
    few = present.size <= _FEW_LABELS and high < _SMALL_LABEL
    if few or np.count_nonzero(is_solid) >= 2:
        return tuple(int(value) for value in present)
    return ()


def mask_from_values(array: NDArray, path: Path, structure: str) -> tuple[NDArray, Finding | None]:
    """A mask as boolean, or as occupancy in 0…1 (float32), and what was noticed.

    Values in 0…1 with steps between are occupancy. Anything else is cut at half of its plateau, the
    value that its inside has: masks of 0 and 255, and those that were interpolated, with or without
    overshoot. Values that only noise has are outside.

    Args:
        array: `(z, y, x)`, finite; not a label map (see `label_values`).
        path: the file, for messages.

    Raises:
        CaseError: the values are those of an image or a dose, or have no plateau.
    """
    if array.dtype == bool:
        return array, None
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind != "f" and low >= 0 and high <= 1:
        return array > 0, None
    if high <= (DUST if array.dtype.kind == "f" else 0):
        return _nothing(array, path, structure, low, high)
    if low >= -DUST and high <= 1 + DUST and not _has_low_plateau(array, high):
        return _occupancy(array, path, structure)
    return _cut(array, path, structure, low)


def without_dust(occupancy: NDArray) -> NDArray:
    """Occupancy with what is as good as 0 or 1 made so; boolean when nothing lies between."""
    inside, outside = occupancy > 1 - DUST, occupancy < DUST
    if np.all(inside | outside):
        return inside
    return np.where(inside, 1, np.where(outside, 0, occupancy)).astype(np.float32)


def _nothing(
    array: NDArray, path: Path, structure: str, low: float, high: float
) -> tuple[NDArray, Finding | None]:
    empty = np.zeros(array.shape, bool)
    if low == high == 0:
        return empty, None
    message = f"{path.name} holds nothing but noise ({low:.3g} to {high:.3g}): no voxel is inside."
    return empty, Finding(
        "mask-noise", "warning", message, "Export the structure again.", structure
    )


def _has_low_plateau(array: NDArray, high: float) -> bool:
    """Whether the inside is flat at a value below 1: a mask that was scaled, not an occupancy."""
    if high >= 1 - DUST:
        return False
    top = _box(array) >= _FULL * high
    return bool(_uniform(top)[top].any())


def _occupancy(array: NDArray, path: Path, structure: str) -> tuple[NDArray, Finding | None]:
    # An occupancy's rim has few voxels that are all but empty; noise has more than the structure.
    slight = np.count_nonzero((array >= DUST) & (array < _NOISE))
    floor = _NOISE if slight > np.count_nonzero(array >= _NOISE) else DUST
    noise = int(np.count_nonzero((array != 0) & (array < floor)))
    mask = without_dust(np.where(array < floor, 0, array))
    if not noise:
        return mask, None
    message = f"{path.name}: {noise} voxels below {floor:g} count as outside, as noise."
    return mask, Finding("mask-noise", "info", message, structure=structure)


def _cut(array: NDArray, path: Path, structure: str, low: float) -> tuple[NDArray, Finding]:
    plateau = _plateau(array, path)
    _require_mask(array, path, plateau, low)
    inside = array > plateau / 2
    high = float(array.max())
    between = int(np.count_nonzero((array > 0) & ~inside))
    if low == 0 and not between and float(array[inside].min()) == high:
        message = f"{path.name} holds {low:g} and {high:g}; {high:g} counts as inside."
        return inside, Finding("mask-normalized", "info", message, structure=structure)
    message = (
        f"{path.name} holds values from {low:.4g} to {high:.4g}, as interpolation leaves them: "
        f"cut at half of {plateau:.4g}; {between} voxels above 0 are outside."
    )
    remedy = "Export the structure without interpolation, or as occupancy from 0 to 1."
    return inside, Finding("mask-cut", "warning", message, remedy, structure)


def _plateau(array: NDArray, path: Path) -> float:
    """The value of the inside: the 80th percentile of what lies above half of the maximum.

    A quarter and more of a small structure may be its rim, and overshoot is rarer than a fifth.

    Raises:
        CaseError: that is a few voxels, far above all others.
    """
    high = float(array.max())
    present = array[array > _NOISE * high]
    inside = present[present > high / 2]
    if inside.size < 0.01 * present.size:
        raise CaseError(
            f"{path} holds values up to {high:.4g}, and {present.size - inside.size} of "
            f"{present.size} voxels lie below half of that: neither a mask nor labels. Export the "
            "structure again."
        )
    return float(np.percentile(inside, 80))


def _require_mask(array: NDArray, path: Path, plateau: float, low: float) -> None:
    """Refuse what is not flat inside, more than three voxels from its edge: an image or a dose."""
    support = _box(array > 0.05 * plateau)
    core = ndimage.binary_erosion(support, iterations=3)
    values = _box(array, array > 0.05 * plateau)[core]
    flat = (values > 0.75 * plateau) & (values < 1.5 * plateau)
    is_image = values.size >= 100 and float(flat.mean()) < 0.5
    if low < -0.5 * plateau or is_image:
        raise CaseError(
            f"{path} holds values from {low:.4g} to {float(array.max()):.4g} that are flat neither "
            "inside nor outside: an image or a dose, no mask. Remove it; a plan's dose is called "
            "dose_plan.nii.gz."
        )


def _box(array: NDArray, where: NDArray | None = None) -> NDArray:
    """The smallest block that holds all of `where` (default: all that is not zero)."""
    boxes = ndimage.find_objects((array != 0 if where is None else where).astype(np.int8))
    return array[boxes[0]] if boxes else array[:0]


def _uniform(values: NDArray) -> NDArray[np.bool_]:
    """Voxels that equal their six neighbours; what lies outside counts as 0."""
    padded = np.pad(values, 1)
    same = np.ones(values.shape, bool)
    middle = slice(1, -1)
    for axis in range(3):
        for step in (slice(None, -2), slice(2, None)):
            index = [middle] * 3
            index[axis] = step
            same &= values == padded[tuple(index)]
    return same
