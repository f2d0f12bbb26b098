"""Where a structure's surface cuts a voxel, and what dose lies in the part inside.

A cut voxel is a unit cube centered on the origin, in index units, cut by one plane: inside is
`n · x <= p` with the outward normal `n` scaled to `|n_x| + |n_y| + |n_z| = 1`, so that `p` runs
from -1/2 (empty) to 1/2 (full). This is the piecewise-linear interface of volume-of-fluid methods
(Scardovelli and Zaleski 2000, doi 10.1006/jcph.2000.6567). Index units keep it free of spacing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CutCubes",
    "cut_fraction",
    "cut_moments",
    "highest_in_cut",
    "plane_offset",
    "unit_normals",
]

Array = NDArray[np.float64]

_SMALLEST_COMPONENT = 1e-3  # keeps the cubic formula clear of 0/0; moves a plane by < 1e-3 voxel
_BISECTIONS = 3
_SOLVER_STEPS = 9


def unit_normals(normals: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Normals `(count, 3)` scaled to an absolute sum of 1, and which of them have a direction.

    A normal of length zero (a sheet or a speck within the voxel) stays zero.
    """
    total = np.abs(normals[:, 0]) + np.abs(normals[:, 1]) + np.abs(normals[:, 2])
    known = total > 1e-6
    return normals / np.where(known, total, 1.0)[:, None], known


def cut_fraction(normals: Array, offsets: Array) -> Array:
    """Fraction of a unit cube on the inner side of the plane.

    Args:
        normals: `(count, 3)` from `unit_normals`.
        offsets: plane offsets p, `(count,)` or `(count, cells)`.

    Returns:
        Values in 0…1 in the shape of `offsets`.
    """
    return CutCubes(normals).fraction(offsets)


def cut_moments(normals: Array, offsets: Array) -> tuple[Array, Array, Array]:
    """Fraction inside, and mean and variance of `n · x` over the part inside.

    Integrated by parts: with the fraction V up to a plane, `p - mean` is the integral of V over V,
    and the mean square of `p - n · x` is twice the second integral over V.

    Returns:
        Three arrays in the shape of `offsets`; mean and variance are of no use where the fraction
        is 0.
    """
    cubes = CutCubes(normals)
    depth = np.clip(offsets + 0.5, 0.0, 1.0)
    mirrored = np.minimum(depth, 1.0 - depth)
    volume, once, twice = cubes.corner_integrals(mirrored, (3, 4, 5))
    squared = cubes.a**2 + cubes.b**2 + cubes.c**2
    squared = squared[:, None] if offsets.ndim == 2 else squared
    upper = depth > 0.5
    volume = np.where(upper, 1.0 - volume, volume)
    once = np.where(upper, depth - 0.5 + once, once)
    twice = np.where(upper, squared / 24.0 + 0.5 * (depth - 0.5) ** 2 - twice, twice)
    safe = np.maximum(volume, 1e-30)
    behind = once / safe
    variance = np.maximum(2.0 * twice / safe - behind**2, 0.0)
    return volume, depth - 0.5 - behind, variance


def plane_offset(normals: Array, fractions: Array) -> Array:
    """Plane offset p `(count,)` that leaves `fractions` `(count,)` of the cube inside.

    A few bisections, then regula falsi in the Illinois variant; to about 1e-6.
    """
    cubes = CutCubes(normals)
    low, high = np.full(len(fractions), -0.5), np.full(len(fractions), 0.5)
    below, above = -fractions, 1.0 - fractions
    side = np.zeros(len(fractions))
    offset = fractions - 0.5
    for step in range(_SOLVER_STEPS):
        excess = cubes.fraction(offset) - fractions
        too_full = excess > 0
        # Illinois: the end that stays twice running counts half.
        above = np.where(too_full, excess, np.where(side < 0, 0.5 * above, above))
        below = np.where(too_full, np.where(side > 0, 0.5 * below, below), excess)
        high, low = np.where(too_full, offset, high), np.where(too_full, low, offset)
        side = np.where(too_full, 1.0, -1.0)
        share = 0.5 if step < _BISECTIONS else -below / np.maximum(above - below, 1e-30)
        offset = low + share * (high - low)
    return offset


class CutCubes:
    """Unit cubes cut across given normals `(count, 3)`, for any position of the plane."""

    def __init__(self, normals: Array) -> None:
        lengths = [np.maximum(np.abs(normals[:, axis]), _SMALLEST_COMPONENT) for axis in range(3)]
        total = lengths[0] + lengths[1] + lengths[2]
        self.a, self.b, self.c = (length / total for length in lengths)
        self._scale = 1.0 / (self.a * self.b * self.c)

    def fraction(self, offsets: Array) -> Array:
        """Fraction inside for plane offsets `(count,)` or `(count, cells)`."""
        depth = np.clip(offsets + 0.5, 0.0, 1.0)
        # By symmetry only the half up to the middle is evaluated: no cancellation near full.
        (lower,) = self.corner_integrals(np.minimum(depth, 1.0 - depth), (3,))
        return np.where(depth <= 0.5, lower, 1.0 - lower)

    def corner_integrals(self, depth: Array, powers: tuple[int, ...]) -> list[Array]:
        """Volume cut off at a corner (power 3) and its first and second integrals (4, 5).

        `depth` in 0…1/2 runs from the corner. Inclusion and exclusion of the corners passed.
        """
        a, b, c, scale = self.a, self.b, self.c, self._scale
        if depth.ndim == 2:
            a, b, c, scale = a[:, None], b[:, None], c[:, None], scale[:, None]
        edges = [np.maximum(depth - length, 0.0) for length in (a, b, c)]
        faces = [np.maximum(depth - length, 0.0) for length in (a + b, b + c, a + c)]
        results = []
        for power in powers:
            total = _power(depth, power)
            for edge, face in zip(edges, faces, strict=True):
                total = total - _power(edge, power) + _power(face, power)
            results.append(np.maximum(total, 0.0) * scale / {3: 6.0, 4: 24.0, 5: 120.0}[power])
        return results


def _power(values: Array, power: int) -> Array:
    cube = values * values * values
    return cube if power == 3 else cube * values if power == 4 else cube * values * values


def highest_in_cut(slopes: Array, normals: Array, offsets: Array) -> Array:
    """Highest rise of a linear function over the inner part of a cut unit cube.

    Maximizes `slopes · x` subject to `|x_a| <= 1/2` and `n · x <= p`, exactly: by linear
    programming duality it is the least of `sum_a |slope_a - t n_a| / 2 + t p` over `t >= 0`, whose
    minimum lies at 0 or at a break point `slope_a / n_a`.

    Args:
        slopes: `(..., 3)`, rise per cube edge.
        normals: `(..., 3)`.
        offsets: `(...)`; the part must not be empty (p > -1/2).
    """
    best = 0.5 * _absolute_sum(slopes)
    for axis in range(3):
        component = normals[..., axis]
        usable = np.abs(component) > 1e-9
        step = np.where(usable, slopes[..., axis] / np.where(usable, component, 1.0), -1.0)
        value = 0.5 * _absolute_sum(slopes - step[..., None] * normals) + step * offsets
        best = np.where(step >= 0, np.minimum(best, value), best)
    return best


def _absolute_sum(vectors: Array) -> Array:
    """Sum of the three absolute components (a reduction over so short an axis is slow)."""
    return np.abs(vectors[..., 0]) + np.abs(vectors[..., 1]) + np.abs(vectors[..., 2])
