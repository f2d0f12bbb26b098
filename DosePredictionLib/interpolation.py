"""Interpolation along one axis of regular voxels, as sparse matrices `(target, source)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["WEIGHTS", "BetweenVoxels", "Interpolation", "average_weights", "box_weights"]

Interpolation = Literal["linear", "nearest", "occupancy", "averages"]
"""How values are carried to another grid.

`linear`: trilinear at the target voxel's center. `nearest`: the nearest voxel. `occupancy`: the
mean over the target voxel's box, so that a small structure is never lost between samples.
`averages`: the smooth function whose averages over the source's voxels are the values, for linear
interpolation lowers what bulges.
"""

BetweenVoxels = Literal["linear", "averages"]


def linear_weights(source: int, target: int, start: float, step: float) -> sparse.csr_array:
    """Linear interpolation at `start + step·i`; up to half a voxel past the edge holds its value.

    Where the target is coarser than the source, the mean over the target's voxel (a box) is taken
    of the interpolant, which keeps noise and small calcifications from aliasing.
    """
    if step > 1.0 + 1e-6:
        return box_weights(source, target, start, step)
    rows, low, fraction = _places(source, target, start, step)
    high = np.minimum(low + 1, source - 1)
    return _weight_matrix(
        np.concatenate([rows, rows]),
        np.concatenate([low, high]),
        np.concatenate([1 - fraction, fraction]),
        (target, source),
    )


def average_weights(source: int, target: int, start: float, step: float) -> sparse.csr_array:
    """As `linear_weights`, of the smooth function whose averages over voxels are the values.

    At a voxel's center it is the average less 1/24 of the second difference (Colella, Woodward
    1984, doi 10.1016/0021-9991(84)90143-8); between centers cubic convolution (Keys 1981, doi
    10.1109/TASSP.1981.1163711).
    """
    if step > 1.0 + 1e-6:
        return box_weights(source, target, start, step)
    rows, low, t = _places(source, target, start, step)
    shares = (
        t * (-0.5 + t * (1 - 0.5 * t)),
        1 + t * t * (1.5 * t - 2.5),
        t * (0.5 + t * (2 - 1.5 * t)),
        t * t * (0.5 * t - 0.5),
    )
    columns = [np.clip(low + k, 0, source - 1) for k in (-1, 0, 1, 2)]
    between = _weight_matrix(
        np.tile(rows, 4), np.concatenate(columns), np.concatenate(shares), (target, source)
    )
    middle = np.full(source, 1 + 2 / 24)
    np.subtract.at(middle, [0, -1], 1 / 24)  # the first may be the last, too
    aside = np.full(source - 1, -1 / 24)
    return (between @ sparse.diags_array([aside, middle, aside], offsets=[-1, 0, 1])).tocsr()


def box_weights(source: int, target: int, start: float, step: float) -> sparse.csr_array:
    """Share of each source voxel in the interval of each target voxel: `occupancy` along one axis.

    Args:
        source, target: voxels along the axis.
        start: position of the first target voxel's center, in source voxels.
        step: target voxel over source voxel.

    Returns:
        `(target, source)`.
    """
    low = start + step * (np.arange(target) - 0.5)
    first = np.floor(low + 0.5).astype(int)
    reach = int(np.ceil(step)) + 1
    columns = first[:, None] + np.arange(reach)[None, :]
    overlap = np.minimum(columns + 0.5, (low + step)[:, None]) - np.maximum(
        columns - 0.5, low[:, None]
    )
    overlap = np.clip(overlap, 0, None) / step
    keep = (columns >= 0) & (columns < source) & (overlap > 1e-9)
    rows = np.broadcast_to(np.arange(target)[:, None], columns.shape)
    return _weight_matrix(rows[keep], columns[keep], overlap[keep], (target, source))


def _places(
    source: int, target: int, start: float, step: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Target voxels inside the source, the source voxel below each, and how far beyond it."""
    position = start + step * np.arange(target)
    rows = np.flatnonzero((position > -0.5) & (position < source - 0.5))
    clamped = np.clip(position[rows], 0, source - 1)
    low = np.minimum(np.floor(clamped).astype(int), max(source - 2, 0))
    return rows, low, clamped - low


def _weight_matrix(
    rows: NDArray, columns: NDArray, values: NDArray, shape: tuple[int, int]
) -> sparse.csr_array:
    matrix = sparse.coo_array((values.astype(np.float32), (rows, columns)), shape=shape).tocsr()
    matrix.eliminate_zeros()
    return matrix


WEIGHTS: dict[Interpolation, Callable[[int, int, float, float], sparse.csr_array]] = {
    "linear": linear_weights,
    "occupancy": box_weights,
    "averages": average_weights,
}
