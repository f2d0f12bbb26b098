"""Image files: orientation, units, checksums, sizes, and what headers say of structures."""

from __future__ import annotations

import gzip
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from support import (
    OBLIQUE,
    centered_grid,
    pelvis_case,
    write_case_folder,
    write_nifti,
)

from DosePredictionLib.case import Case
from DosePredictionLib.errors import CaseError, DosePredictionError, GeometryError
from DosePredictionLib.findings import Finding
from DosePredictionLib.io import read_case
from DosePredictionLib.io.volumes import read_volume, write_volume
from DosePredictionLib.volume import Grid, Volume

GRID = centered_grid((9, 8, 7), (3.0, 2.0, 1.0), OBLIQUE)
LABEL_GRID = centered_grid((24, 22, 20), (4.0, 4.0, 5.0))


def random_volume(dtype: str, grid: Grid = GRID) -> Volume:
    values = np.random.default_rng(0).integers(0, 100, grid.shape)
    return Volume(values.astype(dtype), grid)


def findings_of(path: Path) -> list[Finding]:
    findings: list[Finding] = []
    read_volume(path, findings)
    return findings


# ---------------------------------------------------------------- the same as other readers


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["int16", "uint8", "uint16", "int32", "float32"])
def test_nrrd_and_metaimage_read_as_itk_reads_them(
    tmp_path: Path, suffix: str, compressed: bool, dtype: str
) -> None:
    volume = random_volume(dtype)
    image = SimpleITK.GetImageFromArray(volume.array)
    image.SetSpacing(GRID.spacing)
    image.SetOrigin(GRID.origin)
    image.SetDirection([v for row in GRID.direction for v in row])
    path = tmp_path / f"image{suffix}"
    SimpleITK.WriteImage(image, str(path), useCompression=compressed)
    read = read_volume(path)
    assert read.array.dtype == volume.array.dtype
    assert np.array_equal(read.array, volume.array)
    assert read.grid.matches(GRID, 1e-5)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4", ">f8", "<u1", "<i8"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_reads_as_nibabel_reads_it(
    tmp_path: Path, kind: type, dtype: str, suffix: str
) -> None:
    values = np.random.default_rng(0).integers(0, 100, (9, 8, 7)).astype(dtype)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ GRID.index_to_world
    image = kind(values, affine, dtype=values.dtype)
    image.header.set_data_dtype(values.dtype)
    if dtype.endswith("2"):
        image.header.set_slope_inter(1.5, -20)
    path = tmp_path / f"image{suffix}"
    nibabel.save(image, path)
    read = read_volume(path)
    assert read.array.dtype.isnative
    assert np.allclose(read.array.T, np.asanyarray(nibabel.load(path).dataobj))
    assert read.grid.matches(GRID, 1e-4)


def test_a_right_anterior_superior_nrrd_lies_as_itk_lays_it(tmp_path: Path) -> None:
    path = tmp_path / "ct.nrrd"
    write_volume(path, random_volume("int16", LABEL_GRID))
    for space in ("right-anterior-superior", "RAS", "left-anterior-superior"):
        other = tmp_path / "other.nrrd"
        other.write_bytes(
            path.read_bytes().replace(b"space: left-posterior-superior", f"space: {space}".encode())
        )
        image = SimpleITK.ReadImage(str(other))
        assert read_volume(other).grid.origin == pytest.approx(image.GetOrigin())
        assert np.ravel(read_volume(other).grid.direction) == pytest.approx(image.GetDirection())


# ---------------------------------------------------------------- checksums and truncation


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nrrd", "ct.mha"])
def test_no_single_flipped_bit_of_a_compressed_ct_gives_another_ct(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    volume = pelvis_case((24, 20, 16), (12.0, 12.0, 12.0)).ct
    write_volume(path, volume)
    content = path.read_bytes()
    rng = np.random.default_rng(7)
    refused = 0
    for place in rng.integers(0, len(content), 300):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(0, 8)
        path.write_bytes(bytes(damaged))
        try:
            read = read_volume(path)
        except DosePredictionError as exception:
            refused += 1
            assert "\n" not in str(exception) and str(path) in str(exception)
            continue
        # What still reads was flipped in a comment, or in geometry that no checksum covers.
        assert np.array_equal(read.array, volume.array)
    assert refused > 240


@pytest.mark.parametrize(("name", "end"), [("ct.nrrd", b"\n\n"), ("ct.mha", b"LOCAL\n")])
def test_no_flipped_bit_of_a_text_header_changes_voxels(
    tmp_path: Path, name: str, end: bytes
) -> None:
    path = tmp_path / name
    volume = random_volume("int16")
    write_volume(path, volume)
    content = path.read_bytes()
    for place in range(content.index(end) + len(end)):
        for bit in (place % 4, 7 - place % 3):  # two of eight, in turn
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(bytes(damaged))
            try:
                read = read_volume(path)
            except DosePredictionError as exception:
                assert "\n" not in str(exception) and str(tmp_path) in str(exception)
                continue
            assert np.array_equal(read.array, volume.array), damaged[max(0, place - 20) : place + 9]


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "ct.nrrd", "ct.mha"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_a_truncated_image_is_refused(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    write_volume(path, random_volume("int16", LABEL_GRID))
    content = path.read_bytes()
    path.write_bytes(content[: min(int(share * len(content)), len(content) - 1)])
    with pytest.raises(CaseError, match=name):
        read_volume(path)


def test_a_stream_of_several_gzip_members_is_one_image(tmp_path: Path) -> None:
    volume = random_volume("int16", LABEL_GRID)
    write_volume(tmp_path / "ct.nii", volume)
    content = (tmp_path / "ct.nii").read_bytes()
    parts = [content[:500], content[500:9000], content[9000:]]
    path = tmp_path / "parts.nii.gz"
    path.write_bytes(b"".join(gzip.compress(part) for part in parts) + b"\0" * 600)
    assert np.array_equal(read_volume(path).array, volume.array)


@pytest.mark.parametrize(("name", "zipped"), [("ct.nii", True), ("ct.nii.gz", False)])
def test_the_content_tells_whether_a_nifti_is_gzipped(
    tmp_path: Path, name: str, zipped: bool
) -> None:
    volume = random_volume("int16", LABEL_GRID)
    stored = write_nifti(tmp_path / ("x.nii.gz" if zipped else "x.nii"), volume)
    shutil.move(stored, tmp_path / name)
    assert np.array_equal(read_volume(tmp_path / name).array, volume.array)
    assert [finding.id for finding in findings_of(tmp_path / name)] == ["file-compression"]


# ---------------------------------------------------------------- sizes before memory


def changed_nifti(path: Path, change: Callable[[nibabel.Nifti1Header], None]) -> Path:
    """A small NIfTI whose header is changed as no writer would let it be."""
    write_nifti(path.with_suffix(".plain.nii"), random_volume("int16", LABEL_GRID))
    content = path.with_suffix(".plain.nii").read_bytes()
    header = nibabel.Nifti1Header(content[:348], check=False)
    change(header)
    content = header.binaryblock + content[348:]
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    path.with_suffix(".plain.nii").unlink()
    return path


def set_field(name: str, value: object, index: object = ...) -> Callable:
    def change(header: nibabel.Nifti1Header) -> None:
        header[name][index] = value

    return change


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("change", "names"),
    [
        (set_field("dim", 32767, slice(1, 4)), "voxels"),
        (set_field("dim", -4, 2), "impossible size"),
        (set_field("dim", 0, 1), "impossible size"),
        (set_field("dim", 77, 0), "dimensions"),
        (set_field("srow_x", 1e30, 0), "spacing"),
        (set_field("srow_y", np.nan), "spacing"),
        (set_field("srow_z", np.inf), "finite"),
        (set_field("srow_x", 1e30, 3), "origin"),
        (set_field("srow_x", np.nan, 3), "origin"),
        (set_field("srow_x", 1e-9, slice(0, 3)), "spacing"),
        (set_field("pixdim", np.nan, 2), "spacing"),
        (set_field("datatype", 128), "plain numbers"),  # RGB
        (set_field("datatype", 32), "plain numbers"),  # complex
        (set_field("datatype", 9999), "unknown type"),
        (set_field("vox_offset", 1e30), "begin at byte"),
        (set_field("vox_offset", np.nan), "begin at byte"),
        (set_field("scl_slope", np.inf), "scaling"),
        (set_field("magic", b"xyz"), "no NIfTI"),
        (set_field("magic", b"ni1"), "pair of files"),
        (set_field("sizeof_hdr", 7), "no NIfTI"),
    ],
)
def test_an_impossible_nifti_header_is_refused_before_memory_is_taken(
    tmp_path: Path, suffix: str, change: Callable, names: str
) -> None:
    path = changed_nifti(tmp_path / f"ct{suffix}", change)
    tracemalloc.start()
    with pytest.raises(DosePredictionError, match=names) as error:
        read_volume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert peak < 20e6


@pytest.mark.parametrize("name", ["ct.nrrd", "ct.mha"])
@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        (b"24 22 20", b"32767 32767 32767", "voxels"),
        (b"24 22 20", b"24 22 0", "impossible size"),
        (b"24 22 20", b"24 22 -1", "sizes|size"),
        (b"24 22 20", b"24 22 2000", "truncated"),
        (b"24 22 20", b"24 22", "dimension|space directions"),
        (b"4", b"1e30", "spacing|orthonormal|truncated|damaged"),
    ],
)
def test_an_impossible_itk_header_is_refused(
    tmp_path: Path, name: str, before: bytes, after: bytes, names: str
) -> None:
    path = tmp_path / name
    write_volume(path, random_volume("int16", LABEL_GRID))
    content = path.read_bytes()
    if before == b"4":
        before = b"(4,0,0)" if name == "ct.nrrd" else b"ElementSpacing = 4"
        after = b"(1e30,0,0)" if name == "ct.nrrd" else b"ElementSpacing = 1e30"
    assert before in content
    path.write_bytes(content.replace(before, after, 1))
    with pytest.raises(DosePredictionError, match=names) as error:
        read_volume(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        (b"encoding: gzip", b"encoding: hex", "encoding"),
        (b"type: short", b"type: block", "type"),
        (b"endian: little", b"endian: middle", "endian"),
        (b"space: left-posterior-superior", b"space: scanner-xyz", "how the patient lies"),
        (b"space: left-posterior-superior\n", b"", "how the patient lies"),
        (b"encoding: gzip", b"encoding: gzip\ndata file: LIST", "several files"),
        (b"encoding: gzip", b"encoding: gzip\ndata file: gone.raw", "not beside it"),
        (b"encoding: gzip", b"encoding: gzip\nbyte skip: 9", "skips"),
        (b"NRRD000", b"MRRD000", "no NRRD"),
    ],
)
def test_an_nrrd_of_another_kind_is_refused_by_its_field(
    tmp_path: Path, before: bytes, after: bytes, names: str
) -> None:
    path = tmp_path / "ct.nrrd"
    write_volume(path, random_volume("int16", LABEL_GRID))
    content = path.read_bytes()
    assert before in content
    path.write_bytes(content.replace(before, after, 1))
    with pytest.raises(CaseError, match=names):
        read_volume(path)


@pytest.mark.parametrize(
    "name", ["ct.nii", "ct.nii.gz", "ct.nrrd", "ct.mha", "raw.nrrd", "raw.mha"]
)
def test_more_data_than_the_header_announces_is_damage(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    grid = centered_grid((24, 22, 20), (4.0, 4.0, 5.0))
    image = SimpleITK.GetImageFromArray(random_volume("int16", grid).array)
    SimpleITK.WriteImage(image, str(path), useCompression=not name.startswith("raw"))
    if "nii" in name:
        content = path.read_bytes()
        content = bytearray(gzip.decompress(content) if name.endswith("gz") else content)
        content[46:48] = (10).to_bytes(2, "little")  # half of the slices
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    else:
        path.write_bytes(path.read_bytes().replace(b"24 22 20", b"24 22 10", 1))
    with pytest.raises(CaseError, match=name) as error:
        read_volume(path)
    assert "more data" in str(error.value)


def test_padding_behind_the_voxels_is_a_warning(tmp_path: Path) -> None:
    volume = random_volume("int16", LABEL_GRID)
    plain = write_nifti(tmp_path / "ct.nii", volume).read_bytes() + bytes(160)
    (tmp_path / "ct.nii").write_bytes(plain)
    (tmp_path / "zipped.nii.gz").write_bytes(gzip.compress(plain))
    for name in ("ct.nii", "zipped.nii.gz"):
        (finding,) = findings_of(tmp_path / name)
        assert (finding.id, finding.severity) == ("file-longer", "warning")
        assert np.array_equal(read_volume(tmp_path / name).array, volume.array)


# ---------------------------------------------------------------- orientation and units


def test_a_nifti_that_does_not_say_how_the_patient_lies_is_refused(tmp_path: Path) -> None:
    def undeclared(header: nibabel.Nifti1Header) -> None:
        header["qform_code"] = header["sform_code"] = 0

    with pytest.raises(CaseError, match=r"LAS.*LPS.*guess"):
        read_volume(changed_nifti(tmp_path / "ct.nii.gz", undeclared))
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), None)
    nibabel.save(image, tmp_path / "bare.nii.gz")
    with pytest.raises(CaseError, match=r"bare\.nii\.gz.*guess"):
        read_volume(tmp_path / "bare.nii.gz")


def both_forms(path: Path, qform: np.ndarray, sform: np.ndarray) -> Path:
    image = nibabel.Nifti1Image(np.zeros((24, 22, 20), np.int16), sform)
    image.set_qform(qform, 1)
    image.set_sform(sform, 2)
    nibabel.save(image, path)
    return path


def test_matrices_that_disagree_by_a_shift_are_a_warning_with_both_positions(
    tmp_path: Path,
) -> None:
    sform = np.diag([-4.0, -4.0, 5.0, 1.0])
    qform = sform.copy()
    qform[0, 3] = 20
    (finding,) = findings_of(both_forms(tmp_path / "ct.nii.gz", qform, sform))
    assert finding.id == "orientation-disagrees" and finding.severity == "warning"
    assert "20.0 mm" in finding.message and "(-20.0, 0.0, 0.0)" in finding.message
    assert not findings_of(both_forms(tmp_path / "same.nii.gz", sform, sform))


def test_matrices_that_turn_the_patient_are_refused(tmp_path: Path) -> None:
    sform = np.diag([-4.0, -4.0, 5.0, 1.0])
    flipped = np.diag([-4.0, 4.0, 5.0, 1.0])
    with pytest.raises(CaseError, match=r"two ways.*LAS.*LPS"):
        read_volume(both_forms(tmp_path / "ct.nii.gz", flipped, sform))


def test_rounded_quaternions_agree_with_their_matrix(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for number in range(30):
        turn = np.linalg.qr(np.eye(3) + 0.02 * rng.normal(size=(3, 3)))[0]
        affine = np.eye(4)
        affine[:3, :3] = turn * np.sign(np.diag(turn)) * [1, 1, 2.5] @ np.diag([-1, -1, 1])
        affine[:3, 3] = rng.uniform(-500, 500, 3)
        assert not findings_of(both_forms(tmp_path / f"{number}.nii", affine, affine))


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000.0), ("micron", 0.001)])
def test_other_units_become_mm_with_a_warning(tmp_path: Path, unit: str, factor: float) -> None:
    affine = np.diag([-4 / factor, -4 / factor, 5 / factor, 1])
    image = nibabel.Nifti1Image(np.zeros((24, 22, 20), np.int16), affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "ct.nii.gz")
    assert read_volume(tmp_path / "ct.nii.gz").grid.spacing == pytest.approx((4, 4, 5), rel=1e-5)
    (finding,) = findings_of(tmp_path / "ct.nii.gz")
    assert (finding.id, finding.severity) == ("image-units", "warning")
    assert "4×4×5" in finding.message and f"{4 / factor:.4g}" in finding.message


def test_a_unit_that_no_patient_fits_is_taken_as_mm_with_a_warning(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((24, 22, 20), np.int16), np.diag([-4.0, -4, 5, 1]))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "ct.nii.gz")
    assert read_volume(tmp_path / "ct.nii.gz").grid.spacing == pytest.approx((4, 4, 5))
    assert [finding.id for finding in findings_of(tmp_path / "ct.nii.gz")] == ["image-units"]


def test_metres_without_a_unit_are_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(
        np.zeros((24, 22, 20), np.int16), np.diag([-0.004, -0.004, 0.005, 1])
    )
    nibabel.save(image, tmp_path / "ct.nii.gz")
    with pytest.raises(GeometryError, match="another unit"):
        read_volume(tmp_path / "ct.nii.gz")


def test_a_case_says_once_what_all_its_files_have(tmp_path: Path, case: Case) -> None:
    folder = write_case_folder(tmp_path / "p", case)
    for path in folder.glob("*.nii.gz"):
        image = nibabel.load(path)
        image.header.set_xyzt_units("meter")
        nibabel.save(image, path)
    findings = [finding for finding in read_case(folder).findings if finding.id == "image-units"]
    assert len(findings) == 1 and "more files" in findings[0].message
