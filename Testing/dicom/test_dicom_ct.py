"""CT series: geometry from the slices, what is put right and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_support import FRAME, save, square, structure_set, write_ct
from pydicom.uid import generate_uid

from DosePredictionLib.errors import CaseError, GeometryError
from DosePredictionLib.io.dicom.ct import CtSeries, read_ct
from DosePredictionLib.io.dicom.files import open_dicom

ZS = [5.0 * z for z in range(8)]


def at(zs: list[float]) -> list[tuple[float, float, float]]:
    return [(-57.5, -57.5, z) for z in zs]


def read(files: list[Path]) -> CtSeries:
    return read_ct([open_dicom(file) for file in files])


def ids(series: CtSeries) -> list[str]:
    return [finding.id for finding in series.findings]


def test_slices_in_any_order_become_one_volume_in_hu(tmp_path: Path) -> None:
    series = read(write_ct(tmp_path, at(ZS[::-1])))
    grid = series.volume.grid
    assert (grid.size, grid.spacing, grid.origin) == (
        (24, 24, 8),
        (5.0, 5.0, 5.0),
        (-57.5, -57.5, 0),
    )
    assert series.volume.array.dtype == np.int16
    assert series.volume.array[:, 12, 12].tolist() == [70 - 10 * z for z in range(8)]
    assert series.volume.array.min() == -1000
    assert not series.findings and all(series.slices)


def test_a_feet_first_prone_patient_lies_right_in_the_patients_frame(tmp_path: Path) -> None:
    positions = [(57.5, 57.5, z) for z in ZS]
    series = read(write_ct(tmp_path, positions, orientation=(-1, 0, 0, 0, -1, 0)))
    assert np.allclose(np.asarray(series.volume.grid.direction), np.diag([-1, -1, 1]))
    lps = series.volume.reordered_to_lps()
    assert lps.grid.origin == pytest.approx((-57.5, -57.5, 0))


@pytest.mark.parametrize("position", ["HFP", "FFDR", "HFDL"])
def test_patients_who_do_not_lie_supine_are_told_of(tmp_path: Path, position: str) -> None:
    files = write_ct(tmp_path)
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.PatientPosition = position
        save(file, dataset)
    assert ids(read(files)) == ["patient-not-supine"]


def test_a_slice_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    files = write_ct(tmp_path)
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(files[3].read_bytes())
    series = read([*files, copy])
    assert ids(series) == ["ct-slices-duplicated"] and series.volume.grid.size[2] == 8


def test_two_different_slices_at_one_place_are_refused(tmp_path: Path) -> None:
    files = write_ct(tmp_path, at([*ZS, ZS[2]]))
    with pytest.raises(CaseError, match=r"different slices at one position.*two scans"):
        read(files)


def test_missing_slices_are_filled_in_and_told_of(tmp_path: Path) -> None:
    series = read(write_ct(tmp_path, at([z for z in ZS if z not in (15.0, 20.0)])))
    assert ids(series) == ["ct-slices-missing"]
    assert series.volume.grid.size[2] == 8 and series.slices[3] is None
    assert series.volume.array[2:6, 12, 12] == pytest.approx([20, 20 + 10 / 3, 20 + 20 / 3, 30])


def test_too_many_missing_slices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="3 CT slices are missing between z = 10"):
        read(write_ct(tmp_path, at([z for z in ZS if z not in (15.0, 20.0, 25.0)])))


def test_uneven_slices_are_resampled_to_the_finest_step(tmp_path: Path) -> None:
    series = read(write_ct(tmp_path, at([0, 3, 6, 9, 14, 19, 24])))
    assert ids(series) == ["ct-spacing-uneven"]
    assert series.volume.grid.spacing[2] == 3 and series.volume.grid.size[2] == 9
    assert series.volume.array[4, 12, 12] == pytest.approx(30 + 10 * 3 / 5)


def test_slices_without_any_order_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="too uneven to resample"):
        read(write_ct(tmp_path, at([0, 1, 12, 13, 40])))


def test_rounded_positions_are_even(tmp_path: Path) -> None:
    series = read(write_ct(tmp_path, at([0, 2.5, 5.01, 7.49, 10])))
    assert not series.findings and series.volume.grid.spacing[2] == pytest.approx(2.5)


def test_a_tilted_gantry_is_straightened(tmp_path: Path) -> None:
    tilt = np.radians(10)
    axes = (1, 0, 0, 0, np.cos(tilt), -np.sin(tilt))
    # The table moves along z; the slices lean: they drift along their own columns.
    files = write_ct(tmp_path, at(ZS), orientation=axes)
    series = read(files)
    assert ids(series) == ["ct-gantry-tilt"]
    grid = series.volume.grid
    assert grid.obliquity_degrees == pytest.approx(10, abs=0.01)
    assert grid.spacing[2] == pytest.approx(5 * np.cos(tilt))
    # The cylinder's axis runs along z: at z = 20 mm it still stands at x = y = 0.
    at_axis = np.round(grid.index_from_world([0, 0, 20.0])).astype(int)
    x, y, z = at_axis
    assert series.volume.array[z, y, x] > 0


def test_slices_that_jump_sideways_are_refused(tmp_path: Path) -> None:
    positions = [(-57.5 + 3 * (z % 2), -57.5, 5.0 * z) for z in range(8)]
    with pytest.raises(GeometryError, match="moved against each other"):
        read(write_ct(tmp_path, positions))


def test_sagittal_slices_are_refused(tmp_path: Path) -> None:
    positions = [(5.0 * z, 0, 0) for z in range(4)]
    with pytest.raises(GeometryError, match="not axial"):
        read(write_ct(tmp_path, positions, orientation=(0, 1, 0, 0, 0, -1)))


def changed(file: Path, **values: object) -> Path:
    dataset = pydicom.dcmread(file)
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return save(file, dataset)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"PixelData": b"\0" * 100}, "is truncated: it holds 100 of 1152 bytes"),
        ({"PixelData": None}, "holds no pixels"),
        ({"Rows": 60000, "Columns": 60000}, "pixels"),
        ({"PixelSpacing": [0, 5]}, "no CT slice"),
        ({"PixelSpacing": None}, "lacks PixelSpacing"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "two perpendicular unit vectors"),
        ({"RescaleSlope": 1e9}, "which no CT has"),
        ({"RescaleType": "OD"}, "a CT in HU is needed"),
        ({"SamplesPerPixel": 3}, "several values a pixel"),
        ({"Rows": 12, "Columns": 48}, "not of one series"),
    ],
)
def test_a_bad_slice_is_named_with_the_rule(tmp_path: Path, values: dict, message: str) -> None:
    files = write_ct(tmp_path)
    changed(files[4], **values)
    with pytest.raises((CaseError, GeometryError), match=message) as raised:
        read(files)
    assert files[4].name in str(raised.value) and "\n" not in str(raised.value)


def test_compressed_pixels_without_a_codec_say_so(tmp_path: Path) -> None:
    files = write_ct(tmp_path)
    dataset = pydicom.dcmread(files[0])
    # JPEG 2000: encapsulated, and no codec decodes garbage of it.
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    fragment = b"\xff\x4f\xff\x51" + b"\0" * 60
    dataset.PixelData = (
        b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0"
        + len(fragment).to_bytes(4, "little")
        + fragment
        + b"\xfe\xff\xdd\xe0\0\0\0\0"
    )
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    pydicom.dcmwrite(files[0], dataset)
    with pytest.raises(CaseError, match=f"{files[0].name} is compressed .* no codec"):
        read(files)


def test_a_missing_frame_of_reference_is_refused(tmp_path: Path) -> None:
    from DosePredictionLib.io import read_case

    series = generate_uid()
    for file in write_ct(tmp_path, SeriesInstanceUID=series):
        changed(file, FrameOfReferenceUID=None)
    save(tmp_path / "rs.dcm", structure_set({"PTV": square(ZS[2:5])}, series, FRAME))
    with pytest.raises(CaseError, match="names no frame of reference"):
        read_case(tmp_path)
