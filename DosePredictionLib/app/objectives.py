"""A dose for those who plan elsewhere: isodoses as structures, and endpoints as objectives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..case import Case
from ..checks.plan_dose import require_possible_dose, scored_structures
from ..errors import CaseError
from ..files import file_set
from ..findings import Finding
from ..io import read_case
from ..io.doses import read_dose
from ..structures.bound import BoundCase, bind
from ..structures.protocol import StructureProtocol
from ..tables import write_table
from ..volume import Volume
from .choices import MappingChoice

__all__ = ["ObjectivesFiles", "ObjectivesRequest", "write_objectives"]

COLUMNS = ("structure", "role", "type", "dose_gy", "volume_percent", "text")
_TARGET = ((98.0, "lower"), (95.0, "lower"), (2.0, "upper"))
_ORGAN = (2.0, 20.0, 50.0)
_LOWEST_GY = 1.0  # objectives below are no limits
_TABLE, _STRUCTURES = "objectives.csv", "isodoses"


@dataclass(frozen=True)
class ObjectivesRequest:
    """Whose dose becomes objectives.

    Args:
        case: what `read_case` takes.
        dose: its predicted dose.
        output: the files go into a folder of the case's name in it.
        levels_percent: isodoses, of the highest prescription.
        protocol: id; None: the mapping's, or the one that fits.
        mapping: structures for channels.
    """

    case: Path
    dose: Path
    output: Path
    levels_percent: tuple[float, ...] = (95.0, 80.0, 50.0)
    protocol: str | None = None
    mapping: MappingChoice = field(default_factory=MappingChoice)


@dataclass(frozen=True)
class ObjectivesFiles:
    """What was written, and what was noticed."""

    case: str
    files: tuple[Path, ...]
    findings: tuple[Finding, ...]

    def as_json(self) -> dict[str, Any]:
        """`case`, `files` and `checks`."""
        return {
            "case": self.case,
            "files": [str(file) for file in self.files],
            "checks": [finding.as_json() for finding in self.findings],
        }


def write_objectives(request: ObjectivesRequest) -> ObjectivesFiles:
    """Write isodoses (RTSTRUCT of a DICOM case, else NIfTI masks) and a table of objectives.

    Raises:
        DosePredictionError: the case or the dose cannot be read, an isodose level is none, or there
            is no prescription that levels are percentages of.
    """
    if not request.levels_percent or not all(0 < level <= 150 for level in request.levels_percent):
        raise CaseError("Isodose levels are percentages above 0 and at most 150.")
    named = request.protocol or request.mapping.protocol
    protocol = None if named is None else StructureProtocol.load(named)
    bound = bind(read_case(request.case), protocol, request.mapping.of(protocol))
    case = bound.case
    if not bound.prescriptions_gy:
        raise CaseError(f"{case.name} has no prescription that isodoses are percentages of.")
    frame = case.origin.frame_of_reference_uid if case.origin else None
    dose, findings = read_dose(request.dose, case.grid, scored_structures(bound), frame_uid=frame)
    findings += require_possible_dose(bound, dose, str(request.dose))
    isodoses = _isodoses(bound, dose, request.levels_percent)
    folder = request.output / case.name
    with file_set(folder) as aside:
        findings += _write_isodoses(aside, isodoses, case)
        write_table(aside / _TABLE, [COLUMNS, *_objectives(bound, dose)])
        names = sorted(path.name for path in aside.iterdir())
    return ObjectivesFiles(case.name, tuple(folder / name for name in names), tuple(findings))


def _isodoses(bound: BoundCase, dose: Volume, levels: Sequence[float]) -> dict[str, Volume]:
    highest_gy = max(bound.prescriptions_gy.values())
    return {
        f"Isodose {level:g}% {level * highest_gy / 100:.2f}Gy": dose.with_array(
            dose.array >= level * highest_gy / 100
        )
        for level in levels
    }


def _write_isodoses(folder: Path, isodoses: dict[str, Volume], case: Case) -> list[Finding]:
    if case.origin is None:
        from ..io.volumes import write_volume

        for name, mask in isodoses.items():
            file = folder / f"{name.replace(' ', '_')}.nii.gz"
            write_volume(file, mask, "isodose of a predicted dose; research only")
        return []
    from ..io.dicom.rtstruct import write_rtstruct
    from ..io.dicom.writing import Equipment

    equipment = Equipment("isodoses", __version__, "Isodoses of a predicted dose; research only")
    return write_rtstruct(folder / f"{_STRUCTURES}.dcm", isodoses, case, equipment, "Isodoses")


def _objectives(bound: BoundCase, dose: Volume) -> Iterator[tuple[Any, ...]]:
    """Rows of the table: what the dose reaches, as limits that an optimizer takes."""
    from ..evaluation.dvh import dvh

    for name, structure in bound.structures.items():
        if structure.role not in ("target", "organ"):
            continue
        curve = dvh(dose, structure.mask)
        asked: Sequence[tuple[float, str]] = _TARGET
        if structure.role == "organ":
            asked = [(percent, "upper") for percent in _ORGAN]
            if curve.mean_gy is not None and curve.mean_gy >= _LOWEST_GY:
                yield (
                    name,
                    "organ",
                    "mean",
                    round(curve.mean_gy, 2),
                    "",
                    f"{name} Dmean <= {curve.mean_gy:.2f} Gy",
                )
        for percent, kind in asked:
            gy = curve.dose_at_percent(percent)
            if gy is not None and gy >= _LOWEST_GY:
                sign = ">=" if kind == "lower" else "<="
                text = f"{name} D{percent:g}% {sign} {gy:.2f} Gy"
                yield (name, structure.role, kind, round(gy, 2), percent, text)
