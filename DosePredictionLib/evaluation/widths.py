"""How far a dose's expected error moves its DVH endpoints: the widths of bands that fit the case.

The width of an endpoint is half of the difference between its value for the dose plus and for the
dose minus its expected |error|. It is too wide, because errors do not all have one sign; how much
so is what calibration measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from ..ranges import DoseGy
from ..schema import Length, Name, Range, validated
from ..structures.bound import BoundCase
from ..volume import Volume
from .curve import VolumeCurve
from .dvh import Dvh, checked_dose, dvh_region

__all__ = ["VOLUMES_PERCENT", "StructureWidths", "Widths", "curve_doses", "error_widths"]

VOLUMES_PERCENT = tuple(range(1, 100))
"""Volumes at which a band of a curve is known."""

_Width = Annotated[float, Range(0, 1e6)]


@dataclass(frozen=True)
@validated
class StructureWidths:
    """Of one structure: endpoint key → width in the key's unit, and of D_v at 1, 2, … 99 %, Gy."""

    endpoints: Annotated[Mapping[Name, _Width], Length(0, 200)]
    curve_gy: Annotated[tuple[_Width, ...], Length(len(VOLUMES_PERCENT), len(VOLUMES_PERCENT))]


Widths = Mapping[str, StructureWidths]
"""By the names of results."""


def error_widths(
    bound: BoundCase,
    dose: Volume,
    expected_error: Volume,
    prescriptions_gy: Mapping[str, DoseGy],
    keys: Mapping[str, Sequence[str]],
) -> dict[str, StructureWidths]:
    """The widths of every structure with a voxel.

    Args:
        expected_error: |error|, Gy, on the dose's grid.
        prescriptions_gy: target → Gy.
        keys: structure → the endpoints that are wanted; one without any is left out.
    """
    moved = [
        checked_dose(Volume(np.maximum(dose.array + sign * expected_error.array, 0), dose.grid))
        for sign in (1, -1)
    ]
    highest = max(prescriptions_gy.values(), default=None)
    found = {}
    for name, wanted in keys.items():
        region = dvh_region(bound.structures[name].mask, name)
        high, low = (region.dvh_in(*each) for each in moved)
        if high.curve is None or low.curve is None:
            continue
        prescription = prescriptions_gy.get(name, highest)
        found[name] = StructureWidths(
            _half_differences(high, low, wanted, prescription),
            tuple(_rounded((curve_doses(high.curve) - curve_doses(low.curve)) / 2)),
        )
    return found


def curve_doses(curve: VolumeCurve) -> np.ndarray:
    """The dose in Gy at 1, 2, … 99 % of the volume, `(99,)`."""
    return curve.dose_at(np.asarray(VOLUMES_PERCENT) / 100.0 * curve.total)


def _half_differences(
    high: Dvh, low: Dvh, keys: Sequence[str], prescription_gy: float | None
) -> dict[str, float]:
    above, below = (each.endpoints(keys, prescription_gy) for each in (high, low))
    return {
        key: round(abs(one - other) / 2, 4)
        for key in keys
        if (one := above[key]) is not None and (other := below[key]) is not None
    }


def _rounded(values: Any) -> list[float]:
    return [round(max(float(value), 0.0), 4) for value in values]
