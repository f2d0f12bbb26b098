"""Masks: what belongs to a structure, by rules that have names.

A mask is boolean, or an occupancy: the share of each voxel that lies inside, 0…1. No other module
compares one with a number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import CaseError
from .geometry import Box, bounding_box
from .interpolation import Interpolation
from .kept import kept
from .volume import Grid, Volume, require_shape

__all__ = [
    "DUST",
    "EMPTY_BELOW",
    "SLIVER",
    "Mask",
    "is_fractional",
    "majority",
    "to_binary",
    "weights_of",
    "without_slivers",
]

DUST = 1e-3
"""Occupancy below which a voxel does not belong to a structure.

Sums and interpolations in float32 leave 1e-20 … 1e-5 beside a structure, and a voxel that counts
by that much would still set its lowest or highest dose. A real share this small changes no volume
that is reported: a thousandth of a voxel is below what any contour is drawn to.
"""

EMPTY_BELOW = 1e-4
"""A mask whose fullest voxel holds less is empty: nothing that was drawn is so small, and noise is
no structure. Between this and twice `DUST` the fullest voxels are kept."""

SLIVER = 0.01
"""Occupancy below which a voxel counts, but carries no lowest or highest dose: resampling leaves as
much beside a structure, and the surface through it is the least certain."""

_ROUNDING = 1e-6  # beyond 0 and 1


@dataclass(frozen=True, eq=False)
class Mask(Volume):
    """A structure on a grid: bool, or occupancy in 0…1 without dust.

    Only the block that holds it is kept: thirty structures on a large CT would be gigabytes.

    Args:
        array: `(z, y, x)`; what is kept of it is a copy of the block, or itself where that is all.
        grid: of the array.

    Raises:
        GeometryError: the array's shape is not the grid's.
        CaseError: values that are NaN or leave 0…1; nothing is guessed about a label map.
    """

    block: NDArray = field(init=False, repr=False)
    """What the mask holds within `bounding_box()`, `(z, y, x)`; of size 0 when it is empty."""
    _box: Box | None = field(init=False, repr=False)

    def __init__(self, array: NDArray, grid: Grid) -> None:
        require_shape(array, grid)
        self._keep(array, None, grid)

    @classmethod
    def of_block(cls, block: NDArray, box: Box, grid: Grid) -> Mask:
        """The mask that is 0 beyond a block; the block need not be the smallest."""
        mask = cls.__new__(cls)
        mask._keep(block, box, grid)
        return mask

    def _keep(self, block: NDArray, box: Box | None, grid: Grid) -> None:
        """Keep what a block holds; without a box, it is the whole grid."""
        given = block
        block, box = _closely(block, box)
        if block.dtype != bool:
            if box is not None:
                _require_occupancy(block)
            clean = block.astype(bool) if block.dtype.kind in "iu" else weights_of(block)
            if clean is not block:
                block, box = _closely(clean, box) if box is not None else (clean, None)
        if block.base is not None and block.size < given.size:
            block = np.array(block, order="C")  # a view would keep the whole array alive
        for name, value in (("grid", grid), ("block", block), ("_box", box)):
            object.__setattr__(self, name, value)

    @property  # type: ignore[misc]  # the field of the base class, made on demand
    def array(self) -> NDArray:
        """The whole mask `(z, y, x)`, made anew at each call: `block` and `within` cost less."""
        return self._whole(self.block)

    @classmethod
    def of(cls, volume: Volume) -> Mask:
        """A volume as a mask; a mask itself."""
        return volume if isinstance(volume, cls) else cls(volume.array, volume.grid)

    def as_binary(self) -> Mask:
        """The boolean mask of `binary`."""
        if self._box is None or self.block.dtype == bool:
            return self
        return self.of_block(self._binary, self._box, self.grid)

    def as_touched(self) -> Mask:
        """The boolean mask of `touched`."""
        if self._box is None or self.block.dtype == bool:
            return self
        return self.of_block(self.block.astype(bool), self._box, self.grid)

    @property
    def _binary(self) -> NDArray[np.bool_]:
        return to_binary(self.block)

    @property
    def is_empty(self) -> bool:
        """Whether nothing belongs to the structure."""
        return self._box is None

    def weights(self) -> NDArray[np.float32]:
        """The share of each voxel that belongs to the structure: 0…1, dust is 0."""
        return self._whole(self.block.astype(np.float32, copy=False))

    def binary(self) -> NDArray[np.bool_]:
        """At least half inside; a structure too thin or small for that keeps its fullest voxels."""
        return self._whole(self._binary)

    def touched(self) -> NDArray[np.bool_]:
        """Every voxel of which a part is inside: what published models take as a mask."""
        return self._whole(self.block.astype(bool, copy=False))

    def majority(self) -> NDArray[np.bool_]:
        """More than half inside, whatever is left of a thin structure: what strips are made of."""
        return self._whole(majority(self.block))

    def bounding_box(self, margin: int = 0) -> Box | None:
        """Slices of the block that holds every touched voxel, and a margin; None if it is empty."""
        if self._box is None:
            return None
        z, y, x = (
            slice(max(0, edge.start - margin), min(size, edge.stop + margin))
            for edge, size in zip(self._box, self.grid.shape, strict=True)
        )
        return (z, y, x)

    def within(self, box: Box) -> NDArray:
        """`array[box]`, at the cost of that block alone."""
        if box == self._box:
            return self.block
        result = np.zeros([edge.stop - edge.start for edge in box], self.block.dtype)
        if self._box is not None:
            shared = [
                slice(max(a.start, b.start), max(min(a.stop, b.stop), max(a.start, b.start)))
                for a, b in zip(box, self._box, strict=True)
            ]
            here, there = (
                tuple(
                    slice(part.start - edge.start, part.stop - edge.start)
                    for part, edge in zip(shared, outer, strict=True)
                )
                for outer in (box, self._box)
            )
            result[here] = self.block[there]
        return result

    def filled(self, outside: float = 0.0) -> tuple[NDArray, Box] | None:
        """See `Volume.filled`."""
        if outside:
            return super().filled(outside)
        return None if self._box is None else (self.block, self._box)

    def reordered_to_lps(self) -> Mask:
        """See `Volume.reordered_to_lps`."""
        return Mask.of(super().reordered_to_lps())

    def resampled_to(
        self, grid: Grid, interpolation: Interpolation = "occupancy", outside: float = 0.0
    ) -> Mask:
        """The structure on another grid, by default as occupancy. See `Volume.resampled_to`."""
        return self if self.grid.matches(grid) else self._moved(grid, interpolation, outside)

    @kept
    def _moved(self, grid: Grid, interpolation: Interpolation, outside: float) -> Mask:
        moved = super().resampled_to(grid, interpolation, outside)
        if moved.array.dtype != bool:  # sums of shares may round beyond 1
            moved = Volume(np.clip(moved.array, 0, 1), moved.grid)
        return Mask.of(moved)

    def _whole(self, block: NDArray) -> NDArray:
        """A block of the box's size in its place; the block itself where that is the grid."""
        if block.shape == self.grid.shape:
            return block
        result = np.zeros(self.grid.shape, block.dtype)
        if self._box is not None:
            result[self._box] = block
        return result


def _closely(block: NDArray, box: Box | None) -> tuple[NDArray, Box | None]:
    """The part of a block that holds anything, and where that lies; see `Mask._keep`."""
    inner = bounding_box(block) if block.size else None
    if inner is None:
        return block[:0, :0, :0], None
    z, y, x = (
        edge if outer is None else slice(outer.start + edge.start, outer.start + edge.stop)
        for outer, edge in zip(box or (None, None, None), inner, strict=True)
    )
    return block[inner], (z, y, x)


def _require_occupancy(block: NDArray) -> None:
    low, high = float(block.min()), float(block.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int(np.count_nonzero(~np.isfinite(block)))
        message = f"A mask holds {count} voxels that are NaN or infinite. Export it again."
        raise CaseError(message)
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise CaseError(
            f"A mask holds values from {low:g} to {high:g}: a mask is boolean, or an occupancy "
            "from 0 to 1."
        )


def weights_of(occupancy: NDArray) -> NDArray:
    """Occupancy `(z, y, x)` with its dust set to 0, within 0…1; without any, the array itself."""
    if occupancy.dtype == bool:
        return occupancy
    highest = float(occupancy.max(initial=0.0))
    if highest < EMPTY_BELOW:
        return np.zeros_like(occupancy)
    # Where the highest is below twice the dust, the fullest voxels are what there is.
    dust = (occupancy != 0) & (occupancy < min(DUST, highest / 2))
    clean = np.where(dust, occupancy.dtype.type(0), occupancy) if dust.any() else occupancy
    return clean if highest <= 1 else np.minimum(clean, occupancy.dtype.type(1))


def without_slivers(occupancy: NDArray) -> NDArray:
    """Occupancy whose every voxel may carry an extreme; one of slivers alone stays as it is."""
    if occupancy.dtype == bool or float(occupancy.max(initial=0.0)) < SLIVER:
        return occupancy
    sliver = (occupancy > 0) & (occupancy < SLIVER)
    return np.where(sliver, occupancy.dtype.type(0), occupancy) if sliver.any() else occupancy


def to_binary(occupancy: NDArray) -> NDArray[np.bool_]:
    """`Mask.binary` of an array, or of one slice or block of a structure."""
    if occupancy.dtype == bool:
        return occupancy
    highest = float(occupancy.max(initial=0.0))
    if highest < EMPTY_BELOW:
        return np.zeros(occupancy.shape, dtype=bool)
    inside: NDArray[np.bool_] = occupancy >= min(0.5, highest / 2)
    return inside


def majority(occupancy: Any) -> Any:
    """`Mask.majority` of an array or a tensor of any shape."""
    return occupancy if str(occupancy.dtype).endswith("bool") else occupancy > 0.5


def is_fractional(mask: NDArray) -> bool:
    """Whether some voxels lie partly inside: an occupancy, and no mask of whole voxels."""
    return mask.dtype != bool and bool(np.any((mask > 0) & (mask < 1)))
