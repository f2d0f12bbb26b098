"""RTSTRUCT: what was contoured, on which images, in which frame of reference. No voxels here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import CaseError
from ...findings import LEFT_OUT, Finding
from .files import DicomFile, Item

__all__ = ["Roi", "StructureSet", "left_out", "read_structure_set"]

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_ENCLOSE_NOTHING = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR")
_FEW_POINTS = "fewer than three points"


@dataclass(frozen=True, eq=False)
class Roi:
    """One structure as drawn.

    Args:
        name: unique within its set.
        kind: what the system takes it for (PTV, ORGAN, EXTERNAL …); empty when not stated.
        loops: closed contours `(n, 3)`, LPS mm.
        is_region: false for points and lines, which no mask can come from.
        fault: why its contours cannot be read; empty when they can.
    """

    name: str
    number: int
    kind: str
    loops: tuple[NDArray[np.float64], ...]
    is_region: bool
    fault: str = ""


@dataclass(frozen=True, eq=False)
class StructureSet:
    """The content of an RTSTRUCT file.

    Args:
        frame_uids, series_uids, image_uids: frames of reference, CT series and CT slices that it
            refers to.
    """

    file: DicomFile
    rois: tuple[Roi, ...]
    frame_uids: frozenset[str]
    series_uids: frozenset[str]
    image_uids: frozenset[str]
    findings: tuple[Finding, ...]


def read_structure_set(file: DicomFile) -> StructureSet:
    """Read every structure; those without contours have no loops.

    Raises:
        CaseError: the file is damaged, or names no structures.
    """
    findings: list[Finding] = []
    kinds = {
        item.integer("ReferencedROINumber"): item.text("RTROIInterpretedType", "")
        for item in file.item.items("RTROIObservationsSequence")
        if item.has("ReferencedROINumber")
    }
    drawn: dict[int, list[Item]] = {}
    for item in file.item.items("ROIContourSequence"):
        contours = item.items("ContourSequence")
        drawn.setdefault(item.integer("ReferencedROINumber"), []).extend(contours)
    rois: list[Roi] = []
    frames = {file.frame_uid} - {""}
    for item in file.item.items("StructureSetROISequence"):
        number = item.integer("ROINumber")
        frames |= {item.text("ReferencedFrameOfReferenceUID", "")} - {""}
        name = _unique_name(item.text("ROIName", "") or f"ROI {number}", number, rois, findings)
        kind, fault = kinds.get(number, ""), ""
        try:
            loops = _loops(name, drawn.get(number, []), findings)
        except CaseError as exception:
            loops, fault = (), str(exception)
        is_region = bool(loops or fault) or not drawn.get(number)
        rois.append(Roi(name, number, kind, loops, is_region, fault))
    if not rois:
        raise CaseError(f"{file.path} names no structures: export the structure set again.")
    series, images = set(), set()
    for frame in file.item.items("ReferencedFrameOfReferenceSequence"):
        frames |= {frame.text("FrameOfReferenceUID", "")} - {""}
        for study in frame.items("RTReferencedStudySequence"):
            for referenced in study.items("RTReferencedSeriesSequence"):
                series |= {referenced.text("SeriesInstanceUID", "")} - {""}
                for image in referenced.items("ContourImageSequence"):
                    images |= {image.text("ReferencedSOPInstanceUID", "")} - {""}
    return StructureSet(
        file,
        tuple(rois),
        frozenset(frames),
        frozenset(series),
        frozenset(images),
        tuple(findings),
    )


def left_out(name: str, fault: str) -> Finding:
    """What is said of a structure that is not read, so that the others are."""
    message = f"{name} is left out: {fault}"
    remedy = "Correct it in the planning system if it is needed here."
    return Finding(LEFT_OUT, "warning", message, remedy, name)


def _unique_name(name: str, number: int, rois: list[Roi], findings: list[Finding]) -> str:
    if all(roi.name != name for roi in rois):
        return name
    unique = f"{name} (ROI {number})"
    message = f"Two structures are called {name!r}; the second is read as {unique!r}."
    findings.append(Finding("structure-name-twice", "warning", message, structure=unique))
    return unique


def _loops(
    name: str, contours: list[Item], findings: list[Finding]
) -> tuple[NDArray[np.float64], ...]:
    """Closed contours with an area; the others are findings."""
    loops = []
    skipped: dict[str, int] = {}
    for contour in contours:
        kind = contour.text("ContourGeometricType", "CLOSED_PLANAR").upper()
        values = contour.numbers("ContourData", default=())
        if values.size % 3:
            raise CaseError(
                f"{contour.path}: a contour of {name} holds {values.size} coordinates, which is no "
                "multiple of three: the file is damaged."
            )
        points = values.reshape(-1, 3)
        if kind not in _CLOSED:
            skipped[kind] = skipped.get(kind, 0) + 1
        elif len(points) < 3:
            skipped[_FEW_POINTS] = skipped.get(_FEW_POINTS, 0) + 1
        else:
            loops.append(points)
    if skipped:
        kinds = ", ".join(f"{count} × {kind}" for kind, count in skipped.items())
        message = f"Contours of {name} that enclose nothing were left out: {kinds}."
        expected = skipped.keys() <= {*_ENCLOSE_NOTHING, _FEW_POINTS}
        severity: Literal["info", "warning"] = "info" if expected and not loops else "warning"
        findings.append(Finding("contours-left-out", severity, message, structure=name))
    return tuple(loops)
