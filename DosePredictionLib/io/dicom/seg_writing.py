"""DICOM SEG of masks on the slices of the case's CT, encoded by highdicom."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from ... import __version__
from ...case import Case
from ...errors import CaseError, DosePredictionError
from ...mask import Mask
from ...origin import DicomOrigin
from .writing import WARNING, Equipment, decimal, new_uid, save

__all__ = ["require_seg_writer", "write_dicom_seg"]

_SOFTWARE = "DosePrediction"
_LABEL_LENGTH = 64
_ANATOMICAL = ("123037004", "SCT", "Anatomical Structure")
_TISSUE = ("85756007", "SCT", "Tissue")
_TYPES = {
    "Bladder": ("89837001", "SCT", "Bladder"),
    "Rectum": ("34402009", "SCT", "Rectum"),
    "Small_Intestine": ("30315005", "SCT", "Small Intestine"),
    "Marrow": ("14016003", "SCT", "Bone marrow"),
    "SpinalCord": ("2748008", "SCT", "Spinal cord"),
    "FemurHead_L": ("2812003", "SCT", "Head of femur"),
    "FemurHead_R": ("2812003", "SCT", "Head of femur"),
    "Body": ("38266002", "SCT", "Entire body"),
}
_ARTIFICIAL_INTELLIGENCE = ("123109", "DCM", "Artificial Intelligence")


def require_seg_writer() -> None:
    """Refuse at once where no DICOM SEG can be written.

    Raises:
        DosePredictionError: highdicom is missing, or pydicom is older than it needs.
    """
    elsewhere = "or write --format nifti, seg or rtstruct."
    if int(pydicom.__version__.split(".")[0]) < 3:
        raise DosePredictionError(
            f"A DICOM SEG is written by highdicom, which needs pydicom 3; here is "
            f"{pydicom.__version__}. Use 3D Slicer 5.12 or newer, {elsewhere}"
        )
    try:
        import highdicom.seg  # noqa: F401
    except ImportError as exception:
        raise DosePredictionError(
            f"A DICOM SEG is written by highdicom: pip install highdicom, {elsewhere}"
        ) from exception


def write_dicom_seg(
    path: Path,
    case: Case,
    found: Collection[str],
    equipment: Equipment,
    colors: Mapping[str, tuple[int, int, int]],
) -> None:
    """Write a case's structures as one binary segmentation, whole or not at all.

    Segments may overlap. A structure that covers a part of voxels has those of which more than half
    lies inside. Slices that the CT lacks, and that were filled in, have no segments.

    Args:
        found: the structures that a model found; the others count as drawn by hand.
        equipment: what found them.
        colors: red, green and blue in 0…255 by structure.

    Raises:
        DosePredictionError: see `require_seg_writer`.
        CaseError: the case does not come from DICOM, or no structure has a voxel.
    """
    require_seg_writer()
    from highdicom.seg import Segmentation

    origin = case.origin
    if origin is None:
        raise CaseError(
            f"{case.name} does not come from DICOM: a DICOM SEG refers to the CT's slices. Write "
            "NIfTI masks instead."
        )
    masks = {name: Mask.of(mask) for name, mask in case.structures.items()}
    masks = {name: mask for name, mask in masks.items() if mask.majority().any()}
    if not masks:
        raise CaseError(f"{case.name} has no voxel to write in any structure.")
    slices = [z for z, source in enumerate(origin.ct_slices) if source is not None]
    segments = np.stack([mask.majority()[slices] for mask in masks.values()], axis=-1)
    by_model = set(found)
    descriptions = [
        _described(number, name, equipment if name in by_model else None, colors.get(name))
        for number, name in enumerate(masks, start=1)
    ]
    made: Any = Segmentation(
        source_images=[_source(case, origin, z) for z in slices],
        pixel_array=segments,
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=new_uid(),
        series_number=1,
        sop_instance_uid=new_uid(),
        instance_number=1,
        manufacturer=_SOFTWARE,
        manufacturer_model_name=equipment.name[:_LABEL_LENGTH],
        software_versions=__version__,
        device_serial_number="0",
        content_label="ORGANS",
        content_description=WARNING[:_LABEL_LENGTH],
    )
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SeriesDescription = WARNING
    save(path, made)


def _described(
    number: int, name: str, model: Equipment | None, color: tuple[int, int, int] | None
) -> Any:
    """What a segment is, and who drew it."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from highdicom.sr.coding import CodedConcept

    identity = None
    if model is not None:
        family = CodedConcept(*_ARTIFICIAL_INTELLIGENCE)
        version = model.version[:_LABEL_LENGTH]
        identity = AlgorithmIdentificationSequence(model.name[:_LABEL_LENGTH], family, version)
    known = name in _TYPES
    return SegmentDescription(
        number,
        name[:_LABEL_LENGTH],
        CodedConcept(*(_ANATOMICAL if known else _TISSUE)),
        CodedConcept(*_TYPES.get(name, _TISSUE)),
        "MANUAL" if model is None else "AUTOMATIC",
        identity,
        tracking_uid=new_uid(),
        tracking_id=name[:_LABEL_LENGTH],
        display_color=None if color is None else CIELabColor.from_rgb(*color),
    )


def _source(case: Case, origin: DicomOrigin, z: int) -> Dataset:
    """A slice of the CT as far as a segmentation asks for it: identity and geometry."""
    grid, slice_of = case.grid, origin.ct_slices[z]
    assert slice_of is not None
    x, y, _ = np.asarray(grid.direction).T
    item = Dataset()
    for keyword, value in {**origin.patient, **origin.study}.items():
        setattr(item, keyword, value)
    for keyword in ("StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
        if keyword not in item:
            setattr(item, keyword, "")
    item.SOPClassUID, item.SOPInstanceUID = slice_of.class_uid, slice_of.instance_uid
    item.SeriesInstanceUID, item.Modality = origin.ct_series_uid, "CT"
    item.FrameOfReferenceUID, item.PositionReferenceIndicator = origin.frame_of_reference_uid, ""
    item.ImageOrientationPatient = [decimal(v) for v in (*x, *y)]
    item.ImagePositionPatient = [
        decimal(v) for v in grid.world_from_index(np.array([0.0, 0.0, float(z)]))
    ]
    item.PixelSpacing = [decimal(grid.spacing[1]), decimal(grid.spacing[0])]
    item.SliceThickness = decimal(grid.spacing[2])
    item.Columns, item.Rows = grid.size[0], grid.size[1]
    return item
