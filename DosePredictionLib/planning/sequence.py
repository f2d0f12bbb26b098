"""From what fluence is worth to leaf positions: the shape that gains most.

Where a change of fluence is worth something at each element of a beam, the best shape of the leaves
takes in each row the interval with the largest sum: leaves never cross, and nothing is rounded
(Romeijn et al., SIAM J. Optim. 15 (2005) 838, doi 10.1137/040606612). See `shaping` for how such
shapes become a plan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import CaseError
from .machine import Machine

__all__ = ["Elements", "Shape", "best_shape", "require_reach"]

Array = NDArray[np.float64]
_PARKED_MM = 2.0  # behind a jaw


@dataclass(frozen=True)
class Elements:
    """A lattice of square fluence elements that follow the leaves.

    Args:
        first_mm: center (x, y) of the first element.
        shape: (rows, columns), across the leaves and along them.
        step_mm: edge of an element.
    """

    first_mm: tuple[float, float]
    shape: tuple[int, int]
    step_mm: float

    @property
    def x_edges_mm(self) -> Array:
        """Borders of the columns."""
        return _edges(self.first_mm[0], self.shape[1], self.step_mm)

    @property
    def y_edges_mm(self) -> Array:
        """Borders of the rows."""
        return _edges(self.first_mm[1], self.shape[0], self.step_mm)


@dataclass(frozen=True, eq=False)
class Shape:
    """Leaves and jaws of one segment.

    Args:
        leaves_mm: `(bank, leaf pair)`.
        jaws_x_mm, jaws_y_mm: both jaws along the leaves, and across them.
    """

    leaves_mm: Array
    jaws_x_mm: Array
    jaws_y_mm: Array

    def passed(self, elements: Elements, machine: Machine, transmission: float) -> Array:
        """Share of the fluence that passes at each element, `(row, column)`."""
        columns, rows = elements.x_edges_mm, elements.y_edges_mm
        (x1, x2), (y1, y2) = self.jaws_x_mm, self.jaws_y_mm
        left, right = self.leaves_mm.clip(x1, x2)
        borders = machine.borders_mm.clip(y1, y2)
        open_ = _covered(rows, borders[:-1], borders[1:]).T @ _covered(columns, left, right)
        within = np.outer(
            _covered(rows, np.array([y1]), np.array([y2]))[0],
            _covered(columns, np.array([x1]), np.array([x2]))[0],
        )
        shares: Array = open_ + transmission * (within - open_)
        return shares

    def open_area_mm2(self, elements: Elements, machine: Machine) -> float:
        """What leaves and jaws leave open of the lattice."""
        return float(self.passed(elements, machine, 0.0).sum()) * elements.step_mm**2


def _edges(first_mm: float, count: int, step_mm: float) -> Array:
    return np.asarray(first_mm + (np.arange(count + 1) - 0.5) * step_mm, dtype=float)


def _covered(edges: Array, low: Array, high: Array) -> Array:
    """Share of each element between edges that intervals cover, `(interval, element)`."""
    top = np.minimum(edges[None, 1:], high[:, None])
    bottom = np.maximum(edges[None, :-1], low[:, None])
    return np.maximum(top - bottom, 0.0) / (edges[1] - edges[0])


def best_shape(gain: Array, elements: Elements, machine: Machine) -> Shape | None:
    """The shape whose open elements gain most together.

    A field wider than the leaves of one bank may spread is shaped in the window that gains most.

    Args:
        gain: of a unit of fluence, `(row, column)`; what is to stay closed is negative.

    Returns:
        None, if nothing gains, or so little that it is below the machine's least area.
    """
    columns = elements.shape[1]
    room_mm = machine.leaf_span_mm - 2 * _PARKED_MM - machine.min_gap_mm
    widest = min(columns, int(room_mm / elements.step_mm + 1e-9))
    firsts = range(columns - widest + 1)
    # Jaws that stand still hide parked leaves at the ends of the whole field only.
    tried = firsts if machine.jaws_follow_segments else {0, columns - widest}
    found = [(*_intervals(gain[:, first : first + widest]), first) for first in tried]
    starts, stops, sums, first = max(found, key=lambda each: float(each[2].sum()))
    if not sums.any():
        return None
    shape = _shape(starts + first, stops + first, sums > 0, elements, machine, first)
    return shape if shape.open_area_mm2(elements, machine) >= machine.min_segment_area_mm2 else None


def _intervals(gain: Array) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """Of each row, start and stop of the interval with the largest sum, and that sum, at least 0"""
    rows = np.arange(gain.shape[0])
    before = np.concatenate([np.zeros((gain.shape[0], 1)), np.cumsum(gain, axis=1)], axis=1)
    lowest = np.minimum.accumulate(before, axis=1)
    stops = (before - lowest).argmax(axis=1)
    starts = (before == lowest[rows, stops][:, None]).argmax(axis=1)
    return starts, stops, (before - lowest)[rows, stops]


def _shape(
    starts: NDArray[np.intp],
    stops: NDArray[np.intp],
    open_rows: NDArray[np.bool_],
    elements: Elements,
    machine: Machine,
    first: int,
) -> Shape:
    columns, rows = elements.x_edges_mm, elements.y_edges_mm
    filled = np.flatnonzero(open_rows)
    x = np.array([columns[starts[filled].min()], columns[stops[filled].max()]])
    y = np.array([rows[filled[0]], rows[filled[-1] + 1]])
    if machine.jaws_follow_segments:
        x, y = _jaws(x, *machine.jaw_x_mm, machine), _jaws(y, *machine.jaw_y_mm, machine)
    else:
        x, y = columns[[0, -1]], rows[[0, -1]]
    left = machine.jaws_follow_segments or first == 0
    parked = x[0] - _PARKED_MM if left else x[1] + _PARKED_MM
    half = machine.min_gap_mm / 2
    leaves = np.empty((2, machine.borders_mm.size - 1))
    leaves[0], leaves[1] = parked - half, parked + half
    for pair, row in _rows_of_pairs(elements, machine):
        if open_rows[row]:
            leaves[:, pair] = columns[starts[row]], columns[stops[row]]
    return Shape(leaves, x, y)


def _jaws(ends: Array, _retract_mm: float, overtravel_mm: float, machine: Machine) -> Array:
    """Jaws around what is open, as far beyond the axis and as near to each other as they go."""
    low = min(ends[0], overtravel_mm)
    high = max(ends[1], -overtravel_mm, low + machine.min_jaw_opening_mm)
    return np.array([low, high])


def require_reach(elements: Elements, machine: Machine) -> None:
    """Refuse elements that the leaves cannot shape.

    Raises:
        CaseError: they do not follow the machine's leaves, or lie beyond their reach or the jaws'.
    """
    borders, rows, columns = machine.borders_mm, elements.y_edges_mm, elements.x_edges_mm
    if rows[0] < borders[0] - 1e-6 or rows[-1] > borders[-1] + 1e-6:
        raise CaseError(
            f"The target reaches from {rows[0]:.0f} to {rows[-1]:.0f} mm across the leaves of "
            f"{machine.id}, which cover {borders[0]:.0f} to {borders[-1]:.0f} mm."
        )
    reach = min(machine.leaf_overtravel_mm, machine.leaf_retract_mm, machine.leaf_span_mm)
    if max(-columns[0], columns[-1]) + 2 * _PARKED_MM > reach:
        raise CaseError(
            f"The target reaches from {columns[0]:.0f} to {columns[-1]:.0f} mm along the leaves of "
            f"{machine.id}, which reach {reach:.0f} mm on either side."
        )
    ends = (("X", columns, machine.jaw_x_mm[0]), ("Y", rows, machine.jaw_y_mm[0]))
    for axis, edges, retract_mm in ends:
        if max(-edges[0], edges[-1]) > retract_mm + 1e-6:
            raise CaseError(
                f"The target reaches from {edges[0]:.0f} to {edges[-1]:.0f} mm along {axis}; the "
                f"{axis} jaws of {machine.id} go back to {retract_mm:.0f} mm."
            )
    inside = borders[(borders > rows[0] + 1e-6) & (borders < rows[-1] - 1e-6)]
    missing = [row for row in rows[1:-1] if not np.any(np.abs(inside - row) < 1e-6)]
    if missing:
        raise CaseError(
            f"Rows of fluence at {missing[0]:g} mm do not follow the leaves of {machine.id}: "
            "choose elements as wide as two narrow leaves."
        )


def _rows_of_pairs(elements: Elements, machine: Machine) -> list[tuple[int, int]]:
    """(leaf pair, row) of the pairs that shape a row."""
    borders, rows = machine.borders_mm, elements.y_edges_mm
    centers = (borders[1:] + borders[:-1]) / 2
    at = np.searchsorted(rows, centers) - 1
    return [(pair, int(row)) for pair, row in enumerate(at) if 0 <= row < elements.shape[0]]
