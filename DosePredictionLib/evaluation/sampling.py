"""Dose between voxel centers, split into the small cells of one structure.

Between centers the dose is trilinear, plus a curvature term of the cubic convolution interpolant
(Keys 1981, doi 10.1109/TASSP.1981.1163711) that is limited where neighboring second differences
disagree: it follows a smooth peak, and stays trilinear on noise and on steps, so that it never
rings. Nothing here resamples or reads geometry: positions are in index units.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import DosePredictionError
from ..geometry import bounding_box
from ..mask import without_slivers
from .cells import cut_moments, highest_in_cut, plane_offset, unit_normals

__all__ = ["Cells", "extremes", "structure_cells"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

_MARGIN = 2  # voxels around the structure's box that interpolation reads
_LIMIT = 2.0  # a curvature may exceed its neighbors' at most by this factor
_WHOLE = 1.0 - 1e-6
_CELLS_WANTED = 30_000
_ONE_THREAD = 200_000  # multiplications of a product that OpenBLAS does not share among threads
_EXTREME_CANDIDATES = 96
_PATCH_RADIUS = 0.2  # voxels from the middle of a cut's plane within which extremes are sought


@dataclass(frozen=True)
class Cells:
    """The cells of one structure.

    Args:
        dose_gy: mean dose of each cell, `(cells,)`.
        half_width_gy: half the dose range of the uniform distribution that stands for the cell.
        voxels: volume of each cell inside the structure, in voxels.
        lowest_gy: lowest dose anywhere in the structure.
        highest_gy: highest dose anywhere in the structure.
    """

    dose_gy: Array
    half_width_gy: Array
    voxels: Array
    lowest_gy: float
    highest_gy: float


def structure_cells(dose: NDArray, occupancy: NDArray, surface: NDArray | None = None) -> Cells:
    """Cells of a structure in `dose` `(z, y, x)`.

    Voxels that the surface cuts are cut by a plane; all voxels are subdivided the more finely the
    fewer they are. Sizes of 1, 2 or 4 cells along an edge never straddle a voxel's center.

    Args:
        dose: Gy.
        occupancy: 0…1, not all zero, in the dose's shape.
        surface: another occupancy of the same structure, in which lowest and highest dose are
            sought, where the first one has only whole voxels.
    """
    parts = _parts(dose, occupancy)
    cells = [part.cells() for part in parts]
    outermost = occupancy if surface is None else surface
    sought = without_slivers(outermost)
    bounds = parts if sought is occupancy else _parts(dose, sought)
    floor = 0.0 if float(dose.min()) >= 0 else -np.inf
    return Cells(
        dose_gy=np.maximum(np.concatenate([c[0] for c in cells]), floor),
        half_width_gy=np.concatenate([c[1] for c in cells]),
        voxels=np.concatenate([c[2] for c in cells]),
        lowest_gy=max(floor, -_highest(bounds, -1.0)),
        highest_gy=_highest(bounds, 1.0),
    )


def extremes(
    dose: NDArray, occupancy: NDArray, coldest: Index, hottest: Index
) -> tuple[float, float]:
    """Lowest and highest dose of a structure, sought in a few of its voxels.

    Args:
        dose: Gy, `(z, y, x)`.
        occupancy: 0…1, in the dose's shape.
        coldest: flat indices of the voxels in which the lowest dose may lie; not empty.
        hottest: likewise for the highest.
    """
    floor = 0.0 if float(dose.min()) >= 0 else -np.inf
    lowest = -_highest(_parts_around(dose, occupancy, coldest), -1.0)
    return max(floor, lowest), _highest(_parts_around(dose, occupancy, hottest), 1.0)


def _parts_around(dose: NDArray, occupancy: NDArray, index: Index) -> list[_Part]:
    """The parts of some voxels alone, from the 5³ block around each, side by side."""
    reach = np.arange(-_MARGIN, _MARGIN + 1)
    place = np.unravel_index(index, dose.shape)
    # Past the grid's edge the dose stays; the structure ends there.
    rows = [at[:, None] + reach for at in place]
    held = [np.clip(row, 0, size - 1) for row, size in zip(rows, dose.shape, strict=True)]
    z, y, x = held[0][:, :, None, None], held[1][:, None, :, None], held[2][:, None, None, :]
    beyond = [row != kept for row, kept in zip(rows, held, strict=True)]
    outside = beyond[0][:, :, None, None] | beyond[1][:, None, :, None] | beyond[2][:, None, None]
    doses = dose[z, y, x]
    masks = np.where(outside, occupancy.dtype.type(0), occupancy[z, y, x])
    edge = reach.size
    steps = (edge * edge, edge, 1)
    field = _Field(np.ascontiguousarray(doses.reshape(-1, edge, edge)), steps)
    inside = _Field(np.ascontiguousarray(masks.reshape(-1, edge, edge)), steps)
    middles = np.arange(index.size) * edge**3 + _MARGIN * (edge * edge + edge + 1)
    return _parts_of(field, inside, middles)


def _parts(dose: NDArray, occupancy: NDArray) -> list[_Part]:
    field, inside = _crop(dose, occupancy)
    return _parts_of(field, inside, np.flatnonzero(inside.array))


def _parts_of(field: _Field, inside: _Field, index: Index) -> list[_Part]:
    fraction = inside.array.reshape(-1)[index].astype(np.float64)
    whole = fraction >= _WHOLE
    parts: list[_Part] = []
    if whole.any():
        parts.append(_WholeVoxels(field, inside, index[whole], drawn=not whole.all()))
    if not whole.all():
        cut = _cut_voxels(field, inside, index[~whole], fraction[~whole])
        parts.extend(part for part in cut if part.index.size)
    return parts


@dataclass(frozen=True)
class _Field:
    """A contiguous padded block with the flat steps to its neighbors along z, y and x."""

    array: NDArray
    steps: tuple[int, int, int]

    def at(self, index: Index) -> Array:
        return self.array.reshape(-1)[index].astype(np.float64)

    def slopes(self, index: Index) -> Array:
        """Central first differences per voxel, `(count, 3)`."""
        flat = self.array.reshape(-1)
        result = np.empty((index.size, 3))
        for axis, step in enumerate(self.steps):
            np.subtract(flat[index + step], flat[index - step], out=result[:, axis])
        return result * 0.5

    def bends(self, index: Index) -> Array:
        """Limited second differences per voxel, `(count, 3)`."""
        flat = self.array.reshape(-1)
        center = flat[index].astype(np.float64)
        result = np.empty((index.size, 3))
        for axis, step in enumerate(self.steps):
            below, above = flat[index - step], flat[index + step]
            bend = above - 2.0 * center + below
            bend_below = center - 2.0 * below + flat[index - 2 * step]
            bend_above = flat[index + 2 * step] - 2.0 * above + center
            result[:, axis] = _limited(bend, bend_below, bend_above)
        return result

    def ceiling(self, index: Index, sign: float) -> Array:
        """Bound of `sign` × the interpolant in each voxel, `(count, 1)`."""
        around = (sign * self.neighborhood(index)).max(axis=1)
        return (around + _absolute_sum(self.bends(index)) / 8.0)[:, None]

    def neighborhood(self, index: Index) -> Array:
        """The 27 values around each voxel, `(count, 27)`, z slowest."""
        z, y, x = self.steps
        offsets = [
            a * z + b * y + c * x for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)
        ]
        return self.at(index[:, None] + np.asarray(offsets)[None, :])


def _limited(bend: Array, below: Array, above: Array) -> Array:
    """Second difference held to its neighbors' sign and to `_LIMIT` times their size."""
    sign = np.sign(bend)
    bound = _LIMIT * np.minimum(sign * below, sign * above)
    return sign * np.maximum(np.minimum(np.abs(bend), bound), 0.0)


def _crop(dose: NDArray, occupancy: NDArray) -> tuple[_Field, _Field]:
    """Both arrays cut to the structure's box and a margin; past the grid's edge the dose stays."""
    box = bounding_box(occupancy, _MARGIN)
    if box is None:
        raise DosePredictionError("An empty structure has no cells.")
    tight = bounding_box(occupancy[box])
    assert tight is not None
    missing = [
        (_MARGIN - inner.start, _MARGIN - (outer.stop - outer.start - inner.stop))
        for outer, inner in zip(box, tight, strict=True)
    ]
    cropped_dose, cropped_mask = dose[box], occupancy[box]
    if any(before or after for before, after in missing):
        cropped_dose = np.pad(cropped_dose, missing, mode="edge")
        cropped_mask = np.pad(cropped_mask, missing, mode="edge")
        cropped_mask = _emptied_beyond(cropped_mask, missing)
    cropped_dose = np.ascontiguousarray(cropped_dose)
    steps = (cropped_dose.shape[1] * cropped_dose.shape[2], cropped_dose.shape[2], 1)
    return _Field(cropped_dose, steps), _Field(np.ascontiguousarray(cropped_mask), steps)


def _emptied_beyond(mask: NDArray, missing: list[tuple[int, int]]) -> NDArray:
    """Zero in the padding: a structure ends where the grid does."""
    result = np.zeros_like(mask)
    inner = tuple(
        slice(before, size - after)
        for (before, after), size in zip(missing, mask.shape, strict=True)
    )
    result[inner] = mask[inner]
    return result


def _divisions(count: int, most: int = 4) -> int:
    """Cells along a voxel's edge for so many voxels."""
    for divisions in (4, 2):
        if divisions <= most and count * divisions**3 <= _CELLS_WANTED:
            return divisions
    return 1


@lru_cache
def _cell_stencil(divisions: int) -> tuple[Array, Array, Array]:
    """Weights from the 27 neighbors to each cell's mean dose and slopes, and the cells' centers.

    Returns:
        `(27, cells)` trilinear weights at the centers; `(27, 3 * cells)` slopes per voxel edge,
        axis slowest; `(cells, 3)` centers (z, y, x) in index units from the voxel's center.
    """
    positions = (np.arange(divisions) + 0.5) / divisions - 0.5
    value = np.stack([_hat(positions + k) for k in (1, 0, -1)])  # (3, divisions)
    half = 0.5 / divisions
    slope = np.stack(
        [(_hat(positions + k + half) - _hat(positions + k - half)) * divisions for k in (1, 0, -1)]
    )
    values = np.einsum("ai,bj,ck->abcijk", value, value, value).reshape(27, -1)
    slopes = [
        np.einsum("ai,bj,ck->abcijk", *(slope if b == axis else value for b in range(3)))
        for axis in range(3)
    ]
    grid = np.meshgrid(positions, positions, positions, indexing="ij")
    centers = np.stack([g.reshape(-1) for g in grid], axis=1)
    return values, np.concatenate([s.reshape(27, -1) for s in slopes], axis=1), centers


def _hat(distance: Array) -> Array:
    return np.maximum(0.0, 1.0 - np.abs(distance))


def _cell_doses(field: _Field, index: Index, divisions: int) -> tuple[Array, Array]:
    """Dose `(count, cells)` and slopes per voxel edge `(count, cells, 3)` at the cells' centers."""
    second = field.bends(index)
    if divisions == 1:
        # The mean over the voxel of the curved interpolant is f + f''/24.
        mean = field.at(index) + (second[:, 0] + second[:, 1] + second[:, 2]) / 24.0
        return mean[:, None], field.slopes(index)[:, None, :]
    values, slopes, centers = _cell_stencil(divisions)
    around = field.neighborhood(index)
    distance = np.abs(centers)
    sag = -0.5 * distance * (1.0 - distance)
    dose = _product(around, values) + _product(second, sag.T)
    sag_slope = np.sign(centers) * (distance - 0.5)
    tilt = np.stack([_product(around, s) for s in np.split(slopes, 3, axis=1)], axis=2)
    return dose, tilt + second[:, None, :] * sag_slope[None]


def _product(rows: Array, weights: Array) -> Array:
    """`rows @ weights`, in blocks so small that the BLAS library keeps to one thread.

    Its threads wait for each other: beside another busy process that made milliseconds of work last
    a third of a second.
    """
    step = max(1, _ONE_THREAD // weights.size)
    return np.concatenate([rows[at : at + step] @ weights for at in range(0, len(rows), step)])


class _WholeVoxels:
    """Voxels that lie wholly inside.

    Args:
        drawn: whether the structure has cut voxels as well, so that it is no binary mask.
    """

    def __init__(self, field: _Field, inside: _Field, index: Index, drawn: bool) -> None:
        self.field, self.inside, self.index, self.drawn = field, inside, index, drawn
        self._reach: Array | None = None

    def cells(self) -> tuple[Array, Array, Array]:
        divisions = _divisions(self.index.size)
        dose, slopes = _cell_doses(self.field, self.index, divisions)
        width = 0.5 / divisions * np.sqrt(_squared_sum(slopes))
        volume = np.full(dose.size, 1.0 / divisions**3)
        return dose.reshape(-1), width.reshape(-1), volume

    def rough_highest(self, sign: float) -> Array:
        if self._reach is None:
            self._reach = 0.5 * _absolute_sum(self.field.slopes(self.index))
        return sign * self.field.at(self.index) + self._reach

    def highest(self, rows: Index, sign: float) -> float:
        dose, slopes = _cell_doses(self.field, self.index[rows], 4)
        around = self.inside.neighborhood(self.index[rows])
        # Beside cut voxels an occupancy rounded up to 1 hides a corner outside; the cut voxels
        # themselves state how far the surface reaches.
        beside_cut = np.any((around > 0) & (around < _WHOLE), axis=1, keepdims=True)
        to_corner = 0.125 * _absolute_sum(slopes)
        reached = sign * dose + np.where(beside_cut, 0.0, to_corner)
        reached = np.minimum(reached, self.field.ceiling(self.index[rows], sign))
        used = _as_far_as_drawn(self.inside, self.index[rows]) if self.drawn else True
        return float(np.where(used, reached, -np.inf).max())


class _CutVoxels:
    """Voxels cut by a plane, `normals` `(count, 3)` in array order (z, y, x)."""

    def __init__(
        self, field: _Field, inside: _Field, index: Index, normals: Array, offsets: Array
    ) -> None:
        self.field, self.inside, self.index = field, inside, index
        self.normals, self.offsets = normals, offsets

    def _planes(self, rows: Index | slice, divisions: int) -> Array:
        """Plane offsets in each cell's own unit cube, `(count, cells)`."""
        _, _, centers = _cell_stencil(divisions)
        return (self.offsets[rows][:, None] - self.normals[rows] @ centers.T) * divisions

    def cells(self) -> tuple[Array, Array, Array]:
        divisions = _divisions(self.index.size)
        dose, slopes = _cell_doses(self.field, self.index, divisions)
        volume, mean, variance = cut_moments(self.normals, self._planes(slice(None), divisions))
        # Along the normal the part inside has its own mean and variance; along the plane it is
        # taken as wide as the whole cell.
        slopes = slopes / divisions
        squared = (self.normals**2).sum(axis=1)[:, None]
        across = np.einsum("nca,na->nc", slopes, self.normals) / squared
        dose = dose + mean * across
        spread = _squared_sum(slopes) - across**2 * squared + 12.0 * across**2 * variance
        width = 0.5 * np.sqrt(np.maximum(spread, 0.0))
        kept = volume > 1e-9
        return dose[kept], width[kept], volume[kept] / divisions**3

    def rough_highest(self, sign: float) -> Array:
        slopes = sign * self.field.slopes(self.index)
        return sign * self.field.at(self.index) + highest_in_cut(slopes, self.normals, self.offsets)

    def highest(self, rows: Index, sign: float) -> float:
        dose, slopes = _cell_doses(self.field, self.index[rows], 4)
        planes = self._planes(rows, 4)
        rise = highest_in_cut(
            sign * slopes / 4, self.normals[rows][:, None, :], np.minimum(planes, 0.5)
        )
        reached = np.minimum(sign * dose + rise, self.field.ceiling(self.index[rows], sign))
        used = (planes > -0.5) & self._near_the_patch(rows, planes)
        used &= _as_far_as_drawn(self.inside, self.index[rows])
        return float(np.where(used, reached, -np.inf).max())

    def _near_the_patch(self, rows: Index, planes: Array) -> NDArray[np.bool_]:
        """Cells not far along the plane from the middle of its patch, `(count, cells)`.

        A plane's corners stand out of a curved surface; its middle is where it is true.
        """
        _, _, centers = _cell_stencil(4)
        cut = np.less_equal(np.abs(planes), 0.5).astype(np.float64)
        middle = (cut @ centers) / np.maximum(cut.sum(axis=1), 1.0)[:, None]
        away = centers[None] - middle[:, None, :]
        length = np.linalg.norm(self.normals[rows], axis=1)
        across = np.einsum("nca,na->nc", away, self.normals[rows] / length[:, None])
        along = np.sqrt(np.maximum((away**2).sum(axis=2) - across**2, 0.0))
        present = np.where(planes > -0.5, along, np.inf)
        reach = np.maximum(_PATCH_RADIUS, present.min(axis=1, keepdims=True))
        return np.asarray(along <= reach)


class _Specks:
    """Partly filled voxels whose surface has no direction: taken as a small cube in the middle."""

    def __init__(self, field: _Field, index: Index, fraction: Array) -> None:
        self.field, self.index, self.fraction = field, index, fraction

    def cells(self) -> tuple[Array, Array, Array]:
        slopes = self.field.slopes(self.index)
        width = 0.5 * np.cbrt(self.fraction) * np.sqrt((slopes**2).sum(axis=1))
        return self.field.at(self.index), width, self.fraction

    def rough_highest(self, sign: float) -> Array:
        rise = 0.5 * np.cbrt(self.fraction) * _absolute_sum(self.field.slopes(self.index))
        return sign * self.field.at(self.index) + rise

    def highest(self, rows: Index, sign: float) -> float:
        _, _, centers = _cell_stencil(4)
        half = np.maximum(0.5 * np.cbrt(self.fraction[rows]), 0.125)
        dose, _ = _cell_doses(self.field, self.index[rows], 4)
        used = np.abs(centers).max(axis=1)[None, :] <= half[:, None]
        return float(np.where(used, sign * dose, -np.inf).max())


_Part = _WholeVoxels | _CutVoxels | _Specks


def _as_far_as_drawn(inside: _Field, index: Index) -> NDArray[np.bool_]:
    """Which of a voxel's 64 cells are searched for extremes, `(count, 64)`.

    Where whole voxels end at empty ones, as at the last slice of contours, the structure was drawn
    on the voxels' own planes: the half voxel beyond is a convention on volumes. Planning systems
    measure the dose as far as the plane, and so do extremes here. Not meant for binary masks.
    """
    around = inside.neighborhood(index).reshape(-1, 3, 3, 3)
    centers = _cell_stencil(4)[2]
    used = np.ones((index.size, len(centers)), dtype=bool)
    for axis in range(3):
        below, middle, above = np.moveaxis(around, axis + 1, 0).reshape(3, -1, 9)
        position = centers[:, axis]
        ends = [
            (outer[:, 4] == 0) & ((middle >= _WHOLE) & (outer == 0)).any(axis=1)
            for outer in (below, above)
        ]
        used &= ~(ends[0] & ~ends[1])[:, None] | (position > 0)
        used &= ~(ends[1] & ~ends[0])[:, None] | (position < 0)
        used &= ~(ends[0] & ends[1])[:, None] | (np.abs(position) < 0.25)  # one voxel thick
    return used


def _cut_voxels(
    field: _Field, inside: _Field, index: Index, fraction: Array
) -> tuple[_CutVoxels, _Specks]:
    """Planes from the occupancy around each cut voxel (Youngs' estimate of the normal)."""
    around = inside.neighborhood(index).reshape(-1, 3, 3, 3)
    smooth = np.array([1.0, 2.0, 1.0])
    normals = np.stack(
        [
            np.einsum(
                "nbc,b,c->n",
                np.moveaxis(around, axis + 1, 1)[:, 0] - np.moveaxis(around, axis + 1, 1)[:, 2],
                smooth,
                smooth,
            )
            for axis in range(3)
        ],
        axis=1,
    )
    normals, known = unit_normals(normals)
    offsets = plane_offset(normals[known], fraction[known])
    return (
        _CutVoxels(field, inside, index[known], normals[known], offsets),
        _Specks(field, index[~known], fraction[~known]),
    )


def _highest(parts: list[_Part], sign: float) -> float:
    """Highest of `sign` × dose over the structure, found among each part's most promising voxels.

    A bound by slopes alone runs far over where dose falls steeply outside, so it is cut at the
    highest dose around before the voxels to look into are chosen.
    """
    best = -np.inf
    for part in parts:
        rough = part.rough_highest(sign)
        rows = _largest(rough, 16 * _EXTREME_CANDIDATES)
        bound = np.minimum(rough[rows], part.field.ceiling(part.index[rows], sign)[:, 0])
        rows = rows[_largest(bound, _EXTREME_CANDIDATES)]
        best = max(best, part.highest(rows, sign))
    return best


def _largest(values: Array, count: int) -> Index:
    """Positions of the `count` largest values, in no order."""
    if values.size <= count:
        return np.arange(values.size)
    return np.argpartition(values, values.size - count)[values.size - count :]


def _absolute_sum(vectors: Array) -> Array:
    """Sum of three absolute components (a reduction over so short an axis is slow)."""
    return np.abs(vectors[..., 0]) + np.abs(vectors[..., 1]) + np.abs(vectors[..., 2])


def _squared_sum(vectors: Array) -> Array:
    """Sum of three squared components."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return x * x + y * y + z * z
