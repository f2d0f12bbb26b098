"""Real files, mutated hundreds of times: every one is read, or refused in one line."""

from __future__ import annotations

import resource
import shutil
import time
from itertools import product
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_support import save
from support import DICOM_SAMPLE

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.io.dicom import read_dicom

NAMES = ("ct0.dcm", "ct2.dcm", "rs.dcm", "rs.dcm", "rp.dcm", "rd.dcm")
KINDS = 6
SLICES = 4
_LONGEST_S = 5.0  # of the processor: the machine may be busy
_MOST_GROWTH_MIB = 500


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few slices of the shipped patient with what of its structures, plan and dose fits them."""
    folder = tmp_path_factory.mktemp("fuzz")
    for number in range(SLICES):
        dataset = pydicom.dcmread(DICOM_SAMPLE / f"CT_{40 + number:03d}.dcm")
        rows = dataset.pixel_array[::4, ::4]
        dataset.Rows, dataset.Columns = rows.shape
        dataset.PixelSpacing, dataset.PixelData = [10, 10], rows.tobytes()
        save(folder / f"ct{number}.dcm", dataset)
    heights = [float(pydicom.dcmread(f).ImagePositionPatient[2]) for f in folder.glob("ct*.dcm")]
    dataset = pydicom.dcmread(DICOM_SAMPLE / "RS.dcm")
    for roi in dataset.ROIContourSequence:
        drawn = [
            contour
            for contour in roi.get("ContourSequence", [])
            if min(heights) - 0.1 <= float(contour.ContourData[2]) <= max(heights) + 0.1
        ]
        for contour in drawn:
            contour.ContourData = [
                v
                for p in range(0, len(contour.ContourData), 30)
                for v in contour.ContourData[p : p + 3]
            ]
        roi.ContourSequence = drawn
    save(folder / "rs.dcm", dataset)
    save(folder / "rp.dcm", pydicom.dcmread(DICOM_SAMPLE / "RP.dcm"))
    dataset = pydicom.dcmread(DICOM_SAMPLE / "RD.dcm")
    frames = dataset.pixel_array[38:46, ::4, ::4]
    dataset.ImagePositionPatient[2] += 38 * 2.5
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape
    dataset.GridFrameOffsetVector = [2.5 * z for z in range(8)]
    dataset.PixelSpacing, dataset.PixelData = [10, 10], frames.tobytes()
    save(folder / "rd.dcm", dataset)
    assert read_dicom(folder).case.plan_dose is not None
    return folder


def mutated(content: bytes, kind: int, head: bool, rng: np.random.Generator) -> bytes:
    """Some bytes changed, cut off, doubled, zeroed, a value length made 4 GB, or other digits."""
    data = bytearray(content)
    end = min(len(data), 3000) if head else len(data)
    at = int(rng.integers(0, end))
    if kind == 0:
        for place in rng.integers(0, end, rng.integers(1, 20)):
            data[place] = rng.integers(0, 256)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        data[at:at] = data[at : at + int(rng.integers(1, 200))]
    elif kind == 3:
        length = int(rng.integers(1, 200))
        data[at : at + length] = b"\0" * len(data[at : at + length])
    elif kind == 4:
        data[at : at + 4] = b"\xf0\xff\xff\xff"
    else:
        digits = [i for i in range(at, min(at + 400, len(data))) if chr(data[i]) in "0123456789.-"]
        for place in digits[:: int(rng.integers(1, 9))]:
            data[place] = ord(rng.choice(list("0123456789.-eE\\")))
    return bytes(data)


@pytest.mark.parametrize("times", [4, pytest.param(30, marks=pytest.mark.slow)])
def test_mutations_of_real_files_are_read_or_refused(
    small_folder: Path, tmp_path: Path, times: int
) -> None:
    """Each kind in each file, in its head, where its meaning lies, as often as in all of it."""
    rng = np.random.default_rng(20_260_101 + times)
    mutations = list(product(NAMES, range(KINDS), (True, False))) * times
    folder = tmp_path / "patient"
    shutil.copytree(small_folder, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for number, (name, kind, head) in enumerate(mutations):
        original = (small_folder / name).read_bytes()
        (folder / name).write_bytes(mutated(original, kind, head, rng))
        started = time.process_time()
        try:
            case = read_dicom(folder).case
            assert np.isfinite(case.ct.array).all()
        except DosePredictionError as exception:
            refused += 1
            assert "\n" not in str(exception), number
            assert str(folder) in str(exception) or "patient" in str(exception), exception
        assert time.process_time() - started < _LONGEST_S, number
        (folder / name).write_bytes(original)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    assert grown < _MOST_GROWTH_MIB
    assert len(mutations) // 4 < refused < len(mutations)
    assert read_dicom(folder).case.ct.grid.size[2] == SLICES
