"""RTDOSE of a prediction: 32-bit, on the CT's grid and frame of reference, with its DVHs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from ...case import Case
from ...errors import CaseError, GeometryError
from ...evaluation.dvh import Dvh, dvhs
from ...origin import DicomOrigin, Reference
from ...volume import Volume
from .files import RTDOSE, RTPLAN
from .writing import WARNING, Equipment, decimal, new_object, new_uid, reference, save

__all__ = ["Equipment", "PlannedDose", "write_rtdose"]


@dataclass(frozen=True)
class PlannedDose:
    """Of a dose that was calculated from a plan.

    Args:
        plan: what it is the dose of.
        instance_uid: of the dose; the plan may refer to it.
        description: series description and comment.
    """

    plan: Reference
    instance_uid: str
    description: str


_STEPS = 2**31 - 1  # of 2**32: readers that take the values for signed ones get them right, too
_BIN_GY = 0.05


def write_rtdose(
    path: Path, dose: Volume, case: Case, equipment: Equipment, planned: PlannedDose | None = None
) -> None:
    """Write a dose, Gy, on the case's grid, whole or not at all.

    The object is new, in a new series of the CT's study. It refers to the case's plan, or to a
    plan that does not exist, since the standard demands a reference. DVHs of all structures stand
    inside when the structures come from an RTSTRUCT, whose ROI numbers they need.

    Args:
        planned: of a dose that was calculated from a plan; None: it was predicted.

    Raises:
        CaseError: negative or not finite doses.
        GeometryError: the dose is not on the case's grid.
    """
    if not dose.grid.matches(case.grid):
        raise GeometryError(f"The dose lies on {dose.grid}, the case on {case.grid}.")
    if not np.all(np.isfinite(dose.array)) or dose.array.min(initial=0) < 0:
        raise CaseError(f"The dose of {case.name} is negative or not finite somewhere.")
    words = WARNING if planned is None else planned.description
    dataset = new_object(RTDOSE, "RTDOSE", case, words, equipment)
    dataset.DoseUnits, dataset.DoseType, dataset.DoseSummationType = "GY", "PHYSICAL", "PLAN"
    dataset.DoseComment = words
    origin = case.origin
    plan = origin.plan if origin and origin.plan else Reference(RTPLAN, new_uid())
    if planned is not None:
        plan, dataset.SOPInstanceUID = planned.plan, planned.instance_uid
    dataset.ReferencedRTPlanSequence = [reference(plan)]
    _add_pixels(dataset, _right_handed(dose))
    if origin is not None and origin.structure_set is not None:
        structures = {
            name: mask
            for name, mask in case.structures.items()
            if name in origin.roi_numbers and not mask.is_empty
        }
        _add_dvhs(dataset, dvhs(dose, structures), origin, origin.structure_set)
    save(path, dataset)


def _right_handed(dose: Volume) -> Volume:
    """Frames can only follow each other along row × column; other grids are reordered."""
    direction = np.asarray(dose.grid.direction)
    return dose if np.linalg.det(direction) > 0 else dose.reordered_to_lps()


def _add_pixels(dataset: Dataset, dose: Volume) -> None:
    grid = dose.grid
    direction = np.asarray(grid.direction)
    dataset.ImagePositionPatient = [decimal(v) for v in grid.origin]
    dataset.ImageOrientationPatient = [decimal(v) for v in direction[:, :2].T.ravel()]
    dataset.PixelSpacing = [decimal(grid.spacing[1]), decimal(grid.spacing[0])]
    dataset.SliceThickness = decimal(grid.spacing[2])
    offsets = [decimal(z * grid.spacing[2]) for z in range(grid.size[2])]
    dataset.NumberOfFrames, dataset.GridFrameOffsetVector = grid.size[2], offsets
    dataset.FrameIncrementPointer = Tag("GridFrameOffsetVector")
    dataset.Columns, dataset.Rows = grid.size[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 32, 32, 31
    dataset.PixelRepresentation = 0
    highest = float(dose.array.max(initial=0))
    # What is written is what counts: rounded to 16 characters first, then divided by.
    scaling = decimal(highest / _STEPS) if highest > 0 else "1"
    dataset.DoseGridScaling = scaling
    steps = np.rint(dose.array.astype(np.float64) / float(scaling))
    dataset.PixelData = steps.astype("<u4").tobytes()
    dataset["PixelData"].VR = "OW"


def _add_dvhs(
    dataset: Dataset, curves: Mapping[str, Dvh], origin: DicomOrigin, structure_set: Reference
) -> None:
    dataset.ReferencedStructureSetSequence = [reference(structure_set)]
    dataset.DVHSequence = [
        _dvh_item(curve, origin.roi_numbers[name])
        for name, curve in curves.items()
        if curve.curve is not None
    ]


def _dvh_item(curve: Dvh, number: int) -> Dataset:
    """A cumulative DVH in cm³ over bins of equal width."""
    assert curve.max_gy is not None
    bins = int(np.ceil(curve.max_gy / _BIN_GY)) + 1
    volumes_cc = curve.cumulative(np.arange(bins) * _BIN_GY) * curve.volume_cc / 100
    roi = Dataset()
    roi.ReferencedROINumber, roi.DVHROIContributionType = number, "INCLUDED"
    item = Dataset()
    item.DVHReferencedROISequence = [roi]
    item.DVHType, item.DoseUnits, item.DoseType = "CUMULATIVE", "GY", "PHYSICAL"
    item.DVHDoseScaling, item.DVHVolumeUnits = "1", "CM3"
    item.DVHNumberOfBins = bins
    item.DVHData = [text for v in volumes_cc for text in (decimal(_BIN_GY), f"{v:.5f}")]
    item.DVHMinimumDose = decimal(curve.min_gy or 0.0)
    item.DVHMaximumDose = decimal(curve.max_gy)
    item.DVHMeanDose = decimal(curve.mean_gy or 0.0)
    return item
