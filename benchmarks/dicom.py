"""DICOM folders: rasterizing beside two other libraries, and a large CT with structures from disk.

The structures are those of the shipped Eclipse patient. rt-utils starts from the opened RTSTRUCT,
whose numbers are still text, as we do; dcmrtstruct2nii from the numbers. Each time is CPU time,
since other work may share the cores, and the least of several runs. Both are timed where they are
installed; dcmrtstruct2nii needs pydicom 2, so an environment of its own.

    python -m benchmarks.dicom
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from DosePredictionLib.io import read_case
from DosePredictionLib.io.dicom.contours import occupancy_of
from DosePredictionLib.io.dicom.files import CT, RTSTRUCT, DicomFile, open_dicom
from DosePredictionLib.io.dicom.structure_set import read_structure_set
from DosePredictionLib.mask import majority

_FOLDER = Path(__file__).parent.parent / "Resources" / "SampleData" / "eclipse_rando_prostate_dicom"
_SLICES, _STRUCTURES, _EDGE = 200, 20, 512
_LARGE_CC = 10.0


def main() -> None:
    """Print the times and the agreement."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        _compare_rasterizing(Path(name))
    with tempfile.TemporaryDirectory() as name:
        _time_large_case(Path(name))


def _compare_rasterizing(folder: Path) -> None:
    case = read_case(_FOLDER)
    drawn = [name for name, mask in case.structures.items() if mask.array.any()]
    structures = _FOLDER / "RS.dcm"

    def ours(file: DicomFile) -> dict[str, np.ndarray]:
        return {
            roi.name: occupancy_of(roi.name, roi.loops, case.grid, structures)[0].array
            for roi in read_structure_set(file).rois
            if roi.loops
        }

    seconds, masks = _timed(ours, 5, lambda: open_dicom(structures))
    _say(
        f"Eclipse patient ({case.grid}): {len(drawn)} structures from the opened RTSTRUCT to "
        f"sub-voxel occupancy in {seconds:.3f} s"
    )
    wanted = [name for name in drawn if masks[name].sum() * case.grid.voxel_volume_cc > _LARGE_CC]
    for library, others in (("rt-utils", _rt_utils), ("dcmrtstruct2nii", _dcmrtstruct2nii)):
        try:
            slower, boolean = others(drawn, structures, folder)
        except ImportError as exception:
            _say(f"  {library} is not installed ({exception.name}): nothing to compare with")
            continue
        _say(
            f"  {library} to boolean masks {slower:.3f} s: {slower / seconds:.1f} times as long "
            "(wanted: 5)"
        )
        for name in wanted:
            theirs = boolean[name][:, : case.grid.size[1]]
            volumes = [
                float(mask.sum()) * case.grid.voxel_volume_cc for mask in (masks[name], theirs)
            ]
            _say(
                f"  {name:<16}{volumes[0]:9.1f} cc, {volumes[1]:9.1f} cc there  "
                f"Dice {_dice(majority(masks[name]), theirs):.4f}"
            )


Masks = dict[str, np.ndarray]


def _rt_utils(names: list[str], structures: Path, folder: Path) -> tuple[float, Masks]:
    """Seconds from the opened RTSTRUCT, and masks `(z, y, x)` on the CT padded to a square."""
    from rt_utils import RTStructBuilder

    _write_square_slices(folder)

    def masks_of(loaded: Any) -> Masks:
        return {name: loaded.get_roi_mask_by_name(name) for name in names}

    seconds, masks = _timed(
        masks_of, 3, lambda: RTStructBuilder.create_from(str(folder), str(structures))
    )
    return seconds, {name: np.moveaxis(mask, 2, 0) for name, mask in masks.items()}


def _dcmrtstruct2nii(names: list[str], structures: Path, folder: Path) -> tuple[float, Masks]:
    """Seconds from contours that are numbers already, and masks `(z, y, x)`."""
    import SimpleITK
    from dcmrtstruct2nii.adapters.convert.rtstructcontour2mask import DcmPatientCoords2Mask
    from dcmrtstruct2nii.adapters.input.contours.rtstructinputadapter import RtStructInputAdapter
    from dcmrtstruct2nii.adapters.input.image.dcminputadapter import DcmInputAdapter

    for file in _FOLDER.glob("CT*.dcm"):
        shutil.copy(file, folder)
    image = DcmInputAdapter().ingest(str(folder))
    contours = {each["name"]: each for each in RtStructInputAdapter().ingest(str(structures))}

    def masks_of(_: Any) -> dict[str, Any]:
        convert = DcmPatientCoords2Mask().convert
        return {name: convert(contours[name]["sequence"], image, 0, 1) for name in names}

    seconds, masks = _timed(masks_of, 3)
    arrays = {name: SimpleITK.GetArrayFromImage(mask).astype(bool) for name, mask in masks.items()}
    return seconds, arrays


def _write_square_slices(folder: Path) -> None:
    """The CT padded with air below: rt-utils takes rows for columns where they differ."""
    for file in _FOLDER.glob("CT*.dcm"):
        dataset = pydicom.dcmread(file)
        pixels = dataset.pixel_array
        missing = pixels.shape[1] - pixels.shape[0]
        square = np.pad(pixels, ((0, missing), (0, 0)), constant_values=-1000)
        dataset.Rows, dataset.PixelData = len(square), square.tobytes()
        save(folder / file.name, dataset, ExplicitVRLittleEndian)


def _dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (first.sum() + second.sum())


def _time_large_case(folder: Path) -> None:
    _write_large_case(folder)
    seconds, case = _timed(lambda _: read_case(folder), 1)
    _say(
        f"CT of {case.grid.size[0]}×{case.grid.size[1]}×{case.grid.size[2]} with "
        f"{len(case.structures)} structures: ready for prediction in "
        f"{seconds:.1f} s of CPU time (wanted: 15)"
    )


def _write_large_case(folder: Path) -> None:
    """A body of ellipses with organs in it, contoured at 1 mm on every slice."""
    frame, study, series = generate_uid(), generate_uid(), generate_uid()
    rng = np.random.default_rng(0)
    noise = rng.integers(900, 1100, (_EDGE, _EDGE)).astype("<u2")
    for z in range(_SLICES):
        slice_ = ct_slice((frame, study, series), [-230, -230, 2.5 * z], 0.9, noise)
        save(folder / f"{z}.dcm", slice_, ExplicitVRLittleEndian)
    structures = new_object(RTSTRUCT, "RTSTRUCT", frame, study, generate_uid())
    structures.StructureSetROISequence, structures.ROIContourSequence = [], []
    for number in range(1, _STRUCTURES + 1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, "Body" if number == 1 else f"Organ {number}"
        roi.ReferencedFrameOfReferenceUID = frame
        drawn.ReferencedROINumber = number
        radius = 180.0 if number == 1 else float(rng.uniform(15, 60))
        center = (0.0, 0.0) if number == 1 else rng.uniform(-80, 80, 2)
        slices = range(_SLICES) if number == 1 else range(40, 40 + int(rng.integers(20, 120)))
        drawn.ContourSequence = [ellipse_contour(center, radius, 2.5 * z) for z in slices]
        structures.StructureSetROISequence.append(roi)
        structures.ROIContourSequence.append(drawn)
    save(folder / "rs.dcm", structures, ImplicitVRLittleEndian)


def ct_slice(
    uids: tuple[str, str, str], position_mm: list[float], spacing_mm: float, stored: np.ndarray
) -> Dataset:
    """An axial slice; `stored` is HU + 1000 as `<u2`, `uids` are frame of reference, study, series.

    Takes no notice of anything else that a scanner writes.
    """
    slice_ = new_object(CT, "CT", *uids)
    slice_.ImagePositionPatient = position_mm
    slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    slice_.PixelSpacing, (slice_.Rows, slice_.Columns) = [spacing_mm] * 2, stored.shape
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 12, 11
    slice_.PixelRepresentation, slice_.RescaleIntercept, slice_.RescaleSlope = 0, -1000, 1
    slice_.PixelData = stored.tobytes()
    slice_["PixelData"].VR = "OW"
    return slice_


def ellipse_contour(center: Any, radius_mm: float, z_mm: float, flatness: float = 0.7) -> Dataset:
    """An ellipse with a point about every millimetre; `flatness` is its height over its width."""
    angle = np.linspace(0, 2 * np.pi, int(2 * np.pi * radius_mm) + 8, endpoint=False)
    x = center[0] + radius_mm * np.cos(angle)
    y = center[1] + flatness * radius_mm * np.sin(angle)
    item = Dataset()
    item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(angle)
    item.ContourData = [f"{v:.2f}" for a, b in zip(x, y, strict=True) for v in (a, b, z_mm)]
    return item


def new_object(sop_class: str, modality: str, frame: str, study: str, series: str) -> Dataset:
    """A data set with what every object of a patient has."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = (
        sop_class,
        generate_uid(),
        modality,
    )
    dataset.PatientID, dataset.StudyInstanceUID = "benchmark", study
    dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = series, frame
    return dataset


def save(path: Path, dataset: Dataset, syntax: str) -> None:
    """Write a data set as a file."""
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta, dataset.preamble = meta, b"\0" * 128
    if pydicom.__version__.startswith("2"):
        dataset.is_implicit_VR = syntax == ImplicitVRLittleEndian
        dataset.is_little_endian = True
    pydicom.dcmwrite(path, dataset)


def _timed(
    call: Callable[[Any], Any], repeats: int, prepare: Callable[[], Any] = lambda: None
) -> tuple[float, Any]:
    """Least CPU seconds of a call on what was prepared anew each time, and its last result."""
    seconds, result = [], None
    for _ in range(repeats):
        prepared = prepare()
        started = time.process_time()
        result = call(prepared)
        seconds.append(time.process_time() - started)
    return min(seconds), result


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
