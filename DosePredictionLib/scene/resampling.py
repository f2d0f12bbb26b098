"""Resampling in slabs, so that a window can draw in between."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..interpolation import Interpolation
from ..volume import Grid, Volume

__all__ = ["resampled_in_slabs"]

# Target voxels a step: well below 0.1 s where the axes are parallel, and where they are not.
_VOXELS_ALIGNED = 1_000_000
_VOXELS_OBLIQUE = 60_000


def resampled_in_slabs(
    source: Volume, grid: Grid, interpolation: Interpolation
) -> Iterator[Volume | None]:
    """As `Volume.resampled_to`, 0 outside the source: None after each slab, then the whole."""
    if source.grid.matches(grid):
        yield Volume(source.array, grid)
        return
    result = np.zeros(grid.shape, dtype=np.float32)
    first, last = _reach(source.grid, grid)
    aligned = source.grid.is_axis_aligned and grid.is_axis_aligned
    size = np.maximum(last - first, 0)
    area = int(size[0] * size[1])
    depth = max(1, (_VOXELS_ALIGNED if aligned else _VOXELS_OBLIQUE) // max(area, 1))
    for start in range(first[2], last[2] if area else first[2], depth):
        begin = np.array([first[0], first[1], start])
        end = np.array([last[0], last[1], min(start + depth, last[2])])
        slab = grid.cropped(list(begin), list(end - begin))
        part = _cropped_to(source, slab)
        if part is not None:
            block = tuple(slice(b, e) for b, e in zip(begin[::-1], end[::-1], strict=True))
            result[block] = part.resampled_to(slab, interpolation).array
        yield None
    yield Volume(result, grid)


def _reach(source: Grid, target: Grid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First index (x, y, z) of the target that the source reaches, and the one behind the last."""
    corners = source.world_from_index(list(product(*((-0.5, n - 0.5) for n in source.size))))
    index = target.index_from_world(corners)
    size = np.array(target.size)
    first = np.clip(np.floor(index.min(axis=0)), 0, size).astype(int)
    last = np.clip(np.ceil(index.max(axis=0)) + 1, 0, size).astype(int)
    return first, last


def _cropped_to(source: Volume, slab: Grid) -> Volume | None:
    """The block of the source that a slab is computed from; None when it has none."""
    corners = slab.world_from_index(list(product(*((-0.5, n - 0.5) for n in slab.size))))
    index = source.grid.index_from_world(corners)
    size = np.array(source.grid.size)
    # Two voxels more than the slab: what interpolation reaches, and an edge that is none.
    first = np.clip(np.floor(index.min(axis=0)) - 2, 0, size).astype(int)
    last = np.clip(np.ceil(index.max(axis=0)) + 3, 0, size).astype(int)
    if np.any(first >= last):
        return None
    block = tuple(slice(b, e) for b, e in zip(first[::-1], last[::-1], strict=True))
    return Volume(source.array[block], source.grid.cropped(list(first), list(last - first)))
