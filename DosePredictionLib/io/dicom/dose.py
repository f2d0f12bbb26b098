"""RTDOSE: dose grids in Gy, alone or summed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import CaseError, GeometryError
from ...findings import UNKNOWN_PARTS, Finding
from ...volume import Grid, Volume
from ..dose_grid import dose_on_grid
from .files import RTDOSE, DicomFile, Item, open_dicom, quiet_parser
from .pixels import stored_pixels
from .plan import Plan

__all__ = ["DicomDose", "read_dose_file", "read_rtdose", "summed_doses"]

_EVEN = 0.01  # of the spacing
_ROUNDED_MM = 0.1  # two positions that are written to a tenth of a millimeter
_HIGHEST_PLAUSIBLE_GY = 500.0
_WHOLE = ("PLAN", "MULTI_PLAN")
_PARTS = {"BEAM": "beams", "FRACTION": "fraction groups", "BRACHY": "application setups"}


@dataclass(frozen=True, eq=False)
class DicomDose:
    """A dose grid, Gy, and what it is the dose of.

    Args:
        summation: DoseSummationType: PLAN, BEAM …
        plan_uids: the plans that it refers to.
        part: numbers of what a BEAM, FRACTION or BRACHY dose is of: beams, fraction groups, setups.
        findings: what was noticed while it was read.
    """

    file: DicomFile
    volume: Volume
    summation: str
    plan_uids: frozenset[str]
    part: frozenset[int]
    findings: tuple[Finding, ...] = ()


def read_rtdose(file: DicomFile) -> DicomDose:
    """One file's dose on its own grid.

    Raises:
        CaseError: no dose, relative units, an error distribution, damaged pixels, absurd scaling.
        GeometryError: frame positions that no regular grid has.
    """
    item, path = file.item, file.path
    if file.sop_class != RTDOSE:
        raise CaseError(f"{path} is no RTDOSE (modality {item.text('Modality', 'unknown')}).")
    units = item.text("DoseUnits", "").upper()
    if units != "GY":
        raise CaseError(
            f"{path} holds a dose in units of {units or '(not stated)'}: only Gy can be used. "
            "Export the absolute dose."
        )
    kind = item.text("DoseType", "PHYSICAL").upper()
    if kind not in ("PHYSICAL", "EFFECTIVE"):
        raise CaseError(f"{path} holds DoseType {kind}, which is not a dose.")
    scaling = item.number("DoseGridScaling")
    if item.integer("PixelRepresentation", 0) != 0:
        raise CaseError(f"{path} holds signed values: no dose has them.")
    stored = stored_pixels(file)
    stored = stored.reshape(-1, *stored.shape[-2:])
    highest = float(stored.max()) * scaling
    if scaling <= 0 or highest > _HIGHEST_PLAUSIBLE_GY:
        raise CaseError(
            f"{path}: DoseGridScaling {scaling:g} leads to {highest:.4g} Gy; at most "
            f"{_HIGHEST_PLAUSIBLE_GY:g} Gy can be meant."
        )
    grid, order = _grid(file, stored.shape)
    gray = (stored[order] * np.float64(scaling)).astype(np.float32)
    plans = {plan.text("ReferencedSOPInstanceUID", "") for plan in _referenced_plans(file)}
    summation = item.text("DoseSummationType", "").upper()
    return DicomDose(
        file,
        Volume(np.ascontiguousarray(gray), grid),
        summation or "PLAN",
        frozenset(plans - {""}),
        _part(file, summation),
        tuple(_told_of(file, summation)),
    )


def _told_of(file: DicomFile, summation: str) -> Iterator[Finding]:
    """What a person should know of a dose that is read as it stands."""
    if not summation:
        message = f"{file.path.name} does not say what it is the dose of (DoseSummationType)."
        remedy = "It is taken for the whole plan's: check it, or export the plan's dose again."
        yield Finding("dose-summation-missing", "warning", message, remedy)
    if file.item.text("DoseType", "").upper() == "EFFECTIVE":
        message = (
            f"{file.path.name} is an effective dose (weighted by biological effect, as Gy RBE of "
            "protons or EQD2), not a physical one."
        )
        remedy = "Models predict physical doses of photons: scores against it mean little."
        yield Finding("dose-effective", "warning", message, remedy)


def read_dose_file(path: Path, frame_uid: str | None = None) -> Volume:
    """The dose of one file on its own grid, Gy.

    Args:
        frame_uid: the frame of reference that the dose must lie in; None accepts any.

    Raises:
        CaseError: see `read_rtdose`, or the dose is of another frame of reference.
    """
    with quiet_parser():
        file = open_dicom(path)
        is_dose = file.sop_class == RTDOSE  # what is none is refused as that
        if is_dose and frame_uid is not None and file.frame_uid != frame_uid:
            raise CaseError(
                f"{path} lies in the frame of reference {file.frame_uid or '(missing)'}, the case "
                f"in {frame_uid}: the dose belongs to other images."
            )
        return read_rtdose(file).volume


def _referenced_plans(file: DicomFile) -> list[Item]:
    return file.item.items("ReferencedRTPlanSequence")


def _part(file: DicomFile, summation: str) -> frozenset[int]:
    """Numbers of the beams, fraction groups or application setups that a partial dose names."""
    groups = [
        group
        for plan in _referenced_plans(file)
        for group in plan.items("ReferencedFractionGroupSequence")
    ]
    if summation == "FRACTION":
        numbers = [group.integer("ReferencedFractionGroupNumber", None) for group in groups]
        return frozenset(number for number in numbers if number is not None)
    kind = {"BEAM": "Beam", "BRACHY": "BrachyApplicationSetup"}.get(summation)
    if kind is None:
        return frozenset()
    return frozenset(
        part.integer(f"Referenced{kind}Number")
        for group in groups
        for part in group.items(f"Referenced{kind}Sequence")
    )


def _grid(file: DicomFile, shape: tuple[int, ...]) -> tuple[Grid, NDArray[np.intp]]:
    """The dose's grid, and the frames in ascending order along it."""
    item = file.item
    axes = item.numbers("ImageOrientationPatient", 6).reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > 1e-3:
        raise GeometryError(f"{file.path}: ImageOrientationPatient holds no perpendicular axes.")
    normal = np.cross(axes[0], axes[1])
    origin = item.numbers("ImagePositionPatient", 3)
    offsets = _offsets(file, shape[0], origin)
    order = np.argsort(offsets, kind="stable")
    steps = np.diff(offsets[order])
    step = float(steps.mean()) if steps.size else item.number("SliceThickness", 1.0)
    off = np.abs(offsets[order] - offsets[order[0]] - step * np.arange(offsets.size)).max()
    uneven = steps.size and np.abs(steps - step).max() > _EVEN * step
    if step <= 0 or (uneven and off > min(_ROUNDED_MM, 0.2 * step)):
        raise GeometryError(
            f"{file.path}: dose planes lie {steps.min():g} to {steps.max():g} mm apart; only a "
            f"regular dose grid (to {_ROUNDED_MM:g} mm) can be used. Export it again."
        )
    row_mm, column_mm = item.numbers("PixelSpacing", 2)
    grid = Grid(
        (shape[2], shape[1], shape[0]),
        (float(column_mm), float(row_mm), step or 1.0),
        tuple(origin + offsets[order[0]] * normal),
        tuple(map(tuple, np.column_stack([axes[0], axes[1], normal]))),
    )
    return grid, order


def _offsets(file: DicomFile, frames: int, origin: NDArray) -> NDArray[np.float64]:
    """Positions of the frames along the normal, mm from the first plane's position.

    The vector holds offsets that begin with 0, or z coordinates that begin with that of the image
    position (PS3.3 C.8.8.3.2).
    """
    if frames == 1 and not file.item.has("GridFrameOffsetVector"):
        return np.zeros(1)
    vector = file.item.numbers("GridFrameOffsetVector", frames)
    if abs(vector[0]) < 1e-3:
        return vector
    if abs(vector[0] - origin[2]) > _ROUNDED_MM:
        raise GeometryError(
            f"{file.path}: GridFrameOffsetVector begins with {vector[0]:g}, which is neither 0 nor "
            f"the z of the image position, {origin[2]:g} mm."
        )
    axes = file.item.numbers("ImageOrientationPatient", 6).reshape(2, 3)
    along_z = float(np.cross(axes[0], axes[1])[2])
    if abs(abs(along_z) - 1) > 1e-3:
        raise GeometryError(f"{file.path}: z coordinates of dose planes need an axial dose grid.")
    return (vector - vector[0]) * np.sign(along_z)


def summed_doses(
    doses: Sequence[DicomDose],
    grid: Grid,
    structures: Mapping[str, Volume],
    plan: Plan | None = None,
) -> tuple[Volume, list[Finding]]:
    """The dose of one plan on `grid`: the plan's own, or the sum of its parts.

    Args:
        doses: of one plan; one whole dose, or the doses of its beams, fraction groups or setups.
        plan: states which parts there must be; without it nobody knows, and a finding says so.

    Raises:
        CaseError: several whole doses, parts that appear twice or are missing, or a summation
            type that cannot be summed.
        GeometryError: see `dose_on_grid`.
    """
    whole = [dose for dose in doses if dose.summation in _WHOLE]
    if len(whole) > 1:
        names = ", ".join(dose.file.path.name for dose in whole)
        raise CaseError(
            f"{whole[0].file.path.parent} holds {len(whole)} doses of one plan: {names}. Name the "
            "file of one as the case."
        )
    findings: list[Finding] = []
    if whole:
        dose, noticed = dose_on_grid(
            whole[0].volume, grid, structures, f"The plan dose {whole[0].file.path.name}"
        )
        return dose, [*whole[0].findings, *_of_several_plans(whole[0], plan), *noticed]
    findings += _require_complete(doses, plan)
    total = np.zeros(grid.shape, dtype=np.float32)
    for part in doses:
        dose, noticed = dose_on_grid(part.volume, grid, structures, part.file.path.name)
        total += dose.array
        findings += [*part.findings, *noticed]
    kind = doses[0].summation
    message = f"The plan dose is the sum of {len(doses)} {kind.lower()} doses."
    return Volume(total, grid), [*findings, Finding("dose-summed", "info", message)]


def _of_several_plans(dose: DicomDose, plan: Plan | None) -> list[Finding]:
    """A dose of several plans goes with all their prescriptions, one's with its own."""
    remedy = "Give the prescription of the whole treatment (--prescription), or one plan's dose."
    missing = len(plan.companions - dose.plan_uids) if plan else 0
    if plan and missing and dose.summation != "MULTI_PLAN":
        message = (
            f"{plan.file.path.name} is one of {missing + 1} plans of one treatment; "
            f"{dose.file.path.name} is the dose of this one alone."
        )
        return [Finding("dose-of-one-plan", "warning", message, remedy)]
    if dose.summation != "MULTI_PLAN" and len(dose.plan_uids) < 2:
        return []
    count = len(dose.plan_uids) if len(dose.plan_uids) > 1 else "several"
    message = f"{dose.file.path.name} is the dose of {count} plans together"
    message += f"; the prescription is that of {plan.file.path.name} alone." if plan else "."
    return [Finding("dose-of-several-plans", "warning", message, remedy)]


def _require_complete(doses: Sequence[DicomDose], plan: Plan | None) -> list[Finding]:
    """Refuse parts that are not one whole.

    Returns:
        A warning where no plan states which parts there are.
    """
    folder = doses[0].file.path.parent
    kinds = {dose.summation for dose in doses}
    if len(kinds) > 1 or not kinds <= set(_PARTS):
        raise CaseError(
            f"{folder}: doses of the kinds {', '.join(sorted(kinds))} cannot be summed to a "
            "plan's. Export the plan's dose."
        )
    counted = [number for dose in doses for number in dose.part]
    if len(set(counted)) < len(counted) or (len(doses) > 1 and not all(d.part for d in doses)):
        raise CaseError(f"{folder}: a beam's or fraction's dose is there twice, or names none.")
    kind = doses[0].summation
    what = _PARTS[kind]
    if plan is None:
        message = (
            f"{folder} holds {len(doses)} {kind.lower()} doses and no RTPLAN: nobody knows whether "
            "they are the whole plan's."
        )
        remedy = f"Add the RTPLAN, or export the plan's dose, unless these are all its {what}."
        return [Finding(UNKNOWN_PARTS, "warning", message, remedy)]
    missing = _parts_of(plan, kind) - set(counted)
    if missing:
        raise CaseError(
            f"{folder}: the doses of the {what} {sorted(missing)} are missing: their sum would be "
            "wrong. Export the plan's dose."
        )
    return []


def _parts_of(plan: Plan, kind: str) -> set[int]:
    """Numbers of a plan's beams, fraction groups or application setups."""
    if kind == "BEAM":
        return {beam.number for beam in plan.beams}
    if kind == "FRACTION":
        return {group.number for group in plan.groups if group.number is not None}
    return {setup for group in plan.groups for setup in group.setups}
