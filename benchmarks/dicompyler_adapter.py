"""Doses and structures of this project handed to dicompyler-core as DICOM objects in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import contourpy
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

__all__ = ["contours_of", "dose_dataset", "dvh_by_dicompyler", "structure_dataset"]

Contours = list[NDArray[np.float64]]
"""Closed polygons `(points, 3)` in mm (x, y, z), each in one axial plane."""

_DOSE_STEPS = 2**31 - 1


def contours_of(
    occupancy: NDArray, spacing_mm: Sequence[float], origin_mm: Sequence[float]
) -> Contours:
    """The half-occupancy lines of each axial slice of `(z, y, x)`."""
    padded = np.pad(occupancy.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    contours = []
    for k in np.flatnonzero(occupancy.any(axis=(1, 2))):
        for line in contourpy.contour_generator(z=padded[k]).lines(0.5):
            points = np.empty((len(line) - 1, 3))
            points[:, :2] = (np.asarray(line)[:-1] - 1) * spacing_mm[:2] + origin_mm[:2]
            points[:, 2] = origin_mm[2] + k * spacing_mm[2]
            contours.append(points)
    return contours


def dose_dataset(dose_gy: NDArray, spacing_mm: Sequence[float], origin_mm: Sequence[float]) -> Any:
    """An RTDOSE object of an axis-aligned dose `(z, y, x)`."""
    dataset = _dataset("1.2.840.10008.5.1.4.1.1.481.2")
    dataset.Modality = "RTDOSE"
    dataset.FrameOfReferenceUID = generate_uid()
    dataset.Rows, dataset.Columns = dose_gy.shape[1:]
    dataset.NumberOfFrames = dose_gy.shape[0]
    dataset.PixelSpacing = [float(spacing_mm[1]), float(spacing_mm[0])]
    dataset.ImagePositionPatient = [float(v) for v in origin_mm]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.GridFrameOffsetVector = [float(k * spacing_mm[2]) for k in range(dose_gy.shape[0])]
    dataset.BitsAllocated = dataset.BitsStored = 32
    dataset.HighBit, dataset.PixelRepresentation = 31, 0
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.DoseUnits, dataset.DoseType, dataset.DoseSummationType = "GY", "PHYSICAL", "PLAN"
    scaling = float(f"{max(float(dose_gy.max()), 1e-6) / _DOSE_STEPS:.9e}")
    dataset.DoseGridScaling = scaling
    dataset.PixelData = np.round(dose_gy / scaling).astype("<u4").tobytes()
    return dataset


def structure_dataset(structures: dict[str, Contours]) -> Any:
    """An RTSTRUCT object; structures are numbered from 1 in their order."""
    dataset = _dataset("1.2.840.10008.5.1.4.1.1.481.3")
    dataset.Modality = "RTSTRUCT"
    names, contours, observations = [], [], []
    for number, (name, polygons) in enumerate(structures.items(), start=1):
        entry = Dataset()
        entry.ROINumber, entry.ROIName = number, name
        names.append(entry)
        drawn = Dataset()
        drawn.ReferencedROINumber, drawn.ROIDisplayColor = number, [255, 0, 0]
        drawn.ContourSequence = DicomSequence([_contour(points) for points in polygons])
        contours.append(drawn)
        observed = Dataset()
        observed.ObservationNumber = observed.ReferencedROINumber = number
        observed.RTROIInterpretedType = "ORGAN"
        observations.append(observed)
    dataset.StructureSetROISequence = DicomSequence(names)
    dataset.ROIContourSequence = DicomSequence(contours)
    dataset.RTROIObservationsSequence = DicomSequence(observations)
    return dataset


def _dataset(sop_class: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID(sop_class)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    return dataset


def _contour(points: NDArray[np.float64]) -> Dataset:
    item = Dataset()
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(points)
    item.ContourData = [f"{v:.4f}" for v in points.reshape(-1)]
    return item


def dvh_by_dicompyler(structures: Any, dose: Any, number: int, **options: Any) -> Any:
    """dicompyler-core's DVH of one structure of `structure_dataset`, with its defaults."""
    import pydicom.dicomio

    # dicompyler-core 0.5.6 imports a name that pydicom 3 no longer has.
    if not hasattr(pydicom.dicomio, "read_file"):
        pydicom.dicomio.read_file = pydicom.dcmread  # type: ignore[attr-defined]
    from dicompylercore import dvhcalc

    return dvhcalc.get_dvh(structures, dose, number, **options)
