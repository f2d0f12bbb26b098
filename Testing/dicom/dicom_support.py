"""Small DICOM series that tests are made of, written by pydicom alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from DosePredictionLib.io.dicom.files import CT, RTDOSE, RTPLAN, RTSTRUCT

FRAME, STUDY = generate_uid(), generate_uid()
AXIAL = (1, 0, 0, 0, 1, 0)
SQUARE = ((-20.0, -20.0), (20.0, -20.0), (20.0, 20.0), (-20.0, 20.0))


def save(path: Path, dataset: Dataset) -> Path:
    """Write a data set with its file meta information."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = "1.2.3"
    dataset.file_meta, dataset.preamble = meta, b"\0" * 128
    if pydicom.__version__.startswith("2"):
        dataset.is_implicit_VR, dataset.is_little_endian = False, True
    pydicom.dcmwrite(path, dataset)
    return path


def base(sop_class: str, modality: str, **values: object) -> Dataset:
    """What every object here shares; `values` are set on top."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.Modality, dataset.SeriesInstanceUID = modality, generate_uid()
    dataset.PatientID, dataset.PatientName = "P1", "Test^Patient"
    dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = STUDY, FRAME
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def write_ct(
    folder: Path,
    positions: Sequence[Sequence[float]] | None = None,
    orientation: Sequence[float] = AXIAL,
    spacing: float = 5.0,
    size: int = 24,
    **values: object,
) -> list[Path]:
    """Slices of a bright cylinder on air, one file a position, of one series."""
    if positions is None:
        positions = [(-57.5, -57.5, 5.0 * z) for z in range(8)]
    series = values.pop("SeriesInstanceUID", generate_uid())
    offset = np.arange(size) - (size - 1) / 2
    inside = offset[:, None] ** 2 + offset[None, :] ** 2 < (0.4 * size) ** 2
    files = []
    for number, position in enumerate(positions):
        dataset = base(CT, "CT", SeriesInstanceUID=series, **values)
        dataset.ImagePositionPatient = [round(float(p), 6) for p in position]
        dataset.ImageOrientationPatient = [round(float(o), 8) for o in orientation]
        dataset.PixelSpacing, dataset.PatientPosition = [spacing, spacing], "HFS"
        dataset.Rows = dataset.Columns = size
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.PixelRepresentation = 0
        dataset.RescaleIntercept, dataset.RescaleSlope = -1000, 1
        pixels = np.where(inside, 1000 + 10 * number, 0).astype("<u2")
        dataset.PixelData = pixels.tobytes()
        dataset["PixelData"].VR = "OW"
        files.append(save(folder / f"slice{number:02d}_{series[-6:]}.dcm", dataset))
    return files


def contour(points: Sequence[Sequence[float]], z: float, kind: str = "CLOSED_PLANAR") -> Dataset:
    """A contour of (x, y) points on one plane."""
    item = Dataset()
    item.ContourGeometricType = kind
    item.NumberOfContourPoints = len(points)
    item.ContourData = [f"{v:.4f}" for x, y in points for v in (x, y, z)]
    return item


def structure_set(
    structures: Mapping[str, Sequence[Dataset]], series: str = "", frame: str = FRAME
) -> Dataset:
    """A structure set on a frame of reference."""
    dataset = base(RTSTRUCT, "RTSTRUCT", FrameOfReferenceUID=frame, StructureSetLabel="TEST")
    referred, study, images = Dataset(), Dataset(), Dataset()
    images.SeriesInstanceUID = series or generate_uid()
    study.RTReferencedSeriesSequence = [images]
    referred.FrameOfReferenceUID, referred.RTReferencedStudySequence = frame, [study]
    if series:
        dataset.ReferencedFrameOfReferenceSequence = [referred]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(structures.items(), 1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        drawn.ReferencedROINumber, drawn.ContourSequence = number, list(contours)
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(drawn)
    return dataset


def square(zs: Sequence[float], points: Sequence[Sequence[float]] = SQUARE) -> list[Dataset]:
    """The same contour on several planes."""
    return [contour(points, z) for z in zs]


def dose(array: np.ndarray, position: Sequence[float], **values: object) -> Dataset:
    """A plan dose in Gy on 5 mm voxels, `array` in (z, y, x)."""
    dataset = base(RTDOSE, "RTDOSE", DoseUnits="GY", DoseType="PHYSICAL")
    dataset.DoseSummationType, dataset.DoseGridScaling = "PLAN", 1e-3
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = list(position), list(AXIAL)
    dataset.PixelSpacing = [5.0, 5.0]
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = array.shape
    dataset.GridFrameOffsetVector = [5.0 * z for z in range(len(array))]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 32
    dataset.HighBit, dataset.PixelRepresentation = 31, 0
    dataset.PixelData = np.rint(array / 1e-3).astype("<u4").tobytes()
    dataset["PixelData"].VR = "OW"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def refer(dataset: Dataset, sequence: str, target: Dataset) -> Dataset:
    """Let a data set refer to another one."""
    item = Dataset()
    item.ReferencedSOPClassUID = target.SOPClassUID
    item.ReferencedSOPInstanceUID = target.SOPInstanceUID
    setattr(dataset, sequence, [item])
    return dataset


def plan(structures: Dataset, targets: Mapping[int, float], fractions: int = 25) -> Dataset:
    """A plan with doses by ROI number and one arc of three control points."""
    dataset = refer(base(RTPLAN, "RTPLAN"), "ReferencedStructureSetSequence", structures)
    dataset.RTPlanLabel = "TEST"
    dataset.DoseReferenceSequence = []
    for number, dose_gy in targets.items():
        item = Dataset()
        item.DoseReferenceType, item.TargetPrescriptionDose = "TARGET", dose_gy
        item.ReferencedROINumber = number
        dataset.DoseReferenceSequence.append(item)
    group, used = Dataset(), Dataset()
    used.ReferencedBeamNumber, used.BeamMeterset = 1, 200.0
    group.NumberOfFractionsPlanned, group.ReferencedBeamSequence = fractions, [used]
    dataset.FractionGroupSequence, dataset.BeamSequence = [group], [_arc()]
    return dataset


def _arc() -> Dataset:
    beam, leaves = Dataset(), Dataset()
    leaves.RTBeamLimitingDeviceType, leaves.NumberOfLeafJawPairs = "MLCX", 2
    leaves.LeafPositionBoundaries = [-10, 0, 10]
    beam.BeamNumber, beam.BeamName, beam.BeamType = 1, "Arc", "DYNAMIC"
    beam.BeamLimitingDeviceSequence = [leaves]
    beam.FinalCumulativeMetersetWeight = 2
    beam.ControlPointSequence = []
    for index, angle in enumerate((180.1, 0.0, 179.9)):
        point, position = Dataset(), Dataset()
        position.RTBeamLimitingDeviceType = "MLCX"
        position.LeafJawPositions = [-5 - index, -5, 5, 5 + index]
        point.CumulativeMetersetWeight, point.GantryAngle = index, angle
        point.BeamLimitingDevicePositionSequence = [position]
        if index == 0:
            jaws = Dataset()
            jaws.RTBeamLimitingDeviceType, jaws.LeafJawPositions = "ASYMX", [-40, 50]
            point.BeamLimitingDevicePositionSequence.append(jaws)
            point.NominalBeamEnergy = 6
        beam.ControlPointSequence.append(point)
    return beam
