"""Beam's-eye views of a plan: leaves and jaws of its segments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..delivery import TreatmentBeam

__all__ = ["draw_beams", "draw_segments"]

_BEHIND_MM = 200.0  # how far leaves reach back in a picture
_MARGIN_MM = 25.0
_COLUMNS = 5
_NARROWEST = 4.2  # inches: as wide as the heading


def draw_beams(beams: Sequence[TreatmentBeam], path: Path) -> None:
    """A picture of every beam: its segment with most monitor units.

    Args:
        path: of the PNG.
    """
    rows = -(-len(beams) // _COLUMNS)
    columns = min(_COLUMNS, len(beams))
    figure = _figure(max(1.9 * columns, _NARROWEST), 2.15 * rows + 0.4)
    for number, beam in enumerate(beams, start=1):
        segment = int(np.argmax(beam.step_mu[::2]))
        axis = figure.add_subplot(rows, columns, number)
        _draw_leaves(axis, beam, 2 * segment)
        words = f"{beam.gantry_degrees[0]:g}°, {segment + 1} of {beam.points // 2}"
        axis.set_title(f"{words}, {float(beam.step_mu[2 * segment]):.1f} MU", fontsize=7)
        axis.tick_params(labelsize=6)
    figure.suptitle("Of each beam the segment with most MU. NOT FOR CLINICAL USE", fontsize=8)
    _save(figure, path)


def draw_segments(beam: TreatmentBeam, path: Path, shown: int = 6) -> None:
    """A picture of some segments of one beam, in the order of delivery."""
    chosen = np.linspace(0, beam.points // 2 - 1, shown).round().astype(int)
    figure = _figure(2.6 * shown, 3.2)
    for number, segment in enumerate(chosen, start=1):
        axis = figure.add_subplot(1, shown, number)
        _draw_leaves(axis, beam, 2 * int(segment))
        mu = float(beam.step_mu[2 * segment])
        axis.set_title(f"segment {segment + 1} of {beam.points // 2}, {mu:.1f} MU", fontsize=9)
        axis.set_xlabel("X, mm")
    figure.axes[0].set_ylabel("Y, mm")
    figure.suptitle(
        f"Gantry {beam.gantry_degrees[0]:g}°, beam's-eye view. NOT FOR CLINICAL USE", fontsize=10
    )
    _save(figure, path)


def _draw_leaves(axis: Any, beam: TreatmentBeam, point: int) -> None:
    """Leaves grey, jaws red; as seen from the source, mm at the isocenter."""
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Rectangle

    (x1, x2), (y1, y2) = beam.jaws_x_mm[point], beam.jaws_y_mm[point]
    low, high = beam.leaf_borders_mm[:-1], beam.leaf_borders_mm[1:]
    left, right = beam.leaves_mm[point]
    boxes = [
        [(a, y), (b, y), (b, top), (a, top)]
        for starts, ends in (
            (np.full_like(left, -_BEHIND_MM), left),
            (right, np.full_like(right, _BEHIND_MM)),
        )
        for a, b, y, top in zip(starts, ends, low, high, strict=True)
    ]
    axis.add_collection(PolyCollection(boxes, facecolor="#8d99ae", edgecolor="#5c677d", lw=0.2))
    axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec="#d62828", lw=1.2))
    axis.set(
        xlim=(x1 - _MARGIN_MM, x2 + _MARGIN_MM),
        ylim=(y1 - _MARGIN_MM, y2 + _MARGIN_MM),
        aspect="equal",
    )


def _figure(width: float, height: float) -> Any:
    """A figure that belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
