"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

from ..case import Case
from ..errors import CaseError, GeometryError
from ..findings import Finding
from ..prediction import Output
from ..structures.protocol import Role
from ..volume import Volume

__all__ = ["BAND_LEVEL", "Metadata", "ModelCard", "ReportInput", "ReportStructure"]


BAND_LEVEL = "90"
"""Percent of the bands that are drawn and listed."""


class ReportStructure(NamedTuple):
    """One structure as the report shows it.

    Args:
        label: how a person reads it.
        color: "#rrggbb"; lightened or darkened where it would be unreadable.
        mask: bool, or occupancy in 0…1, on the case's grid.
        role: `target`, `organ` or `external`.
        name: its key in the evaluation and the prescription, where that is not the label.
    """

    label: str
    color: str
    mask: Volume
    role: Role
    name: str = ""

    @property
    def key(self) -> str:
        """The name that the evaluation and the prescription use."""
        return self.name or self.label


class ModelCard(TypedDict, total=False):
    """Summary of a model's card; text, or a mapping of text and numbers."""

    trained_on: Any
    figures: Any
    prescription: Any
    intended_use: Any
    licence: Any
    citation: Any


class Metadata(TypedDict, total=False):
    """How the dose came about. Everything may be missing; a missing part is left out.

    `seconds` is the time of each step by name, or the whole; `prescription_gy` is target → Gy;
    `beams` and `wishes` are those that it was predicted for, in words;
    `generated` an ISO date; `protocol` the protocol's title; `version` that of this software;
    `kicker` and `notice` what stands above the title and in the warning of a report on something
    else than a predicted dose.
    """

    model: str
    title: str
    kicker: str
    notice: str
    protocol: str
    weights_sha256: str
    card: ModelCard
    device: str
    precision: str
    seconds: Mapping[str, float] | float
    findings: Sequence[Finding]
    fallbacks: Sequence[str]
    prescription_gy: Mapping[str, float]
    beams: str
    wishes: Sequence[str]
    fractions: int
    generated: str
    version: str


@dataclass(frozen=True, eq=False)
class ReportInput:
    """A predicted dose and everything to be said about it.

    Args:
        case: the case; its CT lies under the doses.
        prediction: Gy, on the case's grid.
        structures: in display order.
        reference: the plan's dose in Gy on the case's grid, if there is a plan.
        metadata: model, device, timings, findings, prescription.
        evaluation: what `evaluate` says of one case; any key may be missing or None.
        further: what was predicted beside the dose, each shown in one slice.
        bands: what `prediction.json` says of the DVHs' bands; empty without a calibration.

    Raises:
        GeometryError: a dose, an output or a mask lies on another grid than the case. Nothing is
            resampled.
        CaseError: a structure appears twice.
    """

    case: Case
    prediction: Volume
    structures: Sequence[ReportStructure]
    reference: Volume | None = None
    metadata: Metadata = field(default_factory=Metadata)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    further: Sequence[Output] = ()
    bands: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        structures = tuple(ReportStructure(*structure) for structure in self.structures)
        object.__setattr__(self, "structures", structures)
        object.__setattr__(self, "evaluation", self.evaluation or {})
        volumes = [("The prediction", self.prediction), ("The plan dose", self.reference)]
        volumes += [(structure.label, structure.mask) for structure in structures]
        volumes += [(f"The output {output.key}", output.volume) for output in self.further]
        for label, volume in volumes:
            if volume is not None and not volume.grid.matches(self.case.grid):
                raise GeometryError(
                    f"{label} lies on {volume.grid}, the case on {self.case.grid}. Resample it to "
                    "the case's grid before reporting."
                )
        keys = [structure.key for structure in structures]
        for key in keys:
            if keys.count(key) > 1:
                raise CaseError(f"The report lists structure {key!r} twice; name it once.")

    @property
    def prescription_gy(self) -> Mapping[str, float]:
        """Target → Gy: what the dose was scaled to, else the case's own; may be empty."""
        stated = self.metadata.get("prescription_gy")
        if stated:
            return stated
        return self.case.prescription.target_gy if self.case.prescription else {}

    @property
    def highest_gy(self) -> float | None:
        """The highest prescribed dose; isodoses are percentages of it."""
        levels = self.prescription_gy.values()
        return max(levels) if levels else None

    def prescribed_to(self, structure: ReportStructure) -> float | None:
        """Dose prescribed to one target, Gy."""
        levels = self.prescription_gy
        return levels.get(structure.key, levels.get(structure.label))

    def banded(self, structure: ReportStructure) -> Mapping[str, Any]:
        """The bands of one structure; empty where it was not calibrated."""
        found: Mapping[str, Any] = self.bands.get("structures", {}).get(structure.key, {})
        return found

    def evaluated(self, structure: ReportStructure) -> Mapping[str, Any]:
        """What the evaluation says of one structure; empty when nothing."""
        structures = self.evaluation.get("structures") or {}
        return structures.get(structure.key) or structures.get(structure.label) or {}
