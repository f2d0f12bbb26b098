"""The cases that a model was made for, as its card says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ModelExpectations"]


@dataclass(frozen=True)
class ModelExpectations:
    """What a model's card says of the cases that it was made for; None or empty: it does not say.

    Args:
        spacing_mm_min, spacing_mm_max: voxel spacing (x, y, z), mm.
        prescription_gy: target channel → Gy.
        fractions: number of fractions of that prescription.
        technique: "IMRT", "VMAT", …
        hu_min, hu_max: range of the CT values that the model has seen, HU.
    """

    spacing_mm_min: tuple[float, float, float] | None = None
    spacing_mm_max: tuple[float, float, float] | None = None
    prescription_gy: Mapping[str, float] = field(default_factory=dict)
    fractions: int | None = None
    technique: str | None = None
    hu_min: float | None = None
    hu_max: float | None = None
