"""Which files of a folder belong together: one CT, its structures, the plan and its doses.

Files are distinguished by what they are, not by their names, and matched by what they refer to. A
choice that only a person can make is refused with the files to choose from: naming one of them as
the case settles it, since the rest follows from its references.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import CaseError, NoStructuresError
from ...findings import Finding
from ..volumes import is_volume_file
from .dose import DicomDose, read_rtdose
from .files import (
    CT,
    ENHANCED_CT,
    ION_PLAN,
    NOT_DICOM,
    RTDOSE,
    RTPLAN,
    RTSTRUCT,
    SEG,
    TEXT,
    DicomFile,
    is_marked,
    open_dicom,
    same_content,
    what_else,
)
from .plan import Plan, read_plan
from .structure_set import StructureSet, read_structure_set

__all__ = ["Selection", "is_dicom", "select", "select_ct"]

_MOST_FILES = 20_000
_SHOWN = 5
_DIRECTORY = "DICOMDIR"


@dataclass(frozen=True, eq=False)
class Selection:
    """The files of one case.

    Args:
        structures: the structure set; None where segmentations take its place.
        segmentations: DICOM SEG files on the CT's frame of reference.
        doses: of one plan.
    """

    ct: tuple[DicomFile, ...]
    structures: StructureSet | None
    segmentations: tuple[DicomFile, ...]
    plan: Plan | None
    doses: tuple[DicomDose, ...]
    findings: tuple[Finding, ...]


def is_dicom(path: Path) -> bool:
    """Whether a path is a DICOM file, or a folder that holds one at any depth."""
    if path.is_file():
        return _looks_like_dicom(path)
    return any(_looks_like_dicom(file) for file in _files(path))


def select(path: Path) -> Selection:
    """Open what lies in a folder, or beside a file, and choose what belongs together.

    Args:
        path: a folder, or the RTSTRUCT, RTPLAN, RTDOSE, SEG or CT file that settles a choice.

    Raises:
        CaseError: no CT or no structures, files of several patients, references that lead nowhere,
            or a choice that only a person can make.
    """
    folder = path if path.is_dir() else path.parent
    opened, findings, skipped = _opened(path)
    named = next((file for file in opened if file.path == path), None)
    series = _ct_series(folder, opened, skipped)
    plan_file = _named_plan(opened, named)
    structures = None
    if named is None or named.sop_class != SEG:
        structures = _structure_set(folder, opened, named, plan_file, series)
    segmentations = [] if structures else _segmentations(folder, opened, named)
    if structures is None and not segmentations:
        raise NoStructuresError(
            f"{folder} holds no structure set (RTSTRUCT) and no segmentation (SEG).{skipped}"
        )
    ct = _ct_of(folder, series, structures, segmentations, named, findings)
    plan_file = plan_file or _plan_of(folder, opened, structures)
    doses = _doses_of(folder, opened, named, plan_file, ct[0].frame_uid)
    chosen = [*ct, *segmentations, *doses]
    chosen += [structures.file] if structures else []
    chosen += [plan_file] if plan_file else []
    _require_one_patient(chosen)
    ions = [file for file in opened if file.sop_class == ION_PLAN]
    findings += [_not_photons(file.path, "protons or ions") for file in ions]
    findings += _ignored(opened, [*chosen, *ions])
    plan = read_plan(plan_file) if plan_file else None
    particles = {beam.radiation.upper() for beam in plan.beams} if plan else set()
    if plan and not particles <= {"PHOTON", ""}:
        kinds = " and ".join(sorted(kind.lower() + "s" for kind in particles - {""}))
        findings.append(_not_photons(plan.file.path, kinds))
    return Selection(
        tuple(ct),
        structures,
        tuple(segmentations),
        plan,
        tuple(read_rtdose(dose) for dose in doses),
        tuple(findings),
    )


def _not_photons(plan: Path, kinds: str) -> Finding:
    message = f"{plan.name} is a plan of {kinds}: its dose is not one that photons give."
    remedy = "Models are trained on photon plans: neither train on it nor score against it."
    return Finding("plan-not-photons", "warning", message, remedy)


def select_ct(path: Path) -> list[DicomFile]:
    """The slices of the one CT series in a folder, or of the one that a slice's path names.

    Raises:
        CaseError: no CT, several series, several patients, or slices without a common frame of
            reference.
    """
    folder = path if path.is_dir() else path.parent
    opened, _, skipped = _opened(path)
    series = _ct_series(folder, opened, skipped)
    firsts = [files[0] for files in series.values()]
    named = next((file for file in opened if file.path == path and file.sop_class == CT), None)
    chosen = named or _one_of(folder, "CT series", firsts, None)
    assert chosen is not None  # there is at least one series
    ct = series.get(chosen.series_uid, [chosen])
    _require_one_frame(ct)
    _require_one_patient(ct)
    return ct


def _opened(path: Path) -> tuple[list[DicomFile], list[Finding], str]:
    """The DICOM files of a folder, or beside a file; copies of one instance count once.

    Returns:
        Files by path, what was noticed, and what to add to a message that something is missing.
    """
    folder = path if path.is_dir() else path.parent
    opened: list[DicomFile] = []
    skipped: dict[str, str] = {}
    for file in _files(folder):
        if file.name.upper() == _DIRECTORY or is_volume_file(file):
            continue
        reason = what_else(file)
        if reason == TEXT:  # notes, licences, tables: nobody misses them
            continue
        if not reason:
            try:
                opened.append(open_dicom(file))
            except CaseError as exception:
                if is_marked(file):
                    raise
                reason = str(exception).removeprefix(f"{file} ")
        if reason:
            skipped[str(file.relative_to(folder))] = reason
    opened, copies = _without_copies(opened, path)
    findings = copies
    stated = ""
    if skipped:
        stated = " Skipped: " + _listed([f"{name} {reason}" for name, reason in skipped.items()])
        odd = any(reason != NOT_DICOM for reason in skipped.values())
        findings.append(Finding("files-skipped", "warning" if odd else "info", stated.strip()))
    return opened, findings, stated


def _without_copies(opened: list[DicomFile], named: Path) -> tuple[list[DicomFile], list[Finding]]:
    """Of files with one content the one that is named as the case, or the shortest name."""
    opened.sort(key=lambda file: (file.path != named, len(file.path.name), file.path))
    seen: dict[str, list[DicomFile]] = {}
    kept: list[DicomFile] = []
    copies: list[DicomFile] = []
    for file in opened:
        others = seen.setdefault(file.instance_uid, []) if file.instance_uid else []
        is_copy = any(same_content(file, other) for other in others)
        (copies if is_copy else kept).append(file)
        others.append(file)
    findings = []
    if copies:
        names = _listed(sorted(file.path.name for file in copies))
        message = f"{len(copies)} files are copies of others and count once: {names}"
        findings.append(Finding("files-copied", "info", message))
    return sorted(kept, key=lambda file: file.path), findings


def _listed(names: Sequence[str]) -> str:
    """A few of them, with how many more there are, as the end of a sentence."""
    more = f" and {len(names) - _SHOWN} more." if len(names) > _SHOWN else "."
    return ", ".join(names[:_SHOWN]) + more


def _files(folder: Path) -> list[Path]:
    """Files at any depth; links to folders are followed, each folder being entered once."""
    files: list[Path] = []
    entered: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders.sort()
        paths = [Path(root, name) for name in sorted(names) if not name.startswith(".")]
        files += [path for path in paths if path.is_file()]
        if len(files) > _MOST_FILES:
            raise CaseError(
                f"{folder} holds more than {_MOST_FILES} files: name the folder of one patient."
            )
    return sorted(files)


def _looks_like_dicom(file: Path) -> bool:
    return file.name.upper() != _DIRECTORY and not what_else(file)


def _one_of(
    folder: Path, kind: str, candidates: Sequence[DicomFile], named: DicomFile | None
) -> DicomFile | None:
    """The named one, or the only one.

    Raises:
        CaseError: there are several.
    """
    if named is not None and named in candidates:
        return named
    if len(candidates) > 1:
        choice = ", ".join(file.label() for file in candidates)
        raise CaseError(
            f"{folder} holds {len(candidates)} {kind} that fit: {choice}. Name the file of one as "
            f"the case, as in {candidates[0].path}."
        )
    return candidates[0] if candidates else None


def _ct_series(
    folder: Path, opened: Sequence[DicomFile], skipped: str
) -> dict[str, list[DicomFile]]:
    """CT slices by series, without scout views."""
    series: dict[str, list[DicomFile]] = {}
    for file in opened:
        if file.sop_class == CT and "LOCALIZER" not in file.item.text("ImageType", "").upper():
            series.setdefault(file.series_uid, []).append(file)
    enhanced = next((file for file in opened if file.sop_class == ENHANCED_CT), None)
    if not series and enhanced is not None:
        raise CaseError(
            f"{enhanced.path} is an Enhanced CT: export the series as single slices (CT Image "
            "Storage)."
        )
    if not series:
        raise CaseError(f"{folder} holds no CT slices: put the CT series into the folder.{skipped}")
    return series


def _named_plan(opened: Sequence[DicomFile], named: DicomFile | None) -> DicomFile | None:
    """The plan that the person named, or that of the dose named."""
    if named is None or named.sop_class not in (RTPLAN, RTDOSE):
        return None
    if named.sop_class == RTPLAN:
        return named
    wanted = _references(named, "ReferencedRTPlanSequence")
    return next((f for f in opened if f.sop_class == RTPLAN and f.instance_uid in wanted), None)


def _references(file: DicomFile, sequence: str) -> set[str]:
    """Instances that a sequence refers to."""
    return {item.text("ReferencedSOPInstanceUID", "") for item in file.item.items(sequence)} - {""}


def _structure_set(
    folder: Path,
    opened: Sequence[DicomFile],
    named: DicomFile | None,
    plan: DicomFile | None,
    series: dict[str, list[DicomFile]],
) -> StructureSet | None:
    """The structure set that was named, that the plan was made on, or that alone fits a CT.

    Raises:
        CaseError: several fit, or there are some and none fits.
    """
    files = [file for file in opened if file.sop_class == RTSTRUCT]
    if named is not None and named in files:
        files = [named]
    plans = [plan] if plan else [file for file in opened if file.sop_class == RTPLAN]
    planned = {uid for each in plans for uid in _references(each, "ReferencedStructureSetSequence")}
    if len(files) > 1 and sum(file.instance_uid in planned for file in files) == 1:
        files = [file for file in files if file.instance_uid in planned]
    sets = [read_structure_set(file) for file in files]
    images = series
    if named is not None and named.sop_class == CT:
        images = {named.series_uid: series.get(named.series_uid, [])}
    frames = {file.frame_uid for each in images.values() for file in each} - {""}
    fitting = [
        each for each in sets if each.series_uids & images.keys() or each.frame_uids & frames
    ]
    if sets and not fitting:
        raise CaseError(
            f"{sets[0].file.path} refers to another CT: neither its series nor its frame of "
            f"reference ({', '.join(sorted(sets[0].frame_uids)) or 'missing'}) is that of the CT "
            f"in {folder}."
        )
    chosen = _one_of(folder, "structure sets", [each.file for each in fitting], named)
    return next((each for each in fitting if each.file is chosen), None)


def _segmentations(
    folder: Path, opened: Sequence[DicomFile], named: DicomFile | None
) -> list[DicomFile]:
    """The segmentation named, or all of them: each may hold some of the structures."""
    if named is not None and named.sop_class == SEG:
        return [named]
    return [file for file in opened if file.sop_class == SEG]


def _ct_of(
    folder: Path,
    series: dict[str, list[DicomFile]],
    structures: StructureSet | None,
    segmentations: Sequence[DicomFile],
    named: DicomFile | None,
    findings: list[Finding],
) -> list[DicomFile]:
    """The CT series that was named, or that the structures refer to.

    Raises:
        CaseError: several fit, none fits, or its frame of reference is missing or not one.
    """
    referred = structures.series_uids if structures else frozenset()
    frames = structures.frame_uids if structures else {seg.frame_uid for seg in segmentations}
    candidates = [each for uid, each in series.items() if uid in referred]
    if named is not None and named.sop_class == CT:
        candidates = [series[named.series_uid]] if named.series_uid in series else []
    if not candidates:
        candidates = [each for each in series.values() if each[0].frame_uid in frames - {""}]
        if referred and len(candidates) == 1:
            message = "The structure set refers to another series in the CT's frame of reference."
            remedy = "Check the contours on the images."
            findings.append(Finding("structures-of-other-series", "warning", message, remedy))
    firsts = [each[0] for each in candidates]
    chosen = _one_of(folder, "CT series", firsts, named)
    if chosen is None:
        raise CaseError(f"{folder}: no CT series lies in the frame of reference of the structures.")
    ct = candidates[firsts.index(chosen)]
    _require_one_frame(ct)
    if structures and structures.frame_uids and ct[0].frame_uid not in structures.frame_uids:
        raise CaseError(
            f"{structures.file.path} refers to the CT but lies in another frame of reference: "
            "export both together."
        )
    return ct


def _plan_of(
    folder: Path, opened: Sequence[DicomFile], structures: StructureSet | None
) -> DicomFile | None:
    """The one plan that was made on the structure set."""
    if structures is None:
        return None
    wanted = structures.file.instance_uid
    plans = [
        file
        for file in opened
        if file.sop_class == RTPLAN
        and wanted in _references(file, "ReferencedStructureSetSequence")
    ]
    return _one_of(folder, "plans", plans, None)


def _doses_of(
    folder: Path,
    opened: Sequence[DicomFile],
    named: DicomFile | None,
    plan: DicomFile | None,
    frame_uid: str,
) -> list[DicomFile]:
    """Doses of the plan in the CT's frame of reference.

    Raises:
        CaseError: they are of other frames, or of several plans that are not there.
    """
    if named is not None and named.sop_class == RTDOSE:
        doses = [named]
    else:
        doses = [file for file in opened if file.sop_class == RTDOSE]
    if plan is not None:
        of_plan = [
            d for d in doses if plan.instance_uid in _references(d, "ReferencedRTPlanSequence")
        ]
        doses = of_plan
    here = [dose for dose in doses if dose.frame_uid == frame_uid]
    if doses and not here:
        raise CaseError(
            f"{doses[0].path} lies in the frame of reference {doses[0].frame_uid or '(missing)'}, "
            f"the CT in {frame_uid}: the dose belongs to other images. Remove it, or export both "
            "together."
        )
    plans = {uid for dose in here for uid in _references(dose, "ReferencedRTPlanSequence")}
    if len(plans) > 1:
        _one_of(folder, "doses of different plans", here, None)
    return here


def _require_one_frame(ct: Sequence[DicomFile]) -> None:
    odd = next((file for file in ct if file.frame_uid != ct[0].frame_uid), None)
    if odd is not None or not ct[0].frame_uid:
        what = "names no frame of reference" if odd is None else "is of another frame of reference"
        raise CaseError(f"{(odd or ct[0]).path} {what}: the slices cannot be placed.")


def _require_one_patient(files: Sequence[DicomFile]) -> None:
    first = files[0]
    for other in files[1:]:
        if other.patient_id != first.patient_id:
            raise CaseError(
                f"{other.path} and {first.path.name} are of different patients (patient ID): "
                "keep one patient a folder."
            )


def _ignored(opened: Sequence[DicomFile], chosen: Sequence[DicomFile]) -> list[Finding]:
    used = {id(file) for file in chosen}
    others = [file.path.name for file in opened if id(file) not in used]
    if not others:
        return []
    return [Finding("files-ignored", "info", f"Not part of the case: {_listed(others)}")]
