"""Which files of a folder are read: by what they are, and what is said of the others."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_support import save, write_ct
from pydicom.uid import ImplicitVRLittleEndian

from DosePredictionLib.case import Case
from DosePredictionLib.errors import CaseError, GeometryError
from DosePredictionLib.findings import Finding
from DosePredictionLib.io import read_case
from DosePredictionLib.io.dicom import is_dicom, read_images


def stated(case: Case, kind: str) -> list[Finding]:
    return [finding for finding in case.findings if finding.id == kind]


# --- Without preamble, suffix or SOP class -------------------------------------------------------


def without_preamble(content: bytes) -> bytes:
    return content[132:]


def data_set_alone(content: bytes) -> bytes:
    return content[144 + int.from_bytes(content[140:144], "little") :]


def implicit_alone(content: bytes) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    written = io.BytesIO()
    pydicom.dcmwrite(written, dataset, implicit_vr=True, little_endian=True)
    return data_set_alone(written.getvalue())


@pytest.mark.parametrize("stripped", [without_preamble, data_set_alone, implicit_alone])
@pytest.mark.parametrize("suffix", ["", ".1.2.840", ".dcm"])
def test_files_without_preamble_and_suffix_are_read(
    patient: Path, stripped: Callable[[bytes], bytes], suffix: str
) -> None:
    if stripped is implicit_alone and pydicom.__version__.startswith("2"):
        pytest.skip("pydicom 2 writes other syntaxes in another way")
    wanted = read_case(patient)
    for number, file in enumerate(sorted(patient.glob("*.dcm"))):
        content = stripped(file.read_bytes())
        file.unlink()
        (patient / f"IM{number}{suffix}").write_bytes(content)
    assert is_dicom(patient)
    found = read_case(patient)
    assert np.array_equal(found.ct.array, wanted.ct.array)
    assert found.plan_dose is not None and wanted.plan_dose is not None
    assert np.array_equal(found.plan_dose.array, wanted.plan_dose.array)
    assert set(found.structures) == set(wanted.structures) and not stated(found, "files-skipped")


@pytest.mark.parametrize("pattern", ["slice*", "rs.dcm", "rd.dcm", "rp.dcm", "*"])
def test_a_blank_sop_class_is_that_of_the_file_meta(patient: Path, pattern: str) -> None:
    wanted = read_case(patient)
    for file in patient.glob(pattern):
        dataset = pydicom.dcmread(file)
        dataset.SOPClassUID = ""
        if pattern == "*":
            dataset.SOPInstanceUID = ""
        pydicom.dcmwrite(file, dataset)  # the file meta information stays as it was
    found = read_case(patient)
    assert found.plan_dose is not None and set(found.structures) == set(wanted.structures)
    assert found.origin is not None and wanted.origin is not None
    assert found.origin.ct_slices == wanted.origin.ct_slices
    assert found.origin.structure_set == wanted.origin.structure_set


# --- What is skipped ----------------------------------------------------------------------------

SKIPPED = {
    "shot.png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0" * 200, "is not DICOM"),
    "IM7": (b"", r"is empty \(0 bytes\)"),
    "IM8": (gzip.compress(b"\0" * 128 + b"DICM"), "gzip-compressed file: unpack it"),
    "IM9": (b"PK\x03\x04" + b"\0" * 200, "zip file: unpack it"),
    "IM10": (
        b"\x08\0\x05\0CS\x10\0" + b"\xff" * 300,
        "is damaged or not readable|has no SOP class|is not DICOM",
    ),
    "scan": (
        b"\x02\0\0\0UL\4\0\x0a\0\0\0" + b"\0" * 300,
        "has no SOP class|is damaged|is not DICOM",
    ),
}


@pytest.mark.parametrize("name", SKIPPED)
def test_a_skipped_file_is_named_with_the_reason(patient: Path, name: str) -> None:
    content, reason = SKIPPED[name]
    (patient / "sub").mkdir()
    (patient / "sub" / name).write_bytes(content)
    findings = stated(read_case(patient), "files-skipped")
    assert len(findings) == 1
    assert findings[0].severity == ("info" if name == "shot.png" else "warning")
    assert f"sub/{name}" in findings[0].message and re.search(reason, findings[0].message)


def test_notes_beside_the_files_are_not_worth_a_word(patient: Path) -> None:
    (patient / "notes.txt").write_text("seen by a physicist")
    (patient / "LICENSE").write_text("MIT")
    (patient / "masks").mkdir()
    (patient / "masks" / "PTV.nii.gz").write_bytes(gzip.compress(b"an image, as it says"))
    assert not stated(read_case(patient), "files-skipped")


@pytest.mark.parametrize("missing", ["slice*", "r*.dcm"])
def test_what_is_missing_may_be_among_the_skipped(patient: Path, missing: str) -> None:
    for file in patient.glob(missing):
        (patient / file.stem).write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    with pytest.raises(CaseError, match=r"holds no .* Skipped: \w+ is a gzip-compressed file"):
        read_case(patient)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (gzip.compress(b"x" * 500, mtime=0), "gzip-compressed"),
        (b"hello", "not DICOM"),
    ],
)
def test_a_file_that_calls_itself_dicom_is_refused_with_the_reason(
    patient: Path, content: bytes, reason: str
) -> None:
    (patient / "IM.dcm").write_bytes(content)
    with pytest.raises(CaseError, match=rf"IM.dcm is .*{reason}|IM.dcm {reason}"):
        read_case(patient)


# --- Links --------------------------------------------------------------------------------------


def test_linked_folders_are_followed_and_loops_end(patient: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for file in patient.glob("slice*"):
        file.rename(tmp_path / "elsewhere" / file.name)
    (patient / "ct").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to(patient, target_is_directory=True)
    (patient / "self").symlink_to(patient, target_is_directory=True)
    (patient / "broken").symlink_to(tmp_path / "nothing")
    case = read_case(patient)
    assert case.grid.size[2] == 8 and case.plan_dose is not None
    assert not stated(case, "files-copied")
    (tmp_path / "link").symlink_to(patient, target_is_directory=True)
    assert read_case(tmp_path / "link").plan_dose is not None


# --- Scout views and rounded positions ----------------------------------------------------------


def scout(folder: Path, name: str, series: str, **values: object) -> Path:
    [file] = write_ct(folder / "scout", [(0, -57.5, 40)], orientation=(0, 1, 0, 0, 0, -1), **values)
    dataset = pydicom.dcmread(file)
    dataset.SeriesInstanceUID = series
    file.unlink()
    return save(folder / name, dataset)


@pytest.mark.parametrize("name", ["aaa.dcm", "zzz.dcm"])
def test_a_scout_view_that_is_not_marked_is_left_out(patient: Path, name: str) -> None:
    wanted = read_case(patient)
    assert wanted.origin is not None
    scout(patient, name, wanted.origin.ct_series_uid, size=48)
    case = read_case(patient)
    assert np.array_equal(case.ct.array, wanted.ct.array)
    findings = stated(case, "ct-scout-left-out")
    assert [finding.severity for finding in findings] == ["warning"]
    assert name in findings[0].message and "slice" not in findings[0].message.split(":")[0]


@pytest.mark.parametrize("name", ["aaa.dcm", "zzz.dcm"])
def test_of_slices_of_several_kinds_one_of_the_fewer_is_named(tmp_path: Path, name: str) -> None:
    files = write_ct(tmp_path / "ct")
    series = pydicom.dcmread(files[0]).SeriesInstanceUID
    [odd] = write_ct(tmp_path / "odd", [(-57.5, -57.5, 90)], size=12, SeriesInstanceUID=series)
    odd.rename(tmp_path / "ct" / name)
    with pytest.raises(GeometryError, match=rf"{name} has 12×12 pixels") as raised:
        read_images(tmp_path / "ct")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("step", [0.625, 1.25, 3.3333])
def test_slice_positions_rounded_to_a_tenth_are_even(tmp_path: Path, step: float) -> None:
    positions = [(-57.5, -57.5, round(-20.33 + step * n, 1)) for n in range(20)]
    write_ct(tmp_path, positions)
    ct, _ = read_images(tmp_path)
    assert not ct.findings
    assert ct.volume.grid.spacing[2] == pytest.approx(step, abs=0.006)


@pytest.mark.parametrize("convention", ["relative", "absolute"])
def test_dose_offsets_rounded_to_a_tenth_are_even(patient: Path, convention: str) -> None:
    dataset = pydicom.dcmread(patient / "rd.dcm")
    step = 5.0333
    dataset.ImagePositionPatient = [-57.5, -57.5, 0.04]
    begin = 0.1 if convention == "absolute" else 0.0
    dataset.GridFrameOffsetVector = [round(begin + step * n, 1) for n in range(8)]
    save(patient / "rd.dcm", dataset)
    case = read_case(patient)
    assert case.plan_dose is not None
    dataset.GridFrameOffsetVector = [0, 5, 10, 15.4, 20, 25, 30, 35]
    save(patient / "rd.dcm", dataset)
    with pytest.raises(GeometryError, match=r"rd.dcm: dose planes lie .* \(to 0.1 mm\)"):
        read_case(patient)
