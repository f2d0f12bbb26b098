"""Case folders: a CT, one mask a structure, and optionally a plan dose, strips and `case.json`.

`ct`, `dose_plan`, `strip_full_theta000|045|090|135` and `<structure>`, with or without the
published suffix `_256_64`, as NIfTI, NRRD or MetaImage; a label map or a segmentation of 3D Slicer
(`.seg.nrrd`) is several structures. `case.json` may hold
`{"prescription": {"PTV": 45.0}, "fractions": 25, "technique": "IMRT", "beams": "nine-field"}`;
beams are a name, gantry angles as in "0,90,180", or an object with the fields of `BeamArrangement`;
`"wishes": [{"structure": "Rectum", "dose_gy": 40, "percent": 25}]` says what was asked of organs.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from ..beams.arrangement import BeamArrangement, parse_beams
from ..case import Case, Prescription
from ..errors import CaseError
from ..findings import Finding
from ..mask import Mask
from ..processes import usable_cores
from ..ranges import DoseGy, Fractions
from ..schema import FreeText, Length, Name, from_json, read_json, to_json, validated
from ..volume import Grid
from ..wishes import Wish
from .dose_grid import dose_gaps, dose_on_grid
from .labels import LABEL_SUFFIXES
from .stored import StoredImage
from .structures import require_finite, structures_from
from .volumes import file_stem, is_volume_file, read_image, read_volume, write_volume

__all__ = [
    "PUBLISHED_PREDICTION",
    "PUBLISHED_SUFFIX",
    "add_structures",
    "is_case_folder",
    "mask_files",
    "read_case_folder",
    "read_structures",
    "write_case_folder",
]

PUBLISHED_SUFFIX = "_256_64"
PUBLISHED_PREDICTION = "E2E_Baseline_Lband_Pred_Dose_256_64"
"""Name under which published predictions lie in a case folder."""

_STRIP = re.compile(r"strip_full_theta(\d{3})")
_DOSE = re.compile(r"(rt|rd|plan|total|sum|phys|physical)?[\W_]*dose", re.IGNORECASE)
_PREDICTION = re.compile(r"pred|e2e_", re.IGNORECASE)
_BESIDE_IMAGES = (".raw", ".zraw", ".gz", ".z")  # data of detached headers
_KNOWN_FILES = (
    "case.json",
    "prediction.json",
    "segmentation.json",
    "report.html",
    "LICENSE",
    "README.md",
)
_MOST_NAMED = 12


@dataclass(frozen=True)
@validated
class _CaseDescription:
    """The content of `case.json`."""

    prescription: Annotated[dict[Name, DoseGy], Length(0, 100)] | None = None
    fractions: Fractions | None = None
    technique: Name | None = None
    description: FreeText | None = None
    beams: FreeText | BeamArrangement | None = None
    wishes: Annotated[tuple[Wish, ...], Length(0, 100)] = ()


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
    strip_files = {
        int(match.group(1)): name for name in files if (match := _STRIP.fullmatch(name.lower()))
    }
    masks = [name for name in files if _is_structure(name)]
    noticed: list[Finding] = []
    # Unzipping releases the interpreter; each thread holds a whole image.
    with ThreadPoolExecutor(usable_cores()) as pool:
        ct_read = pool.submit(read_volume, files["ct"], noticed)

        def read(name: str) -> tuple[dict[str, Mask], list[Finding]]:
            image = read_image(files[name])  # begun after the CT: that is not waited for in vain
            return _on_ct(image, files[name], name, ct_read.result().grid)

        reads = {name: pool.submit(read, name) for name in [*masks, *strip_files.values()]}
        ct = ct_read.result()
        on_ct: dict[str, dict[str, Mask]] = {}
        for name, each in reads.items():
            on_ct[name], more = each.result()
            noticed += more
    structures: dict[str, Mask] = {}
    for name in masks:
        add_structures(structures, on_ct[name], files[name])
    strips = {angle: _only(on_ct[name], files[name]) for angle, name in strip_files.items()}
    dose = None
    if "dose_plan" in files:
        stored = read_volume(files["dose_plan"], noticed)
        label = f"The plan dose {files['dose_plan'].name}"
        require_finite(stored.array, files["dose_plan"], "a dose is a number in Gy")
        dose, resampled = dose_on_grid(stored, ct.grid, {}, label)
        noticed += resampled
        noticed += dose_gaps(stored.grid, ct.grid, structures, label)
    prescription, beams, wishes = _described(folder)
    return Case(
        name=folder.resolve().name,
        ct=ct,
        structures=structures,
        plan_dose=dose,
        prescription=prescription,
        strips=strips or None,
        findings=(*findings, *_once(noticed)),
        beams=beams,
        wishes=wishes,
    )


def write_case_folder(folder: Path, case: Case, only_plan: bool = False) -> None:
    """Write a case so that `read_case_folder` gives it back: a structure's name is a file's name.

    Findings, dose mask, strips and DICOM origin are not written.

    Args:
        only_plan: CT and structures are there already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not only_plan:
        write_volume(folder / "ct.nii.gz", case.ct)
        for name, mask in case.structures.items():
            write_volume(folder / f"{name}.nii.gz", mask)
    if case.plan_dose is not None:
        write_volume(folder / "dose_plan.nii.gz", case.plan_dose)
    content: dict[str, Any] = {}
    if case.prescription is not None:
        content = {
            "prescription": dict(case.prescription.target_gy),
            "fractions": case.prescription.fractions,
            "technique": case.prescription.technique,
        }
    if case.beams is not None:
        content["beams"] = to_json(case.beams)
    if case.wishes:
        content["wishes"] = to_json(case.wishes)
    if content:
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (folder / "case.json").write_text(text + "\n", encoding="utf-8")


def _files(folder: Path) -> tuple[dict[str, Path], list[Finding]]:
    """Volume files by their name without suffix; published names win over plain ones."""
    entries = _entries(folder)
    paths = [path for path in entries if is_volume_file(path) and _is_text(path.name)]
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
    findings = []
    ignored = [path.name for path in paths if path not in files.values()]
    if ignored:
        message = f"Files with the published suffix are read; these are not: {', '.join(ignored)}."
        findings.append(Finding("files-ignored", "info", message))
    return files, findings + _left_out(entries) + _other_doses(files)


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without what is hidden."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as exception:
        raise CaseError(f"{folder} cannot be read: {exception.strerror}.") from exception


def _is_text(name: str) -> bool:
    """Whether a name is UTF-8 without control characters, so that any output can hold it."""
    # A byte that is not UTF-8 arrives as a lone surrogate.
    return not any(unicodedata.category(letter) in ("Cs", "Cc") for letter in name)


def _left_out(entries: list[Path]) -> list[Finding]:
    """What is not read of a folder, and why."""
    odd = [ascii(path.name) for path in entries if not _is_text(path.name)]
    findings = []
    if odd:
        message = f"Files whose names are not UTF-8 text are not read: {_shortened(odd)}."
        findings.append(Finding("files-ignored", "warning", message, "Rename them."))
    detached = any(path.suffix.lower() in (".mhd", ".nhdr") for path in entries)
    others = [
        f"{path.name} (a folder)" if path.is_dir() else path.name
        for path in entries
        if _is_text(path.name)
        and not is_volume_file(path)
        and path.name not in _KNOWN_FILES
        and path.suffix.lower() not in LABEL_SUFFIXES
        and not (detached and path.suffix.lower() in _BESIDE_IMAGES)
    ]
    if others:
        message = f"Not read, for they are no NIfTI, NRRD or MetaImage files: {_shortened(others)}."
        findings.append(Finding("files-ignored", "info", message))
    return findings


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _other_doses(files: dict[str, Path]) -> list[Finding]:
    """Doses under another name than the plan's, which are not read."""
    doses = [path.name for name, path in files.items() if name != "dose_plan" and _DOSE.match(name)]
    if not doses:
        return []
    message = f"Not read, by its name a dose that is not the plan's: {_shortened(doses)}."
    if "dose_plan" in files:
        return [Finding("dose-ignored", "info", message)]
    remedy = "Did you mean the plan's dose? Name it dose_plan.nii.gz."
    return [Finding("dose-ignored", "warning", message, remedy)]


def mask_files(folder: Path) -> dict[str, Path]:
    """Structure → file of a folder, which needs no CT; doses and strips are none.

    Raises:
        CaseError: two files of one name.
    """
    return {name: path for name, path in _files(folder)[0].items() if _is_structure(name)}


def _is_structure(name: str) -> bool:
    return not (
        name == "ct"
        or _STRIP.fullmatch(name.lower())
        or _DOSE.match(name)
        or _PREDICTION.match(name)
    )


def read_structures(
    path: Path, grid: Grid, findings: list[Finding], labels: Mapping[int, str] | None = None
) -> dict[str, Mask]:
    """The structures of a file, on the grid of its CT; see `structures_from`.

    Args:
        findings: takes what was noticed.
        labels: label value → name; None takes the header's, or a file's beside it.

    Raises:
        CaseError: unreadable, NaN voxels, labels without names, or no overlap with the grid.
        GeometryError: an impossible grid.
    """
    image = read_image(path)
    findings += image.findings
    return structures_from(image, path, file_stem(path), grid, findings, labels)


def _on_ct(
    image: StoredImage, path: Path, name: str, grid: Grid
) -> tuple[dict[str, Mask], list[Finding]]:
    findings = list(image.findings)
    return structures_from(image, path, name, grid, findings), findings


def _only(masks: dict[str, Mask], path: Path) -> Mask:
    if len(masks) != 1:
        raise CaseError(
            f"{path} holds {len(masks)} structures ({_shortened(list(masks))}), not one."
        )
    return next(iter(masks.values()))


def add_structures(structures: dict[str, Mask], masks: dict[str, Mask], path: Path) -> None:
    """Add the masks of a file to those of others.

    Raises:
        CaseError: two files hold one name.
    """
    for name, mask in masks.items():
        if name in structures:
            raise CaseError(f"{path} holds {name}, and so does another file. Remove or rename one.")
        structures[name] = mask


def _once(findings: list[Finding]) -> list[Finding]:
    """One finding for all files that an image rule noticed, which is the first file's."""
    per_file = ("orientation-disagrees", "image-units", "file-longer", "file-compression")
    kept: list[Finding] = []
    for rule in per_file:
        same = [finding for finding in findings if finding.id == rule]
        if same:
            more = f" So do {len(same) - 1} more files." if len(same) > 1 else ""
            kept.append(replace(same[0], message=same[0].message + more))
    return [*kept, *(finding for finding in findings if finding.id not in per_file)]


def _described(
    folder: Path,
) -> tuple[Prescription | None, BeamArrangement | None, tuple[Wish, ...]]:
    """What `case.json` says."""
    path = folder / "case.json"
    if not path.is_file():
        return None, None, ()
    content = from_json(_CaseDescription, read_json(path, CaseError), str(path), CaseError)
    beams = content.beams
    if isinstance(beams, str):
        beams = parse_beams(beams, f"{path}.beams")
    if not content.prescription:
        return None, beams, content.wishes
    given = Prescription(content.prescription, content.fractions, content.technique)
    return given, beams, content.wishes
