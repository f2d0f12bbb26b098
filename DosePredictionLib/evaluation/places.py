"""Where a dose is what it is: the voxel that decides a metric, the dose at a place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..geometry import bounding_box
from ..mask import to_binary

__all__ = ["Sense", "dose_at", "extreme_voxel"]

Sense = Literal["hot", "cold"]
"""The highest dose, which limits of organs are about, or the lowest, as for coverage."""


def extreme_voxel(dose: NDArray, mask: NDArray, sense: Sense) -> tuple[int, int, int] | None:
    """The voxel of a structure with its highest or lowest dose.

    Of several with one same dose, as where a cold target lies outside the body, the one nearest to
    their common center.

    Args:
        dose: Gy, `(z, y, x)`.
        mask: bool or occupancy in 0…1, of the same shape; voxels that lie at least half inside
            count.

    Returns:
        Its index `(z, y, x)`; None for a structure without a voxel.
    """
    box = bounding_box(mask)
    inside = None if box is None else to_binary(mask[box])
    if box is None or inside is None or not inside.any():
        return None
    block = dose[box]
    found = block[inside].max() if sense == "hot" else block[inside].min()
    places = np.argwhere(inside & (block == found))
    offsets = np.linalg.norm(places - places.mean(axis=0), axis=1)
    z, y, x = places[int(offsets.argmin())] + [edge.start for edge in box]
    return int(z), int(y), int(x)


def dose_at(dose: NDArray, index: Sequence[float]) -> float | None:
    """The dose at a continuous index (x, y, z), interpolated linearly as slices draw it.

    Args:
        dose: Gy, `(z, y, x)`.

    Returns:
        Gy; None outside the grid, half a voxel beyond the outer centers.
    """
    place = np.asarray(index, dtype=float)[::-1]
    size = np.array(dose.shape)
    if np.any(place < -0.5) or np.any(place > size - 0.5):
        return None
    place = np.clip(place, 0, size - 1)
    low = np.minimum(place.astype(int), np.maximum(size - 2, 0))
    share = place - low
    total = 0.0
    for corner in product((0, 1), repeat=3):
        weight = float(np.prod(np.where(np.array(corner) == 1, share, 1 - share)))
        if weight > 0:
            total += weight * float(dose[tuple(low + corner)])
    return total
