"""RTSTRUCT of masks: closed contours on the slices of the case's CT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ...case import Case
from ...errors import CaseError, GeometryError
from ...origin import DicomOrigin, Reference
from ...volume import Volume
from .files import RTSTRUCT
from .writing import Equipment, new_object, reference, save

__all__ = ["outlines", "write_rtstruct"]

_DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"
_FEWEST_POINTS = 3
_LABEL_LENGTH = 16
_NAME_LENGTH = 64


def write_rtstruct(
    path: Path,
    structures: Mapping[str, Volume],
    case: Case,
    equipment: Equipment,
    label: str = "Masks",
    colors: Mapping[str, tuple[int, int, int]] | None = None,
) -> None:
    """Write masks as a structure set of the case's CT, whole or not at all.

    A hole is a contour of its own inside another one (even-odd rule); readers differ in whether
    they know that, this library's does.

    Args:
        structures: boolean, or occupancy in 0…1, on the case's grid.
        colors: red, green and blue in 0…255 by structure.

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
    dataset.StructureSetROISequence = [_roi(name, numbers[name], origin) for name in structures]
    dataset.ROIContourSequence = []
    dataset.RTROIObservationsSequence = [_observation(numbers[name]) for name in structures]
    for name, mask in structures.items():
        if not mask.grid.matches(case.grid):
            raise GeometryError(f"{name} lies on {mask.grid}, the case on {case.grid}.")
        item = Dataset()
        item.ReferencedROINumber = numbers[name]
        item.ROIDisplayColor = list((colors or {}).get(name, (255, 0, 0)))
        item.ContourSequence = [
            _contour(points, origin.ct_slices[z]) for z, points in outlines(mask)
        ]
        dataset.ROIContourSequence.append(item)
    save(path, dataset, implicit=True)


def outlines(mask: Volume) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Slice index and closed outline `(n, 3)` in LPS mm where the occupancy is one half.

    Slices ascend; the last point joins the first and does not repeat it.
    """
    for z in np.flatnonzero(mask.array.any(axis=(1, 2))):
        padded = np.pad(mask.array[z].astype(np.float32), 1)
        for line in contour_generator(z=padded).lines(0.5):
            loop = np.asarray(line)[:-1] - 1.0
            if len(loop) >= _FEWEST_POINTS:
                index = np.column_stack([loop, np.full(len(loop), z)])
                yield int(z), mask.grid.world_from_index(index)


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
    item.ContourData = [f"{value:.4f}" for value in points.ravel()]
    return item
