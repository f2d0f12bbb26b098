"""How much of each pixel closed polygons cover, exactly, by the even-odd rule.

Every edge is cut at pixel borders; each piece adds the area between itself and the right side of
its pixel, and the running sum along the row gives the winding number times the covered share. It is
the accumulation buffer of font rasterizers, folded to even-odd. Exact wherever no two boundaries of
overlapping loops cross within one pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import CaseError

__all__ = ["Coverage", "polygon_coverage"]

Array = NDArray[np.float64]

_MOST_PIECES = 20_000_000
_MOST_NESTED_LOOPS = 200
_WINDING_TOLERANCE = 0.01


class Coverage(NamedTuple):
    """Covered shares `(y, x)` from pixel `(row, column)` on.

    Args:
        overlapping: a loop crosses itself or another one.
    """

    array: NDArray[np.float32]
    row: int
    column: int
    overlapping: bool


def polygon_coverage(loops: Sequence[Array], shape: tuple[int, int]) -> Coverage:
    """The share of each pixel inside closed loops; a loop inside another one is a hole.

    Args:
        loops: vertices `(n, 2)` as continuous pixel indices (x, y): pixel i spans i ± 0.5. The last
            vertex joins the first. Parts outside the image are cut off.
        shape: of the image (y, x).

    Returns:
        The block of pixels that the loops' bounding box covers; empty when it misses the image.

    Raises:
        CaseError: the loops cross the image so often that they cannot be contours.
    """
    loops = [loop + 0.5 for loop in loops]
    points = np.concatenate(loops)
    low = np.floor(points.min(axis=0)).clip(0, shape[::-1]).astype(int)
    high = np.ceil(points.max(axis=0)).clip(0, shape[::-1]).astype(int)
    columns, rows = np.maximum(high - low, 0)
    if rows == 0 or columns == 0:
        return Coverage(np.zeros((rows, columns), np.float32), low[1], low[0], False)
    loops = _holes_reversed([loop - low for loop in loops])
    start = np.concatenate(loops)
    end = np.concatenate([np.roll(loop, -1, axis=0) for loop in loops])
    winding = _winding(start, end, int(rows), int(columns))
    overlapping = bool(
        winding.min() < -_WINDING_TOLERANCE or winding.max() > 1 + _WINDING_TOLERANCE
    )
    if overlapping:
        winding = np.abs(winding) % 2
        winding = np.minimum(winding, 2 - winding)
    covered = np.clip(winding, 0, 1).astype(np.float32)
    return Coverage(covered, int(low[1]), int(low[0]), overlapping)


def _winding(start: Array, end: Array, rows: int, columns: int) -> Array:
    """Winding number of each pixel of a block, averaged over the pixel, `(rows, columns)`."""
    row, height, from_x, to_x = _cut_at_rows(start, end, rows)
    # A piece in the cell left of the block turns whole rows, one right of it nothing.
    low, high = np.minimum(from_x, to_x), np.maximum(from_x, to_x)
    first = np.clip(np.floor(low), -1, columns).astype(int)
    last = np.maximum(np.clip(np.ceil(high).astype(int) - 1, -1, columns), first)
    piece, column = _runs(first, last)
    low, high, row, height = low[piece], high[piece], row[piece], height[piece]
    piece_low = np.where(column == first[piece], low, column)
    piece_high = np.where(column == last[piece], high, column + 1)
    width = high - low
    upright = width <= 0
    share = np.where(upright, 1.0, (piece_high - piece_low) / np.where(upright, 1.0, width))
    height = height * share
    # The share of the cell left of the piece stays uncovered; the next cell makes up for it.
    left = np.where(column < 0, 0.0, (piece_low + piece_high) / 2 - column)
    cell = row * (columns + 2) + np.maximum(column, 0)
    size = rows * (columns + 2)
    turns = np.bincount(cell, height * (1 - left), size)
    turns += np.bincount(cell + 1, height * left, size)
    winding = np.cumsum(turns.reshape(rows, columns + 2), axis=1, dtype=float)[:, :columns]
    return np.asarray(winding)


def _cut_at_rows(start: Array, end: Array, rows: int) -> tuple[NDArray, Array, Array, Array]:
    """Edges cut at row borders, the parts above and below the block dropped.

    Returns:
        Row, signed height, and x at both ends of each piece.
    """
    sign = np.where(end[:, 1] > start[:, 1], -1.0, 1.0)
    upper = np.where(sign[:, None] < 0, start, end)
    lower = np.where(sign[:, None] < 0, end, start)
    low, high = upper[:, 1].clip(0, rows), lower[:, 1].clip(0, rows)
    kept = high > low
    sign, upper, lower, low, high = sign[kept], upper[kept], lower[kept], low[kept], high[kept]
    first, last = np.floor(low).astype(int), np.ceil(high).astype(int) - 1
    edge, row = _runs(first, last)
    piece_low = np.where(row == first[edge], low[edge], row)
    piece_high = np.where(row == last[edge], high[edge], row + 1)
    slope = (lower[:, 0] - upper[:, 0]) / (lower[:, 1] - upper[:, 1])
    from_x = upper[edge, 0] + slope[edge] * (piece_low - upper[edge, 1])
    to_x = upper[edge, 0] + slope[edge] * (piece_high - upper[edge, 1])
    return row, sign[edge] * (piece_high - piece_low), from_x, to_x


def _runs(first: NDArray, last: NDArray) -> tuple[NDArray, NDArray]:
    """For each i the numbers from `first[i]` to `last[i]`: the i's, and the numbers."""
    count = last - first + 1
    total = int(count.sum())
    if total > _MOST_PIECES:
        raise CaseError(
            f"Contours on one slice cross {total} pixel borders: they are damaged, not drawn."
        )
    index = np.repeat(np.arange(count.size), count)
    offset = np.cumsum(count) - count
    return index, first[index] + np.arange(total) - offset[index]


def _holes_reversed(loops: list[Array]) -> list[Array]:
    """Loops turned one way, those inside an odd number of others the other way."""
    areas = [_signed_area(loop) for loop in loops]
    turned = [loop if area >= 0 else loop[::-1] for loop, area in zip(loops, areas, strict=True)]
    if not 1 < len(loops) <= _MOST_NESTED_LOOPS:
        return turned
    boxes = [(loop.min(axis=0), loop.max(axis=0)) for loop in loops]
    result = []
    for index, loop in enumerate(turned):
        depth = sum(
            _box_inside(boxes[index], boxes[other]) and _contains(turned[other], loop[0])
            for other in range(len(loops))
            if other != index and abs(areas[other]) > abs(areas[index])
        )
        result.append(loop[::-1] if depth % 2 else loop)
    return result


def _signed_area(loop: Array) -> float:
    x, y = (loop - loop[0]).T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _box_inside(inner: tuple[Array, Array], outer: tuple[Array, Array]) -> bool:
    return bool(np.all(inner[0] >= outer[0]) and np.all(inner[1] <= outer[1]))


def _contains(loop: Array, point: Array) -> bool:
    """Whether a ray from the point crosses the loop an odd number of times."""
    (x, y), (next_x, next_y) = loop.T, np.roll(loop, -1, axis=0).T
    crosses = (y > point[1]) != (next_y > point[1])
    height = np.where(crosses, next_y - y, 1.0)
    at = x + (point[1] - y) / height * (next_x - x)
    return bool(np.count_nonzero(crosses & (at > point[0])) % 2)
