"""The surface of a binary mask, estimated between voxel centers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize, special

from ..geometry import bounding_box
from ..mask import is_fractional, majority
from .cells import CutCubes, unit_normals

__all__ = ["MARGIN", "estimated_occupancy"]

Array = NDArray[np.float64]

_SIGMA_PER_THICKNESS = 0.7  # smoothing, voxels, for each voxel of volume over surface
_WIDEST_SIGMA = 2.0  # by trial on balls, cylinders and cones; see docs/evaluation.md
_THINNEST = 1.2  # volume over surface: sheets and specks below it are left as they are
_LARGEST = 100_000  # voxels; beyond, half a voxel at the surface no longer shows in any endpoint
_SHELL = 2.0  # voxels on both sides of the surface that may change
MARGIN = 9  # voxels around a structure that its smoothed surface may depend on


def estimated_occupancy(mask: NDArray) -> NDArray[np.float32] | None:
    """Occupancy of each voxel, `(z, y, x)`: a binary mask's surface smoothed, its volume kept.

    None for a fractional mask, and for a binary one that is too large or too thin to gain by it.
    It serves lowest and highest doses: their place on a smooth surface is off by up to half a voxel
    in whole voxels. It does not serve a curve: it rounds edges that whole voxels keep. A plane is
    placed in every voxel near the surface, at the distance where the mask smoothed by a Gaussian
    passes one half. A voxel of the mask keeps at least half of its volume, one outside gains at
    most half, and one shift of all planes makes the volume equal to the count of voxels, which is
    the unbiased estimate.
    """
    if is_fractional(mask):
        return None
    binary: NDArray[np.bool_] = majority(mask)
    count = int(np.count_nonzero(binary))
    if count == 0 or count > _LARGEST:
        return None
    box = bounding_box(binary, MARGIN)
    assert box is not None
    block = binary[box]
    surface = count - int(np.count_nonzero(ndimage.binary_erosion(block, border_value=1)))
    if surface == 0 or count / surface < _THINNEST:
        return None
    result = binary.astype(np.float32)
    sigma = min(_WIDEST_SIGMA, _SIGMA_PER_THICKNESS * count / surface)
    result[box] = _smoothed(block, sigma)
    return result


def _smoothed(block: NDArray[np.bool_], sigma: float) -> NDArray[np.float32]:
    """Occupancy of a block whose mask does not change beyond its faces."""
    smooth = ndimage.gaussian_filter(
        block.astype(np.float32), sigma, mode="nearest", truncate=3.0, output=np.float32
    )
    low, high = special.ndtr(np.array([-_SHELL, _SHELL]) / sigma)
    shell = np.flatnonzero((smooth > low) & (smooth < high))
    distance = sigma * special.ndtri(smooth.reshape(-1)[shell].astype(np.float64))
    normals, known = unit_normals(-_gradient(smooth, shell))
    shell, distance, normals = shell[known], distance[known], normals[known]
    inside = block.reshape(-1)[shell]
    cubes = CutCubes(normals)
    scale = np.linalg.norm(normals, axis=1)
    wanted = float(np.count_nonzero(inside))

    def fraction_at(shift: float) -> Array:
        fraction = cubes.fraction((distance + shift) * scale)
        return np.where(inside, np.maximum(fraction, 0.5), np.minimum(fraction, 0.5))

    shift = _root(lambda value: float(fraction_at(value).sum()) - wanted)
    result = block.astype(np.float32)
    result.reshape(-1)[shell] = fraction_at(shift)
    return result


def _root(excess: Callable[[float], float]) -> float:
    """Where a rising function of the planes' shift passes 0, to a thousandth of a voxel."""
    if excess(-1.0) >= 0:
        return -1.0
    if excess(1.0) <= 0:
        return 1.0
    return float(optimize.brentq(excess, -1.0, 1.0, xtol=1e-3))


def _gradient(values: NDArray[np.float32], index: NDArray[np.int64]) -> Array:
    """Differences along z, y and x at flat positions; one-sided at the block's faces."""
    position = np.stack(np.unravel_index(index, values.shape), axis=1)
    gradient = np.empty((index.size, 3))
    for axis in range(3):
        last = values.shape[axis] - 1
        above, below = position.copy(), position.copy()
        above[:, axis] = np.minimum(above[:, axis] + 1, last)
        below[:, axis] = np.maximum(below[:, axis] - 1, 0)
        gradient[:, axis] = values[tuple(above.T)] - values[tuple(below.T)]
    return gradient
