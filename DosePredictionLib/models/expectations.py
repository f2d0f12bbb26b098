"""The cases that a model was made for, as its card says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from ..beams.arrangement import BeamArrangement
from ..ranges import CtHu, DoseGy, Fractions, SpacingXyzMm, require_rising
from ..schema import Length, Name, validated

__all__ = ["ModelExpectations"]


@dataclass(frozen=True)
@validated
class ModelExpectations:
    """What a model's card says of the cases that it was made for; None or empty: it does not say.

    Args:
        spacing_mm_min, spacing_mm_max: voxel spacing (x, y, z), mm.
        prescription_gy: target channel → Gy.
        fractions: number of fractions of that prescription.
        technique: "IMRT", "VMAT", …
        hu_min, hu_max: range of the CT values that the model has seen, HU.
        beams: arrangements of the plans that it has learned; none: it knows nothing of beams.
    """

    spacing_mm_min: SpacingXyzMm | None = None
    spacing_mm_max: SpacingXyzMm | None = None
    prescription_gy: Annotated[Mapping[Name, DoseGy], Length(0, 100)] = field(default_factory=dict)
    fractions: Fractions | None = None
    technique: Name | None = None
    hu_min: CtHu | None = None
    hu_max: CtHu | None = None
    beams: Annotated[tuple[BeamArrangement, ...], Length(0, 100)] = ()

    def __post_init__(self) -> None:
        require_rising("spacing_mm_max", self.spacing_mm_min, self.spacing_mm_max)
        require_rising("hu_max", self.hu_min, self.hu_max)
