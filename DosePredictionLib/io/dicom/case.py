"""A DICOM folder as a case."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...case import Case, Prescription
from ...errors import CaseError
from ...findings import Finding
from ...mask import Mask
from ...origin import DicomOrigin, Reference
from ...structures.names import read_target
from ...volume import Grid
from ..dose_grid import dose_gaps
from .beams import arrangement_of
from .contours import occupancy_of
from .ct import CtSeries, read_ct
from .dose import summed_doses
from .files import RTSTRUCT, SEG, DicomFile, Item, open_dicom, quiet_parser
from .plan import Plan
from .selection import Selection, select, select_ct
from .structure_set import Roi, StructureSet, left_out, read_structure_set

__all__ = ["DicomCase", "origin_of_files", "read_contours", "read_dicom", "read_images"]

_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)


@dataclass(frozen=True, eq=False)
class DicomCase:
    """A case with what only DICOM knows of it.

    Args:
        kinds: structure → what the planning system takes it for (PTV, ORGAN, EXTERNAL …).
    """

    case: Case
    plan: Plan | None
    kinds: dict[str, str]


def read_dicom(path: Path) -> DicomCase:
    """Read CT, structures and, where they are, plan and dose from a folder of files in any order.

    Args:
        path: a folder, searched at any depth; or one of its files, which settles what belongs to
            the case where the folder holds several.

    Raises:
        CaseError: the files are damaged, do not belong together, or leave a choice.
        GeometryError: slices that no regular volume can be made of.
    """
    with quiet_parser():
        selection = select(path)
        ct = read_ct(selection.ct)
        structures, kinds, findings = _structures(selection, ct.volume.grid)
        plan, dose = selection.plan, None
        if selection.doses:
            dose, noticed = summed_doses(selection.doses, ct.volume.grid, {}, plan)
            findings += noticed
            for each in selection.doses:
                findings += dose_gaps(each.volume.grid, ct.volume.grid, structures, "The plan dose")
        beams, noticed = arrangement_of(plan, ct.patient_position)
        findings += noticed
        case = Case(
            name=path.resolve().name if path.is_dir() else path.stem,
            ct=ct.volume,
            structures=structures,
            plan_dose=dose,
            prescription=_prescription(plan, selection, structures, kinds),
            findings=(*selection.findings, *ct.findings, *findings),
            origin=_origin(selection, ct, structures),
            beams=beams,
        )
    return DicomCase(case, plan, kinds)


def read_images(path: Path) -> tuple[CtSeries, DicomOrigin]:
    """The CT alone, of a folder without structures or beside them, and what refers to it.

    Args:
        path: a folder with one CT series, or a slice of the series that is meant.

    Raises:
        CaseError, GeometryError: see `read_dicom`.
    """
    with quiet_parser():
        files = select_ct(path)
        ct = read_ct(files)
        return ct, _origin_of_images(files[0], ct)


def read_contours(
    path: Path, grid: Grid, frame_uid: str | None
) -> tuple[dict[str, Mask], list[Finding]]:
    """The structures of an RTSTRUCT or a SEG by itself, as occupancy on the grid of its CT.

    Args:
        frame_uid: frame of reference of the grid; None: it is not known, and nothing is compared.

    Raises:
        CaseError: it is neither, is damaged, or lies in another frame of reference.
    """
    with quiet_parser():
        file = open_dicom(path)
        if file.sop_class == SEG:
            from .segmentation import read_segmentations

            _require_frame(path, {file.frame_uid} - {""}, frame_uid)
            return read_segmentations([file], grid)
        if file.sop_class != RTSTRUCT:
            raise CaseError(f"{path} is no RTSTRUCT and no SEG: name one, or a folder of masks.")
        structure_set = read_structure_set(file)
        _require_frame(path, structure_set.frame_uids, frame_uid)
        masks, _, findings = _drawn(structure_set, grid)
    return masks, [*structure_set.findings, *findings]


def _require_frame(path: Path, frames: Collection[str], frame_uid: str | None) -> None:
    if frame_uid and frames and frame_uid not in frames:
        raise CaseError(
            f"{path} lies in the frame of reference {', '.join(sorted(frames))}, the case in "
            f"{frame_uid}: it belongs to other images."
        )


def origin_of_files(image: Path, structure_set: Path | None = None) -> DicomOrigin:
    """Whose an image is, from its header alone: without the series' other slices.

    Args:
        image: any slice of the CT.
        structure_set: the RTSTRUCT that goes with it.

    Raises:
        CaseError: a file is damaged, or the two are of different patients.
    """
    with quiet_parser():
        first = open_dicom(image)
        origin = DicomOrigin(
            patient=_texts(first.item, _PATIENT),
            study=_texts(first.item, _STUDY),
            frame_of_reference_uid=first.frame_uid,
            ct_series_uid=first.series_uid,
            ct_slices=(),
            patient_position=first.item.text("PatientPosition", ""),
        )
        if structure_set is None:
            return origin
        drawn = open_dicom(structure_set)
    if drawn.patient_id != first.patient_id:
        raise CaseError(f"{structure_set} and {image} are of different patients.")
    return replace(origin, structure_set=_reference(drawn))


def _structures(
    selection: Selection, grid: Grid
) -> tuple[dict[str, Mask], dict[str, str], list[Finding]]:
    """Occupancy by structure name, what each is taken for, and what was noticed."""
    if selection.structures is None:
        from .segmentation import read_segmentations

        masks, findings = read_segmentations(selection.segmentations, grid)
        return masks, {}, findings
    return _drawn(selection.structures, grid)


def _drawn(
    structure_set: StructureSet, grid: Grid
) -> tuple[dict[str, Mask], dict[str, str], list[Finding]]:
    """As `_structures`, of a structure set."""
    rois = [roi for roi in structure_set.rois if roi.is_region]
    if not any(roi.loops or roi.fault for roi in rois):
        raise CaseError(f"{structure_set.file.path} holds no contours at all.")
    findings = list(structure_set.findings)
    masks, faults = {}, {}
    for roi in rois:
        try:
            if roi.fault:
                raise CaseError(roi.fault)
            mask, noticed = occupancy_of(roi.name, roi.loops, grid, structure_set.file.path)
        except CaseError as exception:
            faults[roi.name] = str(exception)
        else:
            masks[roi.name] = mask
            findings += noticed
    _require_a_target(masks, faults, {roi.name: roi.kind for roi in rois})
    findings += [left_out(name, fault) for name, fault in faults.items()]
    kept = [roi for roi in rois if roi.name in masks]
    return masks, {roi.name: roi.kind for roi in kept}, findings + _empty(kept)


def _require_a_target(
    masks: dict[str, Mask], faults: dict[str, str], kinds: dict[str, str]
) -> None:
    """Refuse what leaves nothing to treat: one bad structure alone refuses no patient.

    Raises:
        CaseError: no structure has contours but for bad ones, or the only targets are among those.
    """
    filled = [name for name, mask in masks.items() if not mask.is_empty]
    bad = [name for name in faults if _is_target(name, kinds)]
    if faults and not filled:
        raise CaseError(next(iter(faults.values())))
    if bad and not any(_is_target(name, kinds) for name in filled):
        raise CaseError(faults[bad[0]])


def _is_target(name: str, kinds: dict[str, str]) -> bool:
    return kinds.get(name) == "PTV" or read_target(name, None) is not None


def _empty(rois: Sequence[Roi]) -> list[Finding]:
    names = [roi.name for roi in rois if not roi.loops]
    if not names:
        return []
    message = f"Structures without contours: {', '.join(names)}."
    return [Finding("structures-without-contours", "info", message)]


def _prescription(
    plan: Plan | None, selection: Selection, structures: dict[str, Mask], kinds: dict[str, str]
) -> Prescription | None:
    if plan is None:
        return None
    filled = [name for name, mask in structures.items() if not mask.is_empty]
    rois = selection.structures.rois if selection.structures else ()
    names = {roi.number: roi.name for roi in rois if roi.name in filled}
    targets = [name for name in filled if kinds.get(name) == "PTV"]
    targets = targets or [name for name in filled if read_target(name, None) is not None]
    return plan.prescription(names, targets)


def _origin(selection: Selection, ct: CtSeries, structures: dict[str, Mask]) -> DicomOrigin:
    structure_set = selection.structures
    rois = structure_set.rois if structure_set else ()
    return replace(
        _origin_of_images(selection.ct[0], ct),
        structure_set=_reference(structure_set.file) if structure_set else None,
        plan=_reference(selection.plan.file) if selection.plan else None,
        roi_numbers={roi.name: roi.number for roi in rois if roi.name in structures},
    )


def _origin_of_images(first: DicomFile, ct: CtSeries) -> DicomOrigin:
    return DicomOrigin(
        patient=_texts(first.item, _PATIENT),
        study=_texts(first.item, _STUDY),
        frame_of_reference_uid=first.frame_uid,
        ct_series_uid=first.series_uid,
        ct_slices=ct.slices,
        patient_position=ct.patient_position,
    )


def _texts(item: Item, keywords: Sequence[str]) -> dict[str, str]:
    return {keyword: item.text(keyword, "") for keyword in keywords}


def _reference(file: DicomFile) -> Reference:
    return Reference(file.sop_class, file.instance_uid)
