"""Outlines of masks, slice by slice, that enclose as much as the masks hold.

Of occupancy the line of one half is the outline, and of a large smooth mask, too. It cuts corners,
though, and misses what is thinner than a voxel: a single voxel would keep half of its area, a lens
on coarse slices nothing. So each connected piece of a slice gets the line, of whatever level, that
encloses the piece's own area.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from scipy import ndimage

from ...mask import Mask
from ...volume import Volume

__all__ = ["outlines"]

Array = NDArray[np.float64]

_FEWEST_POINTS = 3
_CLOSE_ENOUGH = 5e-3  # of the area; the line of one half is taken as it is
_HALVINGS = 24
_LEAST_AREA = 0.1  # pixels; smaller pieces are left out of structures that are a thousand times it
_TOUCHING = np.ones((3, 3), dtype=bool)


def outlines(mask: Volume) -> Iterator[tuple[int, Array]]:
    """Slice index and closed outline `(n, 3)` in LPS mm around the occupancy of each slice.

    Slices ascend; the last point joins the first and does not repeat it. Holes are outlines of
    their own. The outlines of a piece enclose its area, where its shape allows it.
    """
    array = Mask.of(mask).weights()
    least = min(_LEAST_AREA, 1e-3 * float(array.sum(dtype=np.float64)))
    for z in np.flatnonzero(array.any(axis=(1, 2))):
        pieces, _ = ndimage.label(array[z] > 0, _TOUCHING)
        for number, box in enumerate(ndimage.find_objects(pieces), 1):
            piece = np.where(pieces[box] == number, array[z][box], 0).astype(np.float64)
            if piece.sum() < least:
                continue
            corner = np.array([box[1].start - 1.0, box[0].start - 1.0])
            edges = np.array([[-0.5, -0.5], np.subtract(array.shape[:0:-1], 0.5)]) - corner
            for loop in _loops_of(np.pad(piece, 1), edges):
                index = np.column_stack([loop + corner, np.full(len(loop), float(z))])
                yield int(z), mask.grid.world_from_index(index)


def _loops_of(piece: Array, edges: Array) -> list[Array]:
    """Loops `(n, 2)` of (x, y) around a piece of occupancy that ends before the array does.

    Args:
        edges: of the image, lowest and highest (x, y), which no loop crosses.
    """
    wanted = float(piece.sum())
    tried = [[np.clip(loop, *edges) for loop in _lines(piece, 0.5)]]
    # A plate of one low occupancy has no level between all and nothing: its core is taken then.
    for by_depth in (False, True):
        if abs(_area(tried[-1]) - wanted) <= _CLOSE_ENOUGH * wanted:
            break
        field = ndimage.distance_transform_edt(piece > 0) + 0.1 * piece if by_depth else piece
        tried.append(_enclosing(field, edges, wanted))
    return min(tried, key=lambda loops: abs(_area(loops) - wanted))


def _enclosing(field: Array, edges: Array, wanted: float) -> list[Array]:
    """The lines whose level encloses the wanted area: the higher the level, the less."""
    low, high = 0.0, float(field.max())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        loops = [np.clip(loop, *edges) for loop in _lines(field, middle, smooth=True)]
        area = _area(loops)
        if abs(area - wanted) <= _CLOSE_ENOUGH * wanted / 2:
            return loops
        low, high = (middle, high) if area > wanted else (low, middle)
    return loops


def _lines(field: Array, level: float, smooth: bool = False) -> list[Array]:
    """Closed lines of a level.

    Args:
        smooth: cut each square of pixels into four triangles, so that what lines enclose changes
            with their level without a jump.
    """
    generator = contour_generator(z=field, name="serial", quad_as_tri=smooth)
    lines = (np.asarray(line)[:-1] for line in generator.lines(level))
    return [line for line in lines if len(line) >= _FEWEST_POINTS]


def _area(loops: list[Array]) -> float:
    """What loops enclose; holes run the other way."""
    total = 0.0
    for loop in loops:
        x, y = (loop - loop[0]).T
        total += float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    return abs(total)
