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
from scipy.spatial import cKDTree

from ...errors import CaseError

__all__ = ["Coverage", "polygon_coverage", "signed_area", "without_repeated"]

Array = NDArray[np.float64]

_MOST_PIECES = 20_000_000
_CELLS_AT_ONCE = 4_000_000
_WINDING_TOLERANCE = 0.01
_POINTS_ASKED = 5  # of each loop, whether others enclose it
_SAME_SHAPE = 0.02  # pixels
_DECIMALS = 9  # of a pixel's share; the running sum is exact to about 12


class Coverage(NamedTuple):
    """Covered shares of a stack of planes, `(plane, y, x)`, from pixel `(row, column)` on.

    Args:
        crossing: planes on which a loop crosses itself or another one.
    """

    array: NDArray[np.float32]
    row: int
    column: int
    crossing: int


def polygon_coverage(planes: Sequence[Sequence[Array]], shape: tuple[int, int]) -> Coverage:
    """The share of each pixel inside closed loops; a loop inside another one is a hole.

    Args:
        planes: on each plane at least one loop of vertices `(n, 2)` as continuous pixel indices
            (x, y): pixel i spans i ± 0.5. The last vertex joins the first. Parts outside the image
            are cut off.
        shape: of the image (y, x).

    Returns:
        The block of pixels that the loops' bounding box covers; empty when it misses the image.

    Raises:
        CaseError: the loops cross the image so often that they cannot be contours.
    """
    points = np.concatenate([loop for loops in planes for loop in loops]) + 0.5
    low = np.floor(points.min(axis=0)).clip(0, shape[::-1]).astype(int)
    high = np.ceil(points.max(axis=0)).clip(0, shape[::-1]).astype(int)
    columns, rows = (int(n) for n in np.maximum(high - low, 0))
    covered = np.zeros((len(planes), rows, columns), dtype=np.float32)
    crossing = 0
    if rows and columns:
        at_once = max(1, _CELLS_AT_ONCE // (rows * columns))
        for first in range(0, len(planes), at_once):
            chunk = planes[first : first + at_once]
            winding = _winding(*_edges(chunk, low - 0.5), len(chunk), rows, columns)
            crossing += _fold(winding)
            np.clip(winding, 0, 1, out=covered[first : first + at_once], casting="unsafe")
    return Coverage(covered, int(low[1]), int(low[0]), crossing)


def _edges(planes: Sequence[Sequence[Array]], origin: Array) -> tuple[Array, Array, NDArray]:
    """Start and end of every edge, measured from `origin`, and the plane that it is on."""
    oriented = [_holes_reversed(loops) for loops in planes]
    loops = [loop for each in oriented for loop in each]
    start = np.concatenate(loops) - origin
    lengths = np.array([len(loop) for loop in loops])
    last = np.cumsum(lengths) - 1
    following = np.arange(1, len(start) + 1)
    following[last] = last - lengths + 1
    plane = np.repeat(np.arange(len(planes)), [sum(map(len, each)) for each in oriented])
    return start, start[following], plane


def _fold(winding: Array) -> int:
    """Winding numbers made covered shares in place, by the even-odd rule.

    Returns:
        On how many planes there was something to fold.
    """
    lowest, highest = winding.min(axis=(1, 2)), winding.max(axis=(1, 2))
    crossing = np.flatnonzero((lowest < -_WINDING_TOLERANCE) | (highest > 1 + _WINDING_TOLERANCE))
    for plane in crossing:
        turns = np.abs(winding[plane]) % 2
        winding[plane] = np.minimum(turns, 2 - turns)
    return len(crossing)


def _winding(
    start: Array, end: Array, plane: NDArray, planes: int, rows: int, columns: int
) -> Array:
    """Winding number of each pixel of a block, averaged over the pixel, `(plane, y, x)`."""
    row, height, from_x, to_x = _cut_at_rows(start, end, plane, rows)
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
    size = planes * rows * (columns + 2)
    turns = np.bincount(cell, height * (1 - left), size)
    turns += np.bincount(cell + 1, height * left, size)
    turns = turns.reshape(planes, rows, columns + 2)
    np.cumsum(turns, axis=2, out=turns)
    # Pieces that cancel leave 1e-20 to 1e-12 along the rest of a row: no part of any pixel.
    np.round(turns, _DECIMALS, out=turns)
    return np.asarray(turns[:, :, :columns])


def _cut_at_rows(
    start: Array, end: Array, plane: NDArray, rows: int
) -> tuple[NDArray, Array, Array, Array]:
    """Edges cut at row borders, the parts above and below the block dropped.

    Returns:
        Row (of all planes, one after the other), signed height, and x at both ends of each piece.
    """
    falls = end[:, 1] > start[:, 1]
    upper, lower = np.where(falls[:, None], start, end), np.where(falls[:, None], end, start)
    low, high = upper[:, 1].clip(0, rows), lower[:, 1].clip(0, rows)
    kept = high > low
    sign = np.where(falls[kept], -1.0, 1.0)
    upper, lower, low, high, plane = upper[kept], lower[kept], low[kept], high[kept], plane[kept]
    first, last = np.floor(low).astype(int), np.ceil(high).astype(int) - 1
    edge, row = _runs(first, last)
    piece_low = np.where(row == first[edge], low[edge], row)
    piece_high = np.where(row == last[edge], high[edge], row + 1)
    slope = (lower[:, 0] - upper[:, 0]) / (lower[:, 1] - upper[:, 1])
    from_x = upper[edge, 0] + slope[edge] * (piece_low - upper[edge, 1])
    to_x = upper[edge, 0] + slope[edge] * (piece_high - upper[edge, 1])
    height = sign[edge] * (piece_high - piece_low)
    return row + rows * plane[edge], height, from_x, to_x


def _runs(first: NDArray, last: NDArray) -> tuple[NDArray, NDArray]:
    """For each i the numbers from `first[i]` to `last[i]`: the i's, and the numbers."""
    count = last - first + 1
    total = int(count.sum())
    if total > _MOST_PIECES:
        raise CaseError(f"The contours cross {total} pixel borders: they are damaged, not drawn.")
    index = np.repeat(np.arange(count.size), count)
    offset = np.cumsum(count) - count
    return index, first[index] + np.arange(total) - offset[index]


def without_repeated(loops: Sequence[Array]) -> list[Array]:
    """Loops of one plane, each shape once: whichever way it runs and wherever it begins.

    Two loops are one shape when their boxes, areas, centroids and second moments agree within
    `_SAME_SHAPE` pixels: points may be rounded or placed otherwise along the same line.
    """
    if len(loops) < 2:
        return list(loops)
    pairs = cKDTree([_shape(loop) for loop in loops]).query_pairs(_SAME_SHAPE, p=np.inf)
    repeated = {max(pair) for pair in pairs}
    return [loop for index, loop in enumerate(loops) if index not in repeated]


def _shape(loop: Array) -> Array:
    """Box, root of the area, centroid and second moments of a polygon, all in pixels."""
    low, high = loop.min(axis=0), loop.max(axis=0)
    # Measured from the box: far from the origin the sums would lose their digits.
    here = (loop - low).T
    after = np.roll(here, -1, axis=1)
    cross = here[0] * after[1] - after[0] * here[1]
    area = cross.sum() / 2
    size = float(np.hypot(*(high - low)))
    if abs(area) <= 1e-9 * size**2:  # a line, or as much turned one way as the other
        return np.concatenate([low, high, [0.0], here.mean(axis=1), here.std(axis=1), [0.0]])
    centroid = ((here + after) @ cross) / (6 * area)
    squares = ((here**2 + here * after + after**2) @ cross) / (12 * area) - centroid**2
    mixed = (
        here[0] * after[1] + 2 * here[0] * here[1] + 2 * after[0] * after[1] + after[0] * here[1]
    )
    product = (mixed @ cross) / (24 * area) - centroid[0] * centroid[1]
    moments = np.array([*squares, product]) / size
    return np.concatenate([low, high, [np.sqrt(abs(area))], centroid, moments])


def _holes_reversed(loops: Sequence[Array]) -> list[Array]:
    """Loops turned one way, those inside an odd number of others the other way.

    A ray from a loop's own point crosses the others as often, by parity, as they enclose it. Where
    loops touch, one point may lie on another loop: most of a few points of each loop decide.
    """
    turned = [loop if signed_area(loop) >= 0 else loop[::-1] for loop in loops]
    if len(turned) < 2:
        return turned
    start = np.concatenate(turned)
    end = np.concatenate([np.roll(loop, -1, axis=0) for loop in turned])
    owner = np.repeat(np.arange(len(turned)), [len(loop) for loop in turned])
    chosen = [
        np.unique(np.linspace(0, len(loop) - 1, _POINTS_ASKED).astype(int)) for loop in turned
    ]
    asked = np.concatenate([loop[c] for loop, c in zip(turned, chosen, strict=True)])
    asker = np.repeat(np.arange(len(turned)), [len(each) for each in chosen])
    order = np.argsort(asked[:, 1], kind="stable")
    asked, asker = asked[order], asker[order]
    # The rays that each edge crosses: those between its two ends' heights.
    low, high = np.sort(np.column_stack([start[:, 1], end[:, 1]]), axis=1).T
    first = np.searchsorted(asked[:, 1], low, "left")
    crossed = np.searchsorted(asked[:, 1], high, "left") > first
    edge, ray = _runs(first[crossed], np.searchsorted(asked[:, 1], high, "left")[crossed] - 1)
    edge = np.flatnonzero(crossed)[edge]
    share = (asked[ray, 1] - start[edge, 1]) / (end[edge, 1] - start[edge, 1])
    at = start[edge, 0] + share * (end[edge, 0] - start[edge, 0])
    counted = (at > asked[ray, 0]) & (owner[edge] != asker[ray])
    inside = np.bincount(ray[counted], minlength=len(asked)) % 2
    votes = np.bincount(asker, inside, len(turned)) / np.bincount(asker, minlength=len(turned))
    return [loop[::-1] if vote > 0.5 else loop for loop, vote in zip(turned, votes, strict=True)]


def signed_area(loop: Array) -> float:
    """Area of a polygon `(n, 2)`, positive one way round and negative the other."""
    x, y = (loop - loop[0]).T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
