"""Masks as a structure set of a DICOM CT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..case import Case
from ..errors import CaseError
from ..findings import Finding
from ..io import case_name
from ..mask import Mask

__all__ = ["RtstructRequest", "StructureSetFile", "write_structure_set"]

_CONTRIBUTION = "Contours drawn around masks; research only"


@dataclass(frozen=True)
class RtstructRequest:
    """What to write.

    Args:
        ct: DICOM folder with one CT series, or a slice of it.
        masks: NIfTI or NRRD files, one a structure and named like it, or folders of them.
        output: the RTSTRUCT file.
        label: of the structure set.
        labels: file with the names of the labels of label maps; None: as their headers say.
    """

    ct: Path
    masks: tuple[Path, ...]
    output: Path
    label: str = "Masks"
    labels: Path | None = None


@dataclass(frozen=True)
class StructureSetFile:
    """A structure set that was written."""

    path: Path
    structures: tuple[str, ...]
    findings: tuple[Finding, ...]

    def as_json(self) -> dict[str, Any]:
        """The record of `rtstruct`."""
        return {
            "rtstruct": str(self.path),
            "structures": list(self.structures),
            "checks": [finding.as_json() for finding in self.findings],
        }


def write_structure_set(request: RtstructRequest) -> StructureSetFile:
    """Write masks as an RTSTRUCT.

    Raises:
        CaseError: the CT or a mask is missing or cannot be read, or two masks have one name.
    """
    from ..io.dicom import read_images
    from ..io.dicom.rtstruct import Equipment, write_rtstruct
    from ..io.labels import read_labels
    from ..io.nifti import add_structures, read_structures

    if not request.ct.exists():
        raise CaseError(f"There is no CT {request.ct}: no such file or folder.")
    files = _mask_files(request.masks)
    ct, origin = read_images(request.ct)
    findings = list(ct.findings)
    grid = ct.volume.grid
    labels = None if request.labels is None else read_labels(request.labels)
    masks: dict[str, Mask] = {}
    for file in files.values():
        add_structures(masks, read_structures(file, grid, findings, labels), file)
    empty = [name for name, mask in masks.items() if mask.is_empty]
    if empty:
        message = f"Structures without contours: {', '.join(empty)}."
        findings.append(Finding("structures-without-contours", "warning", message))
    equipment = Equipment("masks from files", __version__, _CONTRIBUTION)
    case = Case(case_name(request.ct), ct.volume, masks, origin=origin)
    findings += write_rtstruct(request.output, masks, case, equipment, request.label)
    return StructureSetFile(request.output, tuple(masks), tuple(findings))


def _mask_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Structure → file: those named, and those in the folders named.

    Raises:
        CaseError: a folder holds no masks, or two files have one name.
    """
    from ..io.nifti import mask_files
    from ..io.volumes import file_stem

    files: dict[str, Path] = {}
    for path in paths:
        found = mask_files(path) if path.is_dir() else {file_stem(path): path}
        if not found:
            raise CaseError(f"{path} holds no masks: expected a NIfTI or NRRD file a structure.")
        for name, file in found.items():
            if name in files:
                raise CaseError(f"{files[name]} and {file} are both called {name}: rename one.")
            files[name] = file
    return files
