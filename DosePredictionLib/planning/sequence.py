"""From a fluence to leaf positions: step and shoot, leaves sweeping one way.

A fluence of whole steps is given by as many shapes as its worst row rises: in each row the leading
leaf passes an element before the trailing one by as many steps as the element gets (Bortfeld et
al., Int. J. Radiat. Oncol. Biol. Phys. 28 (1994) 723, doi 10.1016/0360-3016(94)90200-3). Each shape
is one interval in a row, so that leaves never cross, and their sum is the fluence, to the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import CaseError
from .machine import Machine

__all__ = ["FluenceMap", "Shape", "fluence_of", "in_steps", "sweep"]

Array = NDArray[np.float64]
_PARKED_MM = 2.0  # behind a jaw


@dataclass(frozen=True, eq=False)
class FluenceMap:
    """Fluence of one beam on elements that follow the leaves.

    Args:
        values: `(row, column)`, not negative.
        first_mm: center (x, y) of the first element.
        step_mm: edge of the elements along the leaves and across them.
    """

    values: Array
    first_mm: tuple[float, float]
    step_mm: float

    @property
    def x_edges_mm(self) -> Array:
        """Borders of the columns."""
        return self.first_mm[0] + (np.arange(self.values.shape[1] + 1) - 0.5) * self.step_mm

    @property
    def y_edges_mm(self) -> Array:
        """Borders of the rows."""
        return self.first_mm[1] + (np.arange(self.values.shape[0] + 1) - 0.5) * self.step_mm


@dataclass(frozen=True, eq=False)
class Shape:
    """What the leaves leave open, given in one piece.

    Args:
        leaves_mm: `(bank, leaf pair)`.
        steps: how many steps of the fluence it gives.
    """

    leaves_mm: Array
    steps: int = 1

    def open_elements(self, fluence: FluenceMap, borders_mm: Array) -> Array:
        """Share of each element that is open, `(row, column)`."""
        edges = fluence.x_edges_mm
        left, right = self.leaves_mm
        along = np.minimum(edges[None, 1:], right[:, None]) - np.maximum(
            edges[None, :-1], left[:, None]
        )
        along = np.maximum(along, 0.0) / fluence.step_mm
        rows = fluence.y_edges_mm
        high = np.minimum(rows[1:, None], borders_mm[None, 1:])
        low = np.maximum(rows[:-1, None], borders_mm[None, :-1])
        across = np.maximum(high - low, 0.0) / fluence.step_mm
        shares: Array = across @ along
        return shares


def in_steps(fluence: FluenceMap, step: float) -> NDArray[np.int64]:
    """A fluence as the nearest whole number of steps."""
    return np.rint(np.maximum(fluence.values, 0) / step).astype(np.int64)


def sweep(fluence: FluenceMap, steps: NDArray[np.int64], machine: Machine) -> list[Shape]:
    """The shapes that give a fluence of whole steps; like ones in a row are one.

    A field wider than the leaves of one bank may spread is given in two halves.

    Args:
        fluence: where the elements are; its own values do not count.
        steps: `(row, column)`, not negative.

    Raises:
        CaseError: the elements do not follow the machine's leaves, or lie beyond their reach.
    """
    _require_reach(fluence, machine)
    width = float(np.ptp(fluence.x_edges_mm))
    if width + 2 * _PARKED_MM <= machine.leaf_span_mm:
        return _merged(_sweep(fluence, steps, machine, 0, steps.shape[1]))
    middle = steps.shape[1] // 2
    parts = [(0, middle), (middle, steps.shape[1])]
    return [shape for part in parts for shape in _merged(_sweep(fluence, steps, machine, *part))]


def fluence_of(shapes: Sequence[Shape], fluence: FluenceMap, machine: Machine) -> Array:
    """What shapes give together, in steps, `(row, column)`."""
    borders = machine.borders_mm
    total: Array = sum(
        (shape.steps * shape.open_elements(fluence, borders) for shape in shapes),
        np.zeros(fluence.values.shape),
    )
    return total


def _require_reach(fluence: FluenceMap, machine: Machine) -> None:
    borders, rows, columns = machine.borders_mm, fluence.y_edges_mm, fluence.x_edges_mm
    if rows[0] < borders[0] - 1e-6 or rows[-1] > borders[-1] + 1e-6:
        raise CaseError(
            f"The target reaches from {rows[0]:.0f} to {rows[-1]:.0f} mm across the leaves of "
            f"{machine.id}, which cover {borders[0]:.0f} to {borders[-1]:.0f} mm."
        )
    reach = min(machine.leaf_overtravel_mm, machine.leaf_retract_mm, machine.leaf_span_mm)
    widest = np.ceil(fluence.values.shape[1] / 2) * fluence.step_mm
    if max(-columns[0], columns[-1], widest) + 2 * _PARKED_MM > reach:
        raise CaseError(
            f"The target reaches from {columns[0]:.0f} to {columns[-1]:.0f} mm along the leaves of "
            f"{machine.id}, which reach {reach:.0f} mm on either side."
        )
    inside = borders[(borders > rows[0] + 1e-6) & (borders < rows[-1] - 1e-6)]
    missing = [row for row in rows[1:-1] if not np.any(np.abs(inside - row) < 1e-6)]
    if missing:
        raise CaseError(
            f"Rows of fluence at {missing[0]:g} mm do not follow the leaves of {machine.id}: "
            "choose elements as wide as two narrow leaves."
        )


def _sweep(
    fluence: FluenceMap, steps: NDArray[np.int64], machine: Machine, start: int, stop: int
) -> list[Shape]:
    """Shapes of the columns from `start` to `stop`, one a step."""
    part = steps[:, start:stop]
    before = np.concatenate([np.zeros((part.shape[0], 1), dtype=np.int64), part[:, :-1]], axis=1)
    # When the leading leaf has passed an element, and when the trailing one has: they differ by
    # what the element gets, and neither ever goes back.
    trailing = np.cumsum(np.maximum(part - before, 0), axis=1)
    leading = trailing - part
    edges = fluence.x_edges_mm[start : stop + 1]
    parked = edges[0] - _PARKED_MM if start == 0 else edges[-1] + _PARKED_MM
    rows = _rows_of_pairs(fluence, machine)
    shapes = []
    for time in range(int(trailing.max(initial=0))):
        open_ = (leading <= time) & (trailing > time)
        leaves = np.full((2, machine.borders_mm.size - 1), parked)
        leaves[0] -= machine.min_gap_mm / 2
        leaves[1] += machine.min_gap_mm / 2
        for pair, row in rows:
            columns = np.flatnonzero(open_[row])
            if columns.size:
                leaves[:, pair] = edges[columns[0]], edges[columns[-1] + 1]
        shapes.append(Shape(leaves))
    return shapes


def _rows_of_pairs(fluence: FluenceMap, machine: Machine) -> list[tuple[int, int]]:
    """(leaf pair, row) of the pairs that shape a row."""
    borders, rows = machine.borders_mm, fluence.y_edges_mm
    centers = (borders[1:] + borders[:-1]) / 2
    at = np.searchsorted(rows, centers) - 1
    return [(pair, int(row)) for pair, row in enumerate(at) if 0 <= row < fluence.values.shape[0]]


def _merged(shapes: Sequence[Shape]) -> list[Shape]:
    """Equal shapes, wherever they stand, as one with the sum of their steps."""
    kept: dict[bytes, Shape] = {}
    for shape in shapes:
        key = shape.leaves_mm.tobytes()
        before = kept[key].steps if key in kept else 0
        kept[key] = Shape(shape.leaves_mm, before + shape.steps)
    return list(kept.values())
