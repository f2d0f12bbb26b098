"""RTSTRUCT of masks: closed contours on the slices of the case's CT."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ...case import Case
from ...errors import CaseError, GeometryError
from ...findings import Finding
from ...mask import Mask
from ...origin import DicomOrigin, Reference
from ...volume import Volume
from .contours import occupancy_of
from .files import RTSTRUCT
from .outline import outlines
from .writing import Equipment, new_object, reference, save

__all__ = ["write_rtstruct"]

_DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"
_LABEL_LENGTH = 16
_NAME_LENGTH = 64
_DECIMALS = 4
_VOLUME_KEPT = 0.03
# Told apart by the color-blind, too: Wong 2011, doi 10.1038/nmeth.1618.
_COLORS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


def write_rtstruct(
    path: Path,
    structures: Mapping[str, Volume],
    case: Case,
    equipment: Equipment,
    label: str = "Masks",
    colors: Mapping[str, tuple[int, int, int]] | None = None,
) -> list[Finding]:
    """Write masks as a structure set of the case's CT, whole or not at all.

    A hole is a contour of its own inside another one (even-odd rule); readers differ in whether
    they know that, this library's does.

    Args:
        structures: boolean, or occupancy in 0…1, on the case's grid.
        colors: red, green and blue in 0…255 by structure; others get one of seven in turn.

    Returns:
        A warning for each structure whose contours, read back, have not the mask's volume.

    Raises:
        CaseError: the case does not come from DICOM, so that there are no images to refer to.
        GeometryError: a mask is on another grid.
    """
    origin = case.origin
    if origin is None:
        raise CaseError(
            f"{case.name} does not come from DICOM: an RTSTRUCT refers to the CT's slices. Write "
            "NIfTI masks instead."
        )
    dataset = new_object(RTSTRUCT, "RTSTRUCT", case, label, equipment)
    now = datetime.now()
    dataset.StructureSetLabel = label[:_LABEL_LENGTH]
    dataset.StructureSetDate = now.strftime("%Y%m%d")
    dataset.StructureSetTime = now.strftime("%H%M%S")
    dataset.ReferencedFrameOfReferenceSequence = [_frame(origin)]
    numbers = _numbers(structures, origin)
    findings: list[Finding] = []
    dataset.StructureSetROISequence = [_roi(name, numbers[name], origin) for name in structures]
    dataset.ROIContourSequence = []
    dataset.RTROIObservationsSequence = [_observation(numbers[name]) for name in structures]
    for (name, mask), color in zip(structures.items(), itertools.cycle(_COLORS), strict=False):
        if not mask.grid.matches(case.grid):
            raise GeometryError(f"{name} lies on {mask.grid}, the case on {case.grid}.")
        item = Dataset()
        item.ReferencedROINumber = numbers[name]
        item.ROIDisplayColor = list((colors or {}).get(name, color))
        drawn = [(z, np.round(points, _DECIMALS)) for z, points in outlines(mask)]
        contours = [_contour(points, origin.ct_slices[z]) for z, points in drawn]
        if contours:  # a sequence that is there must hold an item
            item.ContourSequence = contours
        dataset.ROIContourSequence.append(item)
        findings += _volume_findings(name, mask, [points for _, points in drawn], path)
    save(path, dataset, implicit=True)
    return findings


def _volume_findings(
    name: str, mask: Volume, loops: Sequence[NDArray[np.float64]], path: Path
) -> list[Finding]:
    """Whether contours say what a mask does, by the way that they are read here."""
    back, _ = occupancy_of(name, loops, mask.grid, path)
    voxel_cc = mask.grid.voxel_volume_cc
    stated, written = (
        float(each.block.sum(dtype=np.float64)) * voxel_cc for each in (Mask.of(mask), back)
    )
    if abs(written - stated) <= max(_VOLUME_KEPT * stated, voxel_cc / 2):
        return []
    message = f"{name} has {stated:.3f} cc as a mask and {written:.3f} cc as contours read back."
    remedy = "Contours lie on the CT's slices: take a finer CT, or keep the mask."
    return [Finding("structure-volume-changed", "warning", message, remedy, name)]


def _numbers(structures: Mapping[str, Volume], origin: DicomOrigin) -> dict[str, int]:
    """The ROI number that a structure has in the original set, or a new one."""
    highest = max(origin.roi_numbers.values(), default=0)
    fresh = iter(range(highest + 1, highest + 1 + len(structures)))
    return {name: origin.roi_numbers.get(name) or next(fresh) for name in structures}


def _frame(origin: DicomOrigin) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = origin.ct_series_uid
    series.ContourImageSequence = [reference(each) for each in origin.ct_slices if each]
    study = reference(Reference(_DETACHED_STUDY, origin.study["StudyInstanceUID"]))
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = origin.frame_of_reference_uid
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi(name: str, number: int, origin: DicomOrigin) -> Dataset:
    item = Dataset()
    item.ROINumber, item.ROIName = number, name[:_NAME_LENGTH]
    item.ReferencedFrameOfReferenceUID = origin.frame_of_reference_uid
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    return item


def _observation(number: int) -> Dataset:
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = number
    item.RTROIInterpretedType, item.ROIInterpreter = "", ""
    return item


def _contour(points: NDArray[np.float64], image: Reference | None) -> Dataset:
    item = Dataset()
    if image is not None:
        item.ContourImageSequence = [reference(image)]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(points)
    item.ContourData = [f"{value:.{_DECIMALS}f}" for value in points.ravel()]
    return item
