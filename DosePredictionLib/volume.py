"""Grids and volumes: voxel data that travels with its geometry, and resampling between grids.

Coordinates are millimetres in the DICOM patient frame, LPS (x to the patient's left, y posterior,
z superior). `Grid` counts in (x, y, z) like ITK and DICOM; arrays are indexed `[z, y, x]` like
SimpleITK and Slicer, so `Grid.shape` is `Grid.size` reversed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, sparse

from .errors import GeometryError
from .geometry import Box, bounding_box
from .interpolation import WEIGHTS, Interpolation, average_weights
from .kept import KEPT

__all__ = ["Grid", "Volume", "require_shape", "slabs"]

_ORTHONORMAL_TOLERANCE = 1e-3
_VOXELS_AT_ONCE = 4_000_000
_IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def slabs(shape: Sequence[int]) -> Iterator[slice]:
    """Planes of an array `(z, y, x)`, as many as are copied in about 50 ms, for work in steps."""
    planes = max(1, _VOXELS_AT_ONCE // max(1, shape[1] * shape[2]))
    for start in range(0, shape[0], planes):
        yield slice(start, start + planes)


@dataclass(frozen=True)
class Grid:
    """A regular voxel grid.

    Args:
        size: number of voxels along (x, y, z).
        spacing: distance between voxel centers along each index axis, mm.
        origin: position of the center of voxel (0, 0, 0), LPS mm.
        direction: 3×3 row-major; column j is the LPS direction of index axis j.

    Raises:
        GeometryError: the size is not positive, a spacing is not a positive finite number, or
            the direction is not orthonormal (sheared or scaled).
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[tuple[float, ...], ...] = _IDENTITY

    def __post_init__(self) -> None:
        _set = object.__setattr__
        _set(self, "size", tuple(int(n) for n in self.size))
        _set(self, "spacing", tuple(float(s) for s in self.spacing))
        _set(self, "origin", tuple(float(o) for o in self.origin))
        direction = np.asarray(self.direction, dtype=float).reshape(3, 3)
        _set(self, "direction", tuple(tuple(float(v) for v in row) for row in direction))
        if len(self.size) != 3 or min(self.size) < 1:
            raise GeometryError(f"A grid needs three positive sizes (x, y, z); got {self.size}.")
        if len(self.spacing) != 3 or not all(np.isfinite(s) and s > 0 for s in self.spacing):
            raise GeometryError(
                f"Voxel spacing must be positive and finite on every axis; got {self.spacing} mm."
            )
        if len(self.origin) != 3 or not np.all(np.isfinite(self.origin)):
            raise GeometryError(f"The origin must be three finite numbers; got {self.origin} mm.")
        if not np.all(np.isfinite(direction)):
            raise GeometryError("The direction matrix holds values that are not finite.")
        if np.abs(direction.T @ direction - np.eye(3)).max() > _ORTHONORMAL_TOLERANCE:
            raise GeometryError(
                "The direction matrix is not orthonormal (sheared, scaled or tilted axes): "
                f"{np.array2string(direction, precision=4)}. Resample the image to a regular grid."
            )

    @classmethod
    def from_matrix(cls, size: tuple[int, int, int], index_to_world: NDArray) -> Grid:
        """The grid of a 4×4 matrix from index (x, y, z) to LPS mm.

        Raises:
            GeometryError: a spacing is not positive and finite, or the axes are sheared.
        """
        spacing = np.linalg.norm(index_to_world[:3, :3], axis=0)
        if not np.all(np.isfinite(spacing)) or spacing.min() <= 0:
            raise GeometryError(f"Voxel spacing must be positive and finite; got {spacing} mm.")
        direction = index_to_world[:3, :3] / spacing
        origin = index_to_world[:3, 3]
        return cls(size, tuple(spacing), tuple(origin), tuple(map(tuple, direction)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Array shape (z, y, x)."""
        x, y, z = self.size
        return (z, y, x)

    @cached_property
    def voxel_volume_cc(self) -> float:
        """Volume of one voxel in cm³."""
        return float(np.prod(self.spacing)) / 1000.0

    @cached_property
    def index_to_world(self) -> NDArray[np.float64]:
        """4×4 matrix from continuous index (x, y, z) to LPS mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(self.direction) * np.asarray(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    @cached_property
    def obliquity_degrees(self) -> float:
        """Largest angle between an index axis and the patient axis nearest to it."""
        cosines = np.abs(np.asarray(self.direction)).max(axis=0)
        return float(np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))).max())

    @property
    def is_axis_aligned(self) -> bool:
        """Whether index axes run along patient axes, in any order and sense."""
        return self.obliquity_degrees < 0.06  # what the orthonormality tolerance leaves open

    @property
    def is_lps_ordered(self) -> bool:
        """Whether x, y and z each run nearest to their own patient axis, in its sense."""
        permutation, signs = self.axis_order()
        return permutation == (0, 1, 2) and all(sign > 0 for sign in signs)

    def axis_order(self) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
        """For each patient axis the index axis nearest to it, and its sense."""
        direction = np.asarray(self.direction)
        permutation = max(
            itertools.permutations(range(3)),
            key=lambda p: sum(abs(direction[axis, p[axis]]) for axis in range(3)),
        )
        signs = tuple(float(np.sign(direction[axis, permutation[axis]])) for axis in range(3))
        return permutation, signs  # type: ignore[return-value]

    def world_from_index(self, index: ArrayLike) -> NDArray[np.float64]:
        """LPS mm of continuous indices `(..., 3)` in (x, y, z) order."""
        matrix = self.index_to_world
        return np.asarray(index, dtype=float) @ matrix[:3, :3].T + matrix[:3, 3]

    def index_from_world(self, position_mm: ArrayLike) -> NDArray[np.float64]:
        """Continuous indices (x, y, z) of LPS positions `(..., 3)`, mm."""
        inverse = np.linalg.inv(self.index_to_world)
        return np.asarray(position_mm, dtype=float) @ inverse[:3, :3].T + inverse[:3, 3]

    def matches(self, other: Grid, tolerance: float = 1e-2) -> bool:
        """Same size, and every corner within `tolerance` of a voxel of the other grid's."""
        if self.size != other.size:
            return False
        corners = list(itertools.product(*((0, n - 1) for n in self.size)))
        apart = np.abs(self.world_from_index(corners) - other.world_from_index(corners))
        return bool(apart.max() <= tolerance * min(self.spacing))

    def extent_overlaps(self, other: Grid) -> bool:
        """Whether the bounding boxes of the two grids share space."""
        (low, high), (other_low, other_high) = self.bounds_mm(), other.bounds_mm()
        return bool(np.all(low < other_high) and np.all(other_low < high))

    def bounds_mm(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest LPS coordinate of the grid, voxel edges included."""
        corners = list(itertools.product(*((-0.5, n - 0.5) for n in self.size)))
        world = self.world_from_index(corners)
        return world.min(axis=0), world.max(axis=0)

    def refined(self, factor: int) -> Grid:
        """The grid whose voxels divide these into `factor` along every axis."""
        first = self.world_from_index([(1 / factor - 1) / 2] * 3)
        x, y, z = self.size
        dx, dy, dz = self.spacing
        return replace(
            self,
            size=(x * factor, y * factor, z * factor),
            spacing=(dx / factor, dy / factor, dz / factor),
            origin=(float(first[0]), float(first[1]), float(first[2])),
        )

    def cropped(self, start: Sequence[float], size: Sequence[int]) -> Grid:
        """The grid of a block that begins at index `start` (x, y, z; may be negative: padding)."""
        x, y, z = size
        origin = self.world_from_index(np.asarray(start, dtype=float))
        return replace(self, size=(x, y, z), origin=tuple(origin))

    def __str__(self) -> str:
        size = "×".join(str(n) for n in self.size)
        spacing = "×".join(f"{s:.4g}" for s in self.spacing)
        origin = ", ".join(f"{o:.1f}" for o in self.origin)
        oblique = "" if self.is_axis_aligned else f", oblique by {self.obliquity_degrees:.1f}°"
        return f"{size} voxels of {spacing} mm from ({origin}){oblique}"


def require_shape(array: NDArray, grid: Grid) -> None:
    """Refuse an array that is not of a grid's shape.

    Raises:
        GeometryError: names both shapes.
    """
    if array.shape != grid.shape:
        raise GeometryError(
            f"The array's shape (z, y, x) {array.shape} is not the grid's {grid.shape}."
        )


@dataclass(frozen=True, eq=False)
class Volume:
    """An array `(z, y, x)` on a grid. Units are the caller's: HU, Gy, or occupancy in 0…1.

    Raises:
        GeometryError: the array's shape is not the grid's.
    """

    array: NDArray
    grid: Grid

    def __post_init__(self) -> None:
        require_shape(self.array, self.grid)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != KEPT}

    def within(self, box: Box) -> NDArray:
        """The block `(z, y, x)` that slices cut out."""
        return self.array[box]

    def filled(self, outside: float = 0.0) -> tuple[NDArray, Box] | None:
        """The block of values that are not `outside`, and its place; None without any."""
        box = bounding_box(self.array != outside)
        return None if box is None else (self.array[box], box)

    def with_array(self, array: NDArray) -> Volume:
        """Another array on the same grid."""
        return Volume(array, self.grid)

    def reordered_to_lps(self) -> Volume:
        """Axes permuted and flipped so that they run nearest to L, P and S.

        Voxel values are copied or viewed, never interpolated; an obliquity stays.
        """
        grid = self.grid
        if grid.is_lps_ordered:
            return self
        permutation, signs = grid.axis_order()
        # Array axes are reversed index axes: index axis i is array axis 2 - i.
        array = self.array.transpose([2 - permutation[axis] for axis in (2, 1, 0)])
        corner = np.zeros(3)
        direction = np.empty((3, 3))
        for axis, (source, sign) in enumerate(zip(permutation, signs, strict=True)):
            direction[:, axis] = sign * np.asarray(grid.direction)[:, source]
            if sign < 0:
                corner[source] = grid.size[source] - 1
                array = np.flip(array, axis=2 - axis)
        i, j, k = permutation
        reordered = Grid(
            size=(grid.size[i], grid.size[j], grid.size[k]),
            spacing=(grid.spacing[i], grid.spacing[j], grid.spacing[k]),
            origin=tuple(grid.world_from_index(corner)),
            direction=tuple(map(tuple, direction)),
        )
        return Volume(np.ascontiguousarray(array), reordered)

    def resampled_to(
        self, grid: Grid, interpolation: Interpolation = "linear", outside: float = 0.0
    ) -> Volume:
        """Values carried onto another grid in the same frame of reference.

        Outside this volume's voxels the result is `outside`. A grid that matches returns the
        volume itself, untouched. Results are float32; nearest keeps the type.
        """
        if self.grid.matches(grid):
            return self
        source = self.reordered_to_lps()
        if source.grid.is_axis_aligned and grid.is_axis_aligned:
            return _resample_separably(source, grid, interpolation, outside)
        return _resample_obliquely(source, grid, interpolation, outside)


def _resample_separably(
    source: Volume, grid: Grid, interpolation: Interpolation, outside: float
) -> Volume:
    """Axis-aligned grids: one small sparse matrix per axis, each applied along its own axis."""
    target = Volume(np.broadcast_to(np.int8(0), grid.shape), grid)
    lps_grid = target.reordered_to_lps().grid
    starts = [
        (lps_grid.origin[axis] - source.grid.origin[axis]) / source.grid.spacing[axis]
        for axis in range(3)
    ]
    steps = [lps_grid.spacing[axis] / source.grid.spacing[axis] for axis in range(3)]
    if interpolation == "nearest":
        array = source.array
        result = np.full(lps_grid.shape, outside, dtype=array.dtype)
        index = []
        inside = []
        for axis in (2, 1, 0):
            nearest = np.floor(starts[axis] + steps[axis] * np.arange(lps_grid.size[axis]) + 0.5)
            valid = (nearest >= 0) & (nearest < source.grid.size[axis])
            index.append(nearest[valid].astype(int))
            inside.append(np.flatnonzero(valid))
        result[np.ix_(*inside)] = array[np.ix_(*index)]
    else:
        weights = WEIGHTS[interpolation]
        result = _apply_along_axes(source, lps_grid, starts, steps, weights, outside)
    return _ordered_like(Volume(result, lps_grid), grid)


def _apply_along_axes(
    source: Volume,
    grid: Grid,
    starts: Sequence[float],
    steps: Sequence[float],
    weights: Callable[[int, int, float, float], sparse.csr_array],
    outside: float,
) -> NDArray[np.float32]:
    """Apply `weights(source size, target size, start, step)` along z, y and x in turn.

    Only the block of source voxels that differ from `outside` is touched, for masks are mostly
    empty; in slabs, so that no copy of a large volume is made on the way.
    """
    result = np.full(grid.shape, outside, dtype=np.float32)
    found = source.filled(outside)
    if found is None:
        return result
    block, box = found
    matrices: list[sparse.csr_array] = []
    reach: list[slice] = []
    for axis in (2, 1, 0):
        matrix = weights(source.grid.size[axis], grid.size[axis], starts[axis], steps[axis])
        edge = box[2 - axis]
        matrix = matrix[:, edge.start : edge.stop]
        rows = np.flatnonzero(np.diff(matrix.indptr))
        if rows.size == 0:
            return result
        reach.append(slice(int(rows[0]), int(rows[-1]) + 1))
        matrices.append(matrix[reach[-1]])
    along_z = np.empty((matrices[0].shape[0], *block.shape[1:]), dtype=np.float32)
    for part in slabs((block.shape[1], block.shape[0], block.shape[2])):
        values = block[:, part].astype(np.float32)
        if outside:
            values -= np.float32(outside)
        along_z[:, part] = _apply_along_axis(matrices[0], values, 0)
    placed = result[tuple(reach)]
    for part in slabs(placed.shape):
        placed[part] += _apply_along_axis(
            matrices[2], _apply_along_axis(matrices[1], along_z[part], 1), 2
        )
    return result


def _apply_along_axis(
    matrix: sparse.csr_array, block: NDArray[np.float32], axis: int
) -> NDArray[np.float32]:
    """The sparse matrix times the block along one axis of it."""
    shape = list(block.shape)
    shape[axis] = matrix.shape[0]
    if axis == 0:
        return np.asarray(matrix @ block.reshape(block.shape[0], -1)).reshape(shape)
    if axis == 2:
        rows = block.reshape(-1, block.shape[2])
        return np.ascontiguousarray((matrix @ rows.T).T).reshape(shape)
    result = np.empty(shape, dtype=np.float32)
    for z in range(block.shape[0]):
        result[z] = matrix @ block[z]
    return result


def _ordered_like(volume: Volume, grid: Grid) -> Volume:
    """An LPS-ordered volume with its axes put back into the order of `grid`."""
    if grid.is_lps_ordered:
        return Volume(volume.array, grid)
    permutation, signs = grid.axis_order()
    array = volume.array
    for axis, sign in enumerate(signs):
        if sign < 0:
            array = np.flip(array, axis=2 - axis)
    inverse = np.argsort([2 - permutation[axis] for axis in (2, 1, 0)])
    return Volume(np.ascontiguousarray(array.transpose(inverse)), grid)


def _resample_obliquely(
    source: Volume, grid: Grid, interpolation: Interpolation, outside: float
) -> Volume:
    """Rotated grids: sample through world coordinates; occupancy by averaging sub-samples.

    `averages` is linear between samples of the smooth function at half of the source's spacing.
    """
    if interpolation == "averages":
        x, y, z = source.grid.spacing
        doubled = tuple(2 * count for count in source.grid.size)
        halves = source.grid.cropped((-0.25,) * 3, doubled)
        halves = replace(halves, spacing=(x / 2, y / 2, z / 2))
        weights = (-0.25,) * 3, (0.5,) * 3, average_weights
        source = Volume(_apply_along_axes(source, halves, *weights, outside), halves)
        interpolation = "linear"
    if interpolation == "nearest":
        array = _sample(source, grid, order=0, outside=outside)
        return Volume(array.astype(source.array.dtype), grid)
    # Along each target axis, about one sample per source voxel that the target voxel covers.
    factors = [max(1, round(s / min(source.grid.spacing))) for s in grid.spacing]
    if interpolation == "occupancy":
        factors = [max(2, factor) for factor in factors]
    total = np.zeros(grid.shape, dtype=np.float32)
    for offsets in itertools.product(*((np.arange(n) + 0.5) / n - 0.5 for n in factors)):
        shifted = grid.cropped(offsets, grid.size)
        total += _sample(source, shifted, order=1, outside=outside)
    return Volume(total / np.float32(np.prod(factors)), grid)


def _sample(source: Volume, grid: Grid, order: int, outside: float) -> NDArray[np.float32]:
    """Interpolate at the grid's voxel centers; half a voxel past the edge holds its value."""
    to_source = np.linalg.inv(source.grid.index_to_world) @ grid.index_to_world
    matrix = to_source[:3, :3][::-1, ::-1]  # index order (x, y, z) to array order (z, y, x)
    offset = to_source[:3, 3][::-1]
    padded = np.pad(source.array.astype(np.float32), 1, mode="edge")
    inside = np.pad(np.ones(source.array.shape, dtype=np.float32), 1)
    values = ndimage.affine_transform(
        padded, matrix, offset + 1, output_shape=grid.shape, order=order, cval=outside
    )
    coverage = ndimage.affine_transform(
        inside, matrix, offset + 1, output_shape=grid.shape, order=1, cval=0.0
    )
    return np.where(coverage >= 0.5, values, np.float32(outside))
