"""What the leaves and jaws of a beam leave open, and how intricate that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..delivery import TreatmentBeam

__all__ = ["Segment", "complexity", "in_jaws", "open_area_mm2", "openings_mm", "segments"]

Array = NDArray[np.float64]
_STILL = 0.01  # mm and degrees


@dataclass(frozen=True)
class Segment:
    """A shape that is given while nothing moves.

    Args:
        first: control point that it begins with.
        mu: monitor units of one fraction.
    """

    first: int
    mu: float


def segments(beam: TreatmentBeam) -> list[Segment]:
    """Every step with monitor units in which nothing moves."""
    return [
        Segment(int(index), float(beam.step_mu[index]))
        for index in np.flatnonzero(beam.step_mu > 0)
        if not _moves(beam, int(index))
    ]


def _moves(beam: TreatmentBeam, index: int) -> bool:
    parts = (
        beam.gantry_degrees,
        beam.collimator_degrees,
        beam.couch_degrees,
        beam.jaws_x_mm,
        beam.jaws_y_mm,
        beam.leaves_mm,
    )
    return any(np.any(np.abs(part[index + 1] - part[index]) > _STILL) for part in parts)


def _jaws(beam: TreatmentBeam) -> tuple[Array, Array]:
    """Along and across the leaves `(control point, 2)`; where there are none, all is open."""
    along, across = beam.jaws_x_mm, beam.jaws_y_mm
    if beam.leaves_along == "Y":
        along, across = across, along
    everything = np.array([-np.inf, np.inf])
    return tuple(np.where(np.isnan(jaws), everything, jaws) for jaws in (along, across))  # type: ignore[return-value]


def in_jaws(beam: TreatmentBeam) -> NDArray[np.bool_]:
    """Leaf pairs of which the jaws leave some width open, `(control point, leaf pair)`."""
    _, across = _jaws(beam)
    return _widths(beam, across) > _STILL


def _widths(beam: TreatmentBeam, across: Array) -> Array:
    borders = beam.leaf_borders_mm
    high = np.minimum(borders[None, 1:], across[:, 1:])
    low = np.maximum(borders[None, :-1], across[:, :1])
    widths: Array = np.maximum(high - low, 0.0)
    return widths


def openings_mm(beam: TreatmentBeam) -> tuple[Array, Array]:
    """Length and width, along and across the leaves, that each pair leaves open.

    Returns:
        Each `(control point, leaf pair)`.
    """
    along, across = _jaws(beam)
    left = np.maximum(beam.leaves_mm[:, 0], along[:, :1])
    right = np.minimum(beam.leaves_mm[:, 1], along[:, 1:])
    return np.maximum(right - left, 0.0), _widths(beam, across)


def open_area_mm2(beam: TreatmentBeam, point: int) -> float:
    """What leaves and jaws leave open at a control point."""
    length, width = openings_mm(beam)
    return float((length[point] * width[point]).sum())


def complexity(beams: Sequence[TreatmentBeam], fraction_gy: float | None = None) -> dict[str, Any]:
    """Figures of how intricate a plan is; none of them is a limit.

    Returns:
        Beams, segments, monitor units of a fraction and per prescribed Gy, the mean open area
        weighted by monitor units, and the modulation complexity score: 1 for one open shape, less
        for ragged and varying ones (McNiven et al., Med. Phys. 37 (2010) 505, doi
        10.1118/1.3276775).
    """
    total = sum(beam.meterset or 0.0 for beam in beams)
    shaped = [beam for beam in beams if beam.leaves_mm.size and beam.meterset]
    areas = [(beam, *openings_mm(beam)) for beam in shaped]
    given = sum(beam.step_mu.clip(0).sum() for beam in shaped)
    mean_area = sum(
        float(_of_steps((length * width).sum(axis=1)) @ beam.step_mu.clip(0))
        for beam, length, width in areas
    )
    score = sum(_modulation_score(*each) * (each[0].meterset or 0.0) for each in areas)
    return {
        "beams": len(beams),
        "segments": sum(len(segments(beam)) for beam in beams),
        "monitor_units": round(total, 2),
        "mu_per_gy": round(total / fraction_gy, 1) if fraction_gy else None,
        "mean_area_mm2": round(mean_area / given, 1) if given else None,
        "modulation_complexity_score": round(score / total, 3) if shaped and total else None,
    }


def _of_steps(values: Array) -> Array:
    """Of each step, the mean of its two control points."""
    means: Array = (values[1:] + values[:-1]) / 2
    return means


def _modulation_score(beam: TreatmentBeam, length: Array, width: Array) -> float:
    """Σ MU · leaf sequence variability · aperture area variability, over MU."""
    open_ = (length > _STILL) & (width > _STILL)
    ever = (length * (width > 0)).max(axis=0)
    area = length.sum(axis=1, where=open_) / max(float(ever.sum()), 1e-9)
    parts = []
    for point in range(beam.points):
        shape = 1.0
        for bank in beam.leaves_mm[point]:
            edge = bank[open_[point]]
            span = float(np.ptp(edge)) if edge.size else 0.0
            if edge.size > 1 and span > 0:
                shape *= float((span - np.abs(np.diff(edge))).sum()) / ((edge.size - 1) * span)
        parts.append(shape * float(area[point]))
    mu = beam.step_mu.clip(0)
    return float(_of_steps(np.array(parts)) @ mu / mu.sum()) if mu.sum() > 0 else 0.0
