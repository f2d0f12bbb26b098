"""Cases with damaged, oversized or misnamed files: one line that names file, rule and remedy."""

from __future__ import annotations

import io
import json
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from support import OPENKBP_SAMPLE, write_case_folder, write_nifti

from DosePredictionLib.case import Case
from DosePredictionLib.errors import CaseError, DosePredictionError, ModelError
from DosePredictionLib.findings import Finding
from DosePredictionLib.io import case_name, find_cases, read_case
from DosePredictionLib.io.nifti import mask_files
from DosePredictionLib.schema import read_json


def refusal(path: Path, most_bytes: float = 60e6) -> str:
    """The line with which a case is refused, without much memory."""
    tracemalloc.start()
    with pytest.raises(DosePredictionError) as error:
        read_case(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most_bytes
    message = str(error.value)
    assert "\n" not in message and len(message) < 1000
    return message


# ---------------------------------------------------------------- packed arrays


@pytest.fixture(scope="module")
def arrays() -> dict[str, NDArray]:
    with np.load(OPENKBP_SAMPLE) as archive:
        return {key: archive[key] for key in archive.files}


@pytest.mark.parametrize(
    ("key", "change", "names"),
    [
        ("ct", lambda a: np.where(a == a.max(), np.nan, a.astype(float)), "nan"),
        ("ct", lambda a: np.where(a == a.max(), np.inf, a.astype(float)), "inf"),
        ("ct", lambda a: np.where(a == a.max(), 1e6, a.astype(float)), "1e+06"),
        ("ct", lambda a: np.where(a == a.max(), -32768, a).astype(np.int16), "-32768"),
        ("ct", lambda a: a.astype(np.int64) + 2**40, "ct holds values"),
        ("ct", lambda a: a[:64], "shape"),
        ("ct", lambda a: a.astype(np.complex64), "plain numbers"),
        ("ct", lambda a: np.array([b"x" * 8] * 128**3), "plain numbers"),
        ("ct", lambda a: a.astype([("a", "<i2")]), "plain numbers"),
        ("dose", lambda a: a[:, :64], "dose"),
        ("dose", lambda a: a.astype("U1"), "plain numbers"),
        ("structure_masks", lambda a: a[:1000], "packed"),
        ("structure_masks", lambda a: a.astype(np.int16), "packed"),
        ("possible_dose_mask", lambda a: a[:1000], "packed"),
        ("voxel_dimensions", lambda a: a * 1e-9, "voxel_dimensions"),
        ("voxel_dimensions", lambda a: a * 1e3, "voxel_dimensions"),
        ("voxel_dimensions", lambda a: a * np.nan, "voxel_dimensions"),
        ("voxel_dimensions", lambda a: -a, "voxel_dimensions"),
        ("voxel_dimensions", lambda a: a[:2], "voxel_dimensions"),
        ("voxel_dimensions", lambda a: np.zeros(10**6), "voxel_dimensions"),
        ("voxel_dimensions", lambda a: a.astype("U8"), "plain numbers"),
    ],
)
def test_a_packed_array_that_cannot_be_right_is_refused(
    tmp_path: Path, arrays: dict, key: str, change: Callable, names: str
) -> None:
    path = tmp_path / "pt_1.npz"
    np.savez_compressed(path, **{**arrays, key: change(arrays[key])})
    message = refusal(path, 150e6)
    assert str(path) in message and names in message


def test_a_ct_at_the_ends_of_its_range_does_not_wrap(tmp_path: Path, arrays: dict) -> None:
    ct = arrays["ct"].astype(np.float32)
    ct[0, 0, 0], ct[1, 1, 1] = 32767, -1024
    np.savez_compressed(tmp_path / "pt_1.npz", **{**arrays, "ct": ct})
    read = read_case(tmp_path / "pt_1.npz").ct.array
    assert (int(read.min()), int(read.max())) == (-2048, 31743)


def npz_of(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy_of(header: str, content: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text + content


HEADER = "{'descr': '<i2', 'fortran_order': False, 'shape': (128, 128, 128), }"


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (HEADER.replace("(128, 128, 128)", "(100000, 100000, 100000)"), "announces"),
        (HEADER.replace("(128, 128, 128)", "(-1, 128, 128)"), "impossible"),
        (HEADER.replace("(128, 128, 128)", "(128, 128, 127)"), "announces"),
        (HEADER.replace("'<i2'", "'|O'"), "plain numbers"),
        (HEADER.replace("'<i2'", "'<x9'"), "no readable array"),
        (HEADER + " " * 20_000, "no readable array"),
        ("{" * 5000, "no readable array"),
        ("hello", "no readable array"),
    ],
)
def test_the_header_of_a_packed_array_is_read_before_its_memory_is_taken(
    tmp_path: Path, header: str, names: str
) -> None:
    members = {"ct.npy": npy_of(header, bytes(2 * 128**3))}
    message = refusal(npz_of(tmp_path / "pt_1.npz", members))
    assert "ct.npy" in message and names in message


def test_a_small_file_that_inflates_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pt_1.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("ct.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy_of(HEADER.replace("(128, 128, 128)", "(1024, 1024, 1024)")))
        for _ in range(256):
            member.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    message = refusal(path, 5e6)
    assert "ct.npy" in message and "268 MB" in message


def test_an_object_array_is_refused_and_nothing_is_unpickled(tmp_path: Path, arrays: dict) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path(tmp_path / "boom").touch, ())

    path = tmp_path / "pt_1.npz"
    np.savez(path, **{**arrays, "ct": np.array([Bomb()], dtype=object)})
    assert "plain numbers" in refusal(path)
    assert not (tmp_path / "boom").exists()


def encrypted(content: bytes) -> bytes:
    """The same archive with every member marked as encrypted."""
    data = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(signature)
        while place >= 0:
            data[place + offset] |= 1
            place = data.find(signature, place + 4)
    return bytes(data)


def test_archives_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "pt_1.npz"
    array = io.BytesIO()
    np.save(array, np.zeros((128, 128, 128), np.int16))
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        npz_of(path, {"ct.npy": array.getvalue()}, method)
        assert "compression method" in refusal(path)
    content = npz_of(path, {"ct.npy": array.getvalue()}).read_bytes()
    path.write_bytes(encrypted(content))
    assert "encrypted" in refusal(path)
    path.write_bytes(array.getvalue())
    assert "npy" in refusal(path)
    for other in (b"", b"PK", b"hello" * 99, content[: len(content) // 2]):
        path.write_bytes(other)
        assert str(path) in refusal(path)


def test_an_array_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pt_1.npz"
    with pytest.warns(UserWarning), zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ct.npy", b"1")
        archive.writestr("ct.npy", b"2")
    assert "twice" in refusal(path)


# ---------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[" * 100_000, "nested"),
        ('{"a": ' * 70 + "1" + "}" * 70, "nested"),
        ('{"prescription": {"PTV": ' + "1" * 5000 + "}}", "prescription.PTV"),
        ('{"prescription": {"PTV": ' + "1" * 400 + "}}", "prescription.PTV"),
        ('{"prescription": {"PTV": 1e400}}', "prescription.PTV"),
        ('{"prescription": {"PTV": -1e400}}', "prescription.PTV"),
        ('{"prescription": {"PTV": NaN}}', "prescription.PTV"),
        ('{"prescription": {"PTV": 45}, "fractions": Infinity}', "fractions"),
        ('{"prescription": {"PTV": 45}, "x": [0, [NaN]]}', "x[1][0]"),
        ("\x00", "valid JSON"),
        ("", "valid JSON"),
    ],
)
def test_json_that_no_number_or_stack_can_hold_is_refused_by_its_field(
    case_folder: Path, text: str, names: str
) -> None:
    (case_folder / "case.json").write_text(text)
    message = refusal(case_folder)
    assert "case.json" in message and names in message
    with pytest.raises(ModelError):
        read_json(case_folder / "case.json", ModelError)


def test_json_that_is_not_utf_8_is_refused(case_folder: Path) -> None:
    (case_folder / "case.json").write_bytes(b'{"technique": "\xff"}')
    assert "case.json" in refusal(case_folder)


def test_large_whole_numbers_stay_exact(tmp_path: Path) -> None:
    numbers = {"seed": 2**127 + 1, "small": -3, "list": [1.5, 10**300]}
    (tmp_path / "state.json").write_text(json.dumps(numbers))
    assert read_json(tmp_path / "state.json") == numbers


# ---------------------------------------------------------------- what lies in a folder


def of_rule(findings: tuple[Finding, ...], rule: str) -> list[Finding]:
    return [finding for finding in findings if finding.id == rule]


@pytest.mark.parametrize(
    "name", ["dose", "rtdose", "RTDOSE", "plan_dose", "total dose", "Dose_sum"]
)
def test_a_dose_under_another_name_is_asked_after(tmp_path: Path, case: Case, name: str) -> None:
    folder = write_case_folder(tmp_path / "p", case)
    (folder / "dose_plan.nii.gz").rename(folder / f"{name}.nii.gz")
    read = read_case(folder)
    assert read.plan_dose is None and set(read.structures) == set(case.structures)
    (finding,) = of_rule(read.findings, "dose-ignored")
    assert finding.severity == "warning" and f"{name}.nii.gz" in finding.message
    assert "dose_plan.nii.gz" in finding.remedy


def test_another_dose_beside_the_plan_is_information(tmp_path: Path, case: Case) -> None:
    folder = write_case_folder(tmp_path / "p", case)
    assert case.plan_dose is not None
    write_nifti(folder / "dose.nii.gz", case.plan_dose)
    read = read_case(folder)
    assert read.plan_dose is not None
    assert [f.severity for f in of_rule(read.findings, "dose-ignored")] == ["info"]


def test_a_dose_called_like_a_structure_is_refused(tmp_path: Path, case: Case) -> None:
    folder = write_case_folder(tmp_path / "p", case)
    (folder / "dose_plan.nii.gz").rename(folder / "plan.nii.gz")
    assert "dose_plan.nii.gz" in refusal(folder)


def test_what_is_not_read_is_named(tmp_path: Path, case: Case) -> None:
    folder = write_case_folder(tmp_path / "p", case)
    (folder / "PTV.stl").write_bytes(b"solid")
    (folder / "Marrow.nii.gz.bak").write_bytes(b"x")
    (folder / "segmentations").mkdir()
    (folder / "._ct.nii.gz").write_bytes(b"what a file system of another kind leaves")
    (folder / ".DS_Store").write_bytes(b"x")
    read = read_case(folder)
    assert set(read.structures) == set(case.structures)
    (finding,) = of_rule(read.findings, "files-ignored")
    for name in ("PTV.stl", "Marrow.nii.gz.bak", "segmentations (a folder)"):
        assert name in finding.message
    assert "_ct" not in finding.message and "DS_Store" not in finding.message


def test_a_name_that_is_not_utf_8_is_left_out_with_a_warning(tmp_path: Path, case: Case) -> None:
    folder = write_case_folder(tmp_path / "p", case)
    mask = (folder / "Marrow.nii.gz").read_bytes()
    try:
        (folder / os.fsdecode(b"M\xe4rrow.nii.gz")).write_bytes(mask)
    except OSError:
        pytest.skip("this file system takes no such name")
    (folder / "with\nnewline.nii.gz").write_bytes(mask)
    read = read_case(folder)
    (finding,) = of_rule(read.findings, "files-ignored")
    assert (
        finding.severity == "warning" and "rrow" in finding.message and "newline" in finding.message
    )
    assert "\n" not in finding.message
    finding.message.encode("utf-8")
    assert set(mask_files(folder)) == set(case.structures)


@pytest.mark.parametrize("kind", ["empty", "folder", "link to nothing", "loop"])
def test_a_structure_that_is_no_file_is_refused_by_name(
    tmp_path: Path, case: Case, kind: str
) -> None:
    folder = write_case_folder(tmp_path / "p", case)
    path = folder / "Rectum.nii.gz"
    path.unlink()
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "loop" else folder / "gone.nii.gz")
    assert "Rectum.nii.gz" in refusal(folder)


def test_links_to_a_case_and_to_its_files_are_followed(tmp_path: Path, case: Case) -> None:
    folder = write_case_folder(tmp_path / "real" / "p", case)
    (folder / "PTV.nii.gz").rename(tmp_path / "elsewhere.nii.gz")
    (folder / "PTV.nii.gz").symlink_to(tmp_path / "elsewhere.nii.gz")
    cohort = tmp_path / "cohort"
    cohort.mkdir()
    (cohort / "linked").symlink_to(folder)
    (found,) = find_cases(cohort)
    assert set(read_case(found).structures) == set(case.structures)


@pytest.mark.parametrize(
    "name", ["x" * 250, "x" * 5000, "a\0b", os.fsdecode(b"caf\xe9"), "loop", "nowhere/at/all"]
)
def test_a_path_that_cannot_be_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "loop":
        path.symlink_to(path)
    elif "caf" in name:
        path.mkdir()
    message = refusal(path)
    message.encode("utf-8")
    assert "\0" not in message
    with pytest.raises(CaseError):
        find_cases(path)
    case_name(path).encode("utf-8")


def test_a_case_with_a_long_name_reads(tmp_path: Path, case: Case) -> None:
    folder = write_case_folder(tmp_path / ("p" * 250), case)
    (folder / "Marrow.nii.gz").rename(folder / f"{'m' * 240}.nii.gz")
    read = read_case(folder)
    assert read.name == "p" * 250 and "m" * 240 in read.structures


def test_a_plan_dose_with_infinite_voxels_is_refused_by_its_file(
    tmp_path: Path, case: Case
) -> None:
    folder = write_case_folder(tmp_path / "p", case)
    assert case.plan_dose is not None
    array = case.plan_dose.array.copy()
    array[0, 0, 0] = np.inf
    write_nifti(folder / "dose_plan.nii.gz", case.plan_dose.with_array(array))
    assert "dose_plan.nii.gz" in refusal(folder)


def test_a_header_of_32767_cubed_is_refused_in_any_file_of_a_case(
    tmp_path: Path, case: Case
) -> None:
    folder = write_case_folder(tmp_path / "p", case)
    for name in ("ct", "PTV", "dose_plan"):
        path = folder / f"{name}.nii.gz"
        original = path.read_bytes()
        image = nibabel.load(path)
        header = image.header.copy()
        header["dim"][1:4] = 32767
        path.unlink()
        (folder / f"{name}.nii").write_bytes(header.binaryblock + bytes(4000))
        assert f"{name}.nii" in refusal(folder)
        (folder / f"{name}.nii").unlink()
        path.write_bytes(original)
    assert read_case(folder).plan_dose is not None
