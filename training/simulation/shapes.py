"""Shapes by their signed distance, rendered as sub-voxel occupancy.

Coordinates are patient coordinates in mm: x to the left, y to the back, z to the head (LPS).
Distances are negative inside. They are exact for tubes and close to it near the surface of
ellipsoids, which is where an occupancy needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

__all__ = [
    "Cut",
    "Ellipsoid",
    "Mirrored",
    "Shape",
    "Sheet",
    "Shrunk",
    "Space",
    "Tube",
    "Union",
    "smooth_minimum",
]

Array = NDArray[np.float32]
Floats = NDArray[np.float64]
Points = tuple[Array, Array, Array]


class Shape(Protocol):
    """Something with an inside."""

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """Lowest and highest x, y, z that it may reach, mm."""

    def distance(self, points: Points) -> Array:
        """Signed distance at points, mm, negative inside."""


@dataclass(frozen=True, eq=False)
class Ellipsoid:
    """An ellipsoid, optionally rotated about the left–right axis (a tilt in the sagittal plane).

    Args:
        center: x, y, z, mm.
        radii: along its own x, y and z axes, mm.
        tilt_deg: turns its z axis toward the back.
        power: 2 for an ellipsoid, more for a boxier shape.
    """

    center: Sequence[float] | Floats
    radii: Sequence[float] | Floats
    tilt_deg: float = 0.0
    power: float = 2.0

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """A box around it, whatever its tilt."""
        reach = np.array([self.radii[0], max(self.radii[1:]), max(self.radii[1:])])
        center = np.asarray(self.center)
        return center - reach, center + reach

    def distance(self, points: Points) -> Array:
        """First-order distance: exact on the surface."""
        x, y, z = (p - np.float32(c) for p, c in zip(points, self.center, strict=True))
        sine, cosine = np.sin(np.deg2rad(self.tilt_deg)), np.cos(np.deg2rad(self.tilt_deg))
        y, z = (
            np.float32(cosine) * y - np.float32(sine) * z,
            np.float32(sine) * y + np.float32(cosine) * z,
        )
        scaled = [np.abs(p) / np.float32(r) for p, r in zip((x, y, z), self.radii, strict=True)]
        level = sum(s**self.power for s in scaled) ** np.float32(1 / self.power)
        slope = sum(
            (s ** (self.power - 1) / np.float32(r)) ** 2
            for s, r in zip(scaled, self.radii, strict=True)
        )
        # f = level − 1 is homogeneous; |∇f| = sqrt(slope) / level^(power − 1).
        steep = np.sqrt(np.maximum(slope, 1e-12)) / np.maximum(level, 1e-3) ** (self.power - 1)
        distance: Array = (level - 1) / steep
        return distance


@dataclass(frozen=True, eq=False)
class Tube:
    """A chain of tapered capsules along a line.

    Args:
        line: `(n, 3)` points, mm.
        radius: mm, one for all points or one for each.
        flatten: factor on distances along (x, y, z): above 1 the tube is thinner along that axis.
    """

    line: ArrayLike
    radius: ArrayLike
    flatten: Sequence[float] = (1.0, 1.0, 1.0)

    @property
    def _nodes(self) -> tuple[Floats, Floats]:
        line = np.atleast_2d(np.asarray(self.line, dtype=float))
        return line, np.broadcast_to(np.asarray(self.radius, dtype=float), len(line))

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """The box of the line, widened by the largest radius."""
        line, radius = self._nodes
        reach = radius.max() / min(1.0, *self.flatten)
        return line.min(axis=0) - reach, line.max(axis=0) + reach

    def distance(self, points: Points) -> Array:
        """Distance to the nearest capsule."""
        line, radius = self._nodes
        scale = np.asarray(self.flatten)
        scaled = [p * np.float32(s) for p, s in zip(points, scale, strict=True)]
        nodes = line * scale
        best = np.full(points[0].shape, np.inf, dtype=np.float32)
        for a, b, ra, rb in zip(nodes[:-1], nodes[1:], radius[:-1], radius[1:], strict=True):
            along = b - a
            length = max(float(along @ along), 1e-9)
            offset = [p - np.float32(c) for p, c in zip(scaled, a, strict=True)]
            dot = sum(o * np.float32(d) for o, d in zip(offset, along, strict=True))
            part = np.clip(np.divide(dot, np.float32(length)), 0, 1)
            square = sum(
                (o - part * np.float32(d)) ** 2 for o, d in zip(offset, along, strict=True)
            )
            np.minimum(best, np.sqrt(square) - (ra + part * np.float32(rb - ra)), out=best)
        return best


@dataclass(frozen=True, eq=False)
class Sheet:
    """A curved plate: every point within a radius of densely sampled surface points.

    Args:
        samples: `(n, 3)`, closer together than the radius, mm.
        radius: half the thickness at each sample, mm.
    """

    samples: Floats
    radius: Floats

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """The box of the samples, widened by the largest radius."""
        reach = float(self.radius.max())
        return self.samples.min(axis=0) - reach, self.samples.max(axis=0) + reach

    def distance(self, points: Points) -> Array:
        """Distance to the nearest sample, less its radius; far points are only "far"."""
        far = 3 * float(self.radius.max())
        where = np.stack([p.reshape(-1) for p in points], axis=1)
        reach, nearest = cKDTree(self.samples).query(where, k=4, distance_upper_bound=far)
        radius = np.append(self.radius, 0.0)[nearest]
        distance: Floats = np.where(np.isfinite(reach), reach - radius, far).min(axis=1)
        return distance.astype(np.float32).reshape(points[0].shape)


@dataclass(frozen=True, eq=False)
class Mirrored:
    """The mirror image of a shape in the sagittal plane x = 0."""

    shape: Shape

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """The mirrored box."""
        low, high = self.shape.bounds
        return np.array([-high[0], *low[1:]]), np.array([-low[0], *high[1:]])

    def distance(self, points: Points) -> Array:
        """That of the mirrored point."""
        return self.shape.distance((-points[0], points[1], points[2]))


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A shape without its outermost layer."""

    shape: Shape
    by_mm: float

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """Those of the whole shape."""
        return self.shape.bounds

    def distance(self, points: Points) -> Array:
        """The shape's distance, raised."""
        return self.shape.distance(points) + np.float32(self.by_mm)


@dataclass(frozen=True, eq=False)
class Union:
    """Several shapes that melt into each other.

    Args:
        shapes: at least one.
        blend_mm: width of the seam; 0 for a sharp one.
    """

    shapes: Sequence[Shape]
    blend_mm: float = 0.0

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """The box of all, widened by the seam."""
        low = np.min([shape.bounds[0] for shape in self.shapes], axis=0)
        high = np.max([shape.bounds[1] for shape in self.shapes], axis=0)
        return low - self.blend_mm, high + self.blend_mm

    def distance(self, points: Points) -> Array:
        """Smooth minimum of the shapes' distances."""
        distances = (shape.distance(points) for shape in self.shapes)
        return reduce(lambda a, b: smooth_minimum(a, b, self.blend_mm), distances)


@dataclass(frozen=True, eq=False)
class Cut:
    """What two shapes share, or what is in the first and not in the second."""

    first: Shape
    second: Shape
    outside: bool = False

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """Those of the first."""
        return self.first.bounds

    def distance(self, points: Points) -> Array:
        """The larger distance."""
        second = self.second.distance(points)
        return np.maximum(self.first.distance(points), -second if self.outside else second)


def smooth_minimum(a: Array, b: Array, width_mm: float) -> Array:
    """Polynomial minimum: as `minimum` where the two differ by more than the width."""
    if width_mm <= 0:
        return np.minimum(a, b)
    share = np.clip(np.float32(width_mm) - np.abs(a - b), 0, None) / np.float32(width_mm)
    least: Array = np.minimum(a, b) - share * share * np.float32(width_mm / 4)
    return least


@dataclass(frozen=True, eq=False)
class Space:
    """Where shapes are rendered: patient coordinates of a grid's voxels, already deformed.

    Args:
        points: x, y, z of each voxel before deformation, broadcastable `(z, y, x)` axes, mm.
        shift: displacement of each voxel, three arrays `(z, y, x)`, mm.
        spacing_mm: of the grid (x, y, z).
    """

    axes: tuple[Floats, Floats, Floats]
    shift: Points
    spacing_mm: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(z, y, x)`."""
        depth, rows, columns = self.shift[0].shape
        return depth, rows, columns

    def occupancy(self, shape: Shape) -> Array:
        """Share of each voxel inside a shape, `(z, y, x)`, float32."""
        result = np.zeros(self.shape, dtype=np.float32)
        reach = max(float(np.abs(s).max()) for s in self.shift) + 2 * max(self.spacing_mm)
        low, high = shape.bounds
        box = tuple(
            slice(*np.searchsorted(axis, [low[i] - reach, high[i] + reach]))
            for i, axis in reversed(list(enumerate(self.axes)))
        )
        if any(part.start >= part.stop for part in box):
            return result
        distance = shape.distance(self._points(box))
        # A voxel is cut over about its mean edge.
        width = np.float32(np.cbrt(np.prod(self.spacing_mm)))
        result[box] = np.clip(np.float32(0.5) - distance / width, 0, 1)
        return result

    def distance(self, shape: Shape) -> Array:
        """Signed distance over the whole grid."""
        return shape.distance(self._points((slice(None),) * 3))

    def _points(self, box: tuple[slice, ...]) -> Points:
        z, y, x = box
        grids = np.meshgrid(self.axes[2][z], self.axes[1][y], self.axes[0][x], indexing="ij")
        right, back, up = (
            (grid + shift[box]).astype(np.float32)
            for grid, shift in zip(reversed(grids), self.shift, strict=True)
        )
        return right, back, up
