"""Case folders: a CT, one mask a structure, and optionally a plan dose, strips and `case.json`.

`ct`, `dose_plan`, `strip_full_theta000|045|090|135` and `<structure>`, with or without the
published suffix `_256_64`, as NIfTI (or NRRD). `case.json` may hold
`{"prescription": {"PTV": 45.0}, "fractions": 25, "technique": "IMRT"}`.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from ..case import Case, Prescription
from ..errors import CaseError
from ..findings import Finding
from ..ranges import DoseGy, Fractions
from ..schema import FreeText, Length, Name, from_json, read_json, validated
from ..volume import Grid, Volume
from .doses import dose_gaps, dose_on_grid
from .volumes import file_stem, is_volume_file, read_volume, write_volume

__all__ = [
    "PUBLISHED_PREDICTION",
    "PUBLISHED_SUFFIX",
    "is_case_folder",
    "mask_files",
    "read_case_folder",
    "read_mask",
    "write_case_folder",
]

PUBLISHED_SUFFIX = "_256_64"
PUBLISHED_PREDICTION = "E2E_Baseline_Lband_Pred_Dose_256_64"
"""Name under which published predictions lie in a case folder."""

_STRIP = re.compile(r"strip_full_theta(\d{3})")
_NOT_STRUCTURES = re.compile(r"(dose|pred|e2e_)", re.IGNORECASE)


@dataclass(frozen=True)
@validated
class _CaseDescription:
    """The content of `case.json`."""

    prescription: Annotated[dict[Name, DoseGy], Length(0, 100)] | None = None
    fractions: Fractions | None = None
    technique: Name | None = None
    description: FreeText | None = None


def is_case_folder(path: Path) -> bool:
    """Whether a folder holds volume files at all."""
    return path.is_dir() and any(is_volume_file(file) for file in path.iterdir())


def read_case_folder(folder: Path) -> Case:
    """Read a case folder; masks and dose on other grids are resampled onto the CT's.

    Raises:
        CaseError: no CT, an unreadable file, NaN voxels, a structure that does not overlap the CT.
        GeometryError: an impossible grid.
    """
    files, findings = _files(folder)
    if "ct" not in files:
        found = ", ".join(sorted(path.name for path in files.values())) or "no volumes"
        raise CaseError(f"{folder} holds no CT (ct.nii.gz or ct_256_64.nii.gz); it has {found}.")
    strips = {
        int(match.group(1)): name for name in files if (match := _STRIP.fullmatch(name.lower()))
    }
    masks = [name for name in files if _is_structure(name)]
    with ThreadPoolExecutor() as pool:  # unzipping releases the interpreter
        ct_read = pool.submit(read_volume, files["ct"])
        reads = {name: pool.submit(read_volume, files[name]) for name in [*masks, *strips.values()]}
        ct = ct_read.result()
        volumes = {
            name: _mask_on(read.result(), ct.grid, name, files[name], findings)
            for name, read in reads.items()
        }
    structures = {name: volumes[name] for name in masks}
    dose = None
    if "dose_plan" in files:
        stored = read_volume(files["dose_plan"])
        label = f"The plan dose {files['dose_plan'].name}"
        dose, noticed = dose_on_grid(stored, ct.grid, {}, label)
        findings += noticed
        findings += dose_gaps(stored.grid, ct.grid, structures, label)
    return Case(
        name=folder.resolve().name,
        ct=ct,
        structures=structures,
        plan_dose=dose,
        prescription=_prescription(folder),
        strips={angle: volumes[name] for angle, name in strips.items()} or None,
        findings=tuple(findings),
    )


def write_case_folder(folder: Path, case: Case) -> None:
    """Write a case so that `read_case_folder` gives it back: a structure's name is a file's name.

    Findings, dose mask, strips and DICOM origin are not written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_volume(folder / "ct.nii.gz", case.ct)
    for name, mask in case.structures.items():
        write_volume(folder / f"{name}.nii.gz", mask)
    if case.plan_dose is not None:
        write_volume(folder / "dose_plan.nii.gz", case.plan_dose)
    if case.prescription is not None:
        content = {
            "prescription": dict(case.prescription.target_gy),
            "fractions": case.prescription.fractions,
            "technique": case.prescription.technique,
        }
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (folder / "case.json").write_text(text + "\n", encoding="utf-8")


def _files(folder: Path) -> tuple[dict[str, Path], list[Finding]]:
    """Volume files by their name without suffix; published names win over plain ones."""
    paths = sorted(path for path in folder.iterdir() if is_volume_file(path))
    published = [path for path in paths if file_stem(path).endswith(PUBLISHED_SUFFIX)]
    if not any(file_stem(path) == f"ct{PUBLISHED_SUFFIX}" for path in published):
        published = []
    files: dict[str, Path] = {}
    for path in published or paths:
        stem = file_stem(path).removesuffix(PUBLISHED_SUFFIX)
        if stem.lower() in ("ct", "dose_plan"):
            stem = stem.lower()
        if stem in files:
            raise CaseError(
                f"{folder} holds {stem} twice: {files[stem].name} and {path.name}. Remove one."
            )
        files[stem] = path
    strips = [path for path in paths if _STRIP.fullmatch(file_stem(path).lower())]
    files.update({file_stem(path): path for path in strips})
    ignored = [path.name for path in paths if path not in files.values()]
    if not ignored:
        return files, []
    message = f"Files with the published suffix are read; these are not: {', '.join(ignored)}."
    return files, [Finding("files-ignored", "info", message)]


def mask_files(folder: Path) -> dict[str, Path]:
    """Structure → file of a folder, which needs no CT; doses and strips are none.

    Raises:
        CaseError: two files of one name.
    """
    return {name: path for name, path in _files(folder)[0].items() if _is_structure(name)}


def _is_structure(name: str) -> bool:
    return not (name == "ct" or _STRIP.fullmatch(name.lower()) or _NOT_STRUCTURES.match(name))


def read_mask(path: Path, grid: Grid, findings: list[Finding]) -> Volume:
    """One structure from a file, on the grid of its CT.

    Args:
        findings: takes what was noticed: values that are not 0 and 1, resampling.

    Raises:
        CaseError: unreadable, NaN voxels, or it does not overlap the grid.
        GeometryError: an impossible grid.
    """
    return _mask_on(read_volume(path), grid, file_stem(path), path, findings)


def _mask_on(volume: Volume, grid: Grid, name: str, path: Path, findings: list[Finding]) -> Volume:
    """A mask as bool or occupancy on the CT's grid."""
    array = volume.array
    if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
        raise CaseError(f"{path} holds NaN or infinite voxels; a mask holds 0 and 1.")
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind == "f" and low >= 0 and high <= 1 and np.any((array > 0) & (array < 1)):
        mask = volume  # sub-voxel occupancy
    else:
        mask = volume.with_array(array > 0)
        if low < 0 or high > 1:
            message = (
                f"{path.name} holds values from {low:g} to {high:g}; above 0 counts as inside."
            )
            findings.append(Finding("mask-normalized", "info", message, structure=name))
    if mask.grid.matches(grid):
        return Volume(mask.array, grid)
    if not mask.grid.extent_overlaps(grid):
        raise CaseError(
            f"{path} lies on {mask.grid} and does not overlap the CT on {grid}: they are of "
            "different patients or frames of reference."
        )
    message = f"{path.name} ({mask.grid}) was resampled onto the CT's grid ({grid})."
    findings.append(Finding("structure-resampled", "info", message, structure=name))
    occupancy = mask.resampled_to(grid, "occupancy")
    return occupancy.with_array(np.clip(occupancy.array, 0, 1))


def _prescription(folder: Path) -> Prescription | None:
    path = folder / "case.json"
    if not path.is_file():
        return None
    content = from_json(_CaseDescription, read_json(path, CaseError), str(path), CaseError)
    if not content.prescription:
        return None
    return Prescription(content.prescription, content.fractions, content.technique)
