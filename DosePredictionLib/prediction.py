"""What a prediction is. Without torch, so that a window can hold one that another process made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from .case import Case, Prescription
from .findings import Finding
from .mask import Mask
from .models.manifest import ModelFolder
from .structures.bound import BoundCase
from .structures.mapping import StructureMapping
from .volume import Volume

__all__ = ["Prediction"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted dose and how it came about.

    Args:
        dose: Gy, float32, on the CT's own grid.
        mapping: which structure went into which channel, and why.
        prescription: what the dose was scaled to.
        external: the external contour that was used, on the CT's grid.
        findings: everything noticed from reading to the end, worst first.
        fallbacks: what was tried when memory ran out, in words.
        seconds: time of each step.
        coarse: the first stage's dose, Gy, if it was asked for.
        strips: the strip masks that the network received, angle in degrees → mask on the CT's
            grid, if they were asked for.
        spread: of an ensemble, the standard deviation of its networks' doses, Gy, on the CT's own
            grid; None for a single network.
    """

    case: Case
    model: ModelFolder
    dose: Volume
    mapping: StructureMapping
    prescription: Prescription
    external: Volume
    findings: tuple[Finding, ...]
    fallbacks: tuple[str, ...]
    device: str
    precision: str
    seconds: Mapping[str, float]
    coarse: Volume | None = None
    strips: Mapping[int, Volume] | None = None
    spread: Volume | None = None

    @cached_property
    def bound(self) -> BoundCase:
        """What was decided about the case: for evaluation, reports and nodes."""
        return BoundCase(
            case=self.case,
            protocol=self.model.protocol,
            mapping=self.mapping,
            prescription=self.prescription,
            findings=self.findings,
            known_external=Mask.of(self.external),
        )
