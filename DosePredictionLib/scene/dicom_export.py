"""A result as RTDOSE: for the patient, study and frame of reference that the CT was loaded from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import slicer
import vtk

from ..errors import CaseError, GeometryError
from ..io.dicom.case import origin_of_files
from ..io.dicom.rtdose import Equipment, write_rtdose
from ..origin import DicomOrigin
from ..prediction import Prediction
from ..volume import Grid
from .geometry import LPS_FROM_RAS, image_size, index_to_ras
from .results import SceneResult
from .runs import inputs_of

__all__ = ["dicom_origin", "placed_origin", "write_result_rtdose"]

_ROI_NUMBER = "DicomRtImport.RoiNumber"  # as SlicerRT tags the segments of an RTSTRUCT


def dicom_origin(result: SceneResult) -> DicomOrigin | None:
    """What the CT of a result, and a segmentation that SlicerRT read, were loaded from.

    Returns:
        None for a CT that was not loaded from Slicer's DICOM database, or is no longer in it.

    Raises:
        CaseError: CT or segmentation have been removed from the scene; a file is damaged.
    """
    ct, segmentation = inputs_of(result.dose)
    if ct is None or segmentation is None:
        raise CaseError(
            "The CT or the segmentation of this dose has been removed from the scene: whose it is "
            "cannot be known. Write NIfTI or NRRD, or load them and predict again."
        )
    image, structure_set = _file_of(ct), _file_of(segmentation)
    if image is None:
        return None
    origin = origin_of_files(image, structure_set)
    if structure_set is None:
        return origin
    return replace(origin, roi_numbers=_roi_numbers(segmentation))


def write_result_rtdose(result: SceneResult, prediction: Prediction, path: Path) -> Path:
    """Write the predicted dose as RTDOSE, on the CT's own voxels.

    A CT that does not come from DICOM has no patient: its name stands for one, and the frame of
    reference is a new one.

    Args:
        result: whose nodes are in the scene.
        prediction: the same, whole.

    Raises:
        CaseError, GeometryError: see `placed_origin`.
    """
    case = replace(prediction.case, origin=placed_origin(result, prediction.dose.grid))
    write_rtdose(path, prediction.dose, case, Equipment.of_model(prediction.model.manifest))
    return path


def placed_origin(result: SceneResult, grid: Grid) -> DicomOrigin | None:
    """As `dicom_origin`, for what is written on a grid in the patient's own coordinates.

    Raises:
        CaseError: see `dicom_origin`.
        GeometryError: the CT comes from DICOM, but was predicted on where a transform had moved it,
            which its frame of reference does not state.
    """
    origin = dicom_origin(result)
    ct, _ = inputs_of(result.dose)
    own = Grid.from_matrix(image_size(ct.GetImageData()), LPS_FROM_RAS @ index_to_ras(ct))
    if origin is not None and not own.matches(grid):
        raise GeometryError(
            f"The dose was predicted where a transform had moved {ct.GetName()}, a place that its "
            "DICOM frame of reference does not know. Take the CT out of the transform and predict "
            "again, or write NIfTI or NRRD."
        )
    return origin


def _file_of(node: Any) -> Path | None:
    """The first of the files that a node was loaded from, if the DICOM database has it still."""
    database = getattr(slicer, "dicomDatabase", None)
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMInstanceUIDName()
    item = tree.GetItemByDataNode(node)
    uids = (tree.GetItemUID(item, name) or "").split() if item else []
    if database is None or not database.isOpen or not uids:
        return None
    path = Path(database.fileForInstance(uids[0]))
    return path if path.is_file() else None


def _roi_numbers(segmentation: Any) -> dict[str, int]:
    """Segment's name → its number in the RTSTRUCT; segments drawn later have none."""
    content, numbers = segmentation.GetSegmentation(), {}
    for segment in map(content.GetSegment, content.GetSegmentIDs()):
        number = vtk.reference("")
        if segment.GetTag(_ROI_NUMBER, number):
            numbers[segment.GetName()] = int(str(number))
    return numbers
