"""What a machine is asked to deliver: beams with control points, as an RTPLAN holds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["TreatmentBeam"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TreatmentBeam:
    """One treatment beam; every array has a row for each control point.

    Args:
        kind: STATIC or DYNAMIC.
        meterset: monitor units of one fraction; None when the plan has none.
        weight: cumulative meterset as a share of its final value; 0 to 1, if the plan is sound.
        gantry_degrees, collimator_degrees, couch_degrees: IEC 61217.
        jaws_x_mm, jaws_y_mm: `(control point, 2)` in the isocenter plane; NaN where there are none.
        leaves_mm: `(control point, bank, leaf pair)`; no pairs without a multileaf collimator. The
            first bank is that on the negative side.
        leaf_borders_mm: `(leaf pair + 1,)` across the leaves.
        leaves_along: X or Y, the direction in which leaves move; empty without them.
        isocenter_mm: LPS; None when not stated.
        dose_rate_mu_min: stated for each control point; NaN where none is.
        stated_points: how many control points the plan says that there are; None: it does not.
        sad_mm: from the source to the gantry's axis; None when not stated.
        unstated: what its file has to state and does not, by keyword; values stand in for it here.
        unread: what shapes or moves it and is in no field here, in words: wedges, a second MLC.
    """

    number: int
    name: str
    machine: str
    kind: str
    radiation: str
    energy_mv: float | None
    meterset: float | None
    weight: Array
    gantry_degrees: Array
    collimator_degrees: Array
    couch_degrees: Array
    jaws_x_mm: Array
    jaws_y_mm: Array
    leaves_mm: Array
    leaf_borders_mm: Array
    leaves_along: str
    isocenter_mm: tuple[float, float, float] | None
    dose_rate_mu_min: Array
    stated_points: int | None = None
    sad_mm: float | None = None
    unstated: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def points(self) -> int:
        """Number of control points."""
        return int(self.weight.size)

    @property
    def step_mu(self) -> Array:
        """Monitor units between each control point and the next, `(control point - 1,)`."""
        steps: Array = np.diff(self.weight) * (self.meterset or 0.0)
        return steps
