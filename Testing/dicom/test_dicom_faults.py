"""One fault refuses one structure or one file, not the patient: left out, and stated of."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_support import contour, save, square
from pydicom.dataset import Dataset

from DosePredictionLib.checks.registry import check_case
from DosePredictionLib.errors import CaseError, MappingError
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io import read_case
from DosePredictionLib.io.dicom import read_dicom
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol

# --- Structures ---------------------------------------------------------------------------------


def upright(axis: int) -> list[Dataset]:
    """A contour across the slices, as a sagittal or coronal helper has it."""
    points = [(-10.0, 5.0), (10.0, 5.0), (10.0, 30.0), (-10.0, 30.0)]
    item = contour(points, 0.0)
    data = [(0.0, across, z) if axis == 0 else (across, 0.0, z) for across, z in points]
    item.ContourData = [f"{value:.4f}" for point in data for value in point]
    return [item]


def coordinates(*values: object) -> list[Dataset]:
    item = contour([(0.0, 0.0)] * 3, 10.0)
    item.ContourData = list(values)
    return [item]


FAULTS: dict[str, tuple[Callable[[], list[Dataset]], str]] = {
    "beside": (
        lambda: square([10, 15], [(900, 0), (950, 0), (950, 40)]),
        "Couch lies outside the CT",
    ),
    "below": (lambda: square([-500]), "Couch lies outside the CT"),
    "sagittal": (lambda: upright(0), "Couch is not parallel"),
    "coronal": (lambda: upright(1), "Couch is not parallel"),
    "no triples": (lambda: coordinates(*"1234"), "4 coordinates"),
    "infinite": (lambda: coordinates(*["1e400"] * 9), "infinite"),
}


def with_roi(
    folder: Path, contours: Sequence[Dataset], name: str = "Couch", number: int = 9
) -> Path:
    """One more structure in the small patient's set."""
    dataset = pydicom.dcmread(folder / "rs.dcm")
    roi, drawn = Dataset(), Dataset()
    roi.ROINumber, roi.ROIName = number, name
    roi.ReferencedFrameOfReferenceUID = dataset.FrameOfReferenceUID
    drawn.ReferencedROINumber, drawn.ContourSequence = number, list(contours)
    dataset.StructureSetROISequence.append(roi)
    dataset.ROIContourSequence.append(drawn)
    save(folder / "rs.dcm", dataset)
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_structure_is_left_out_and_told_of(patient: Path, fault: str) -> None:
    drawn, message = FAULTS[fault]
    wanted = read_case(patient)
    case = read_case(with_roi(patient, drawn()))
    assert set(case.structures) == {"PTV", "Body", "Empty"}
    for name, mask in wanted.structures.items():
        assert np.array_equal(case.structures[name].array, mask.array)
    stated = [finding for finding in case.findings if finding.id == "structure-left-out"]
    assert [(finding.structure, finding.severity) for finding in stated] == [("Couch", "warning")]
    assert message in stated[0].message and "rs.dcm" in stated[0].message
    assert case.origin is not None and "Couch" not in case.origin.roi_numbers


@pytest.mark.parametrize("kind", ["CLOSED_SPHERE", "CLOSED", ""])
def test_a_geometric_type_that_is_not_known_is_told_of(patient: Path, kind: str) -> None:
    items = square([10, 15])
    for item in items:
        item.ContourGeometricType = kind
    case = read_case(with_roi(patient, items))
    stated = [finding for finding in case.findings if finding.structure == "Couch"]
    if kind:
        assert "Couch" not in case.structures
        assert [(f.id, f.severity) for f in stated] == [("contours-left-out", "warning")]
        assert f"2 × {kind}" in stated[0].message
    else:  # nothing stated: closed, as all contours of old files are
        assert case.structures["Couch"].array.any()


@pytest.fixture
def pelvis(patient: Path) -> Path:
    """The small patient with the organs that the pelvis protocol requires."""
    for number, name in enumerate(("Bladder", "Rectum"), 20):
        points = [(-30.0 + number, -30.0), (-25.0 + number, -30.0), (-25.0 + number, -25.0)]
        with_roi(patient, square([10, 15], points), name, number)
    return patient


@pytest.mark.parametrize("name", ["SpinalCord", "Femoral Head LT", "Marrow"])
def test_a_bad_structure_that_a_channel_needs_blocks(pelvis: Path, name: str) -> None:
    case = read_case(with_roi(pelvis, upright(0), name))
    protocol = StructureProtocol.load("pelvis")
    blocking = [f for f in check_case(bind(case, protocol)) if f.severity == "blocking"]
    assert [finding.structure for finding in blocking if "left-out" in finding.id] == [name]
    channel = blocking[0].remedy.split()[-1].rstrip("=")
    assert "not parallel" in blocking[0].message and f"--map {channel}=" in blocking[0].remedy
    by_hand = check_case(bind(case, protocol, {channel: None}))
    assert not [finding for finding in by_hand if "left-out" in finding.id]


@pytest.mark.parametrize("chosen", [{}, {"Rectum": "Rectum_bad"}])
def test_what_cannot_be_mapped_says_why_it_was_left_out(
    patient: Path, pelvis_model: DoseModel, chosen: dict[str, str]
) -> None:
    name = "Rectum_bad" if chosen else "Rectum"
    case = read_case(with_roi(patient, upright(0), name))
    with pytest.raises(MappingError, match=rf"{name} is left out: .*not parallel"):
        Predictor(pelvis_model, "cpu").predict(case, mapping=chosen)


@pytest.mark.parametrize("name", ["PTV_old", "Help", "Couch"])
def test_a_bad_helper_or_second_target_does_not_block(pelvis: Path, name: str) -> None:
    case = read_case(with_roi(pelvis, upright(0), name))
    protocol = StructureProtocol.load("pelvis")
    found = check_case(bind(case, protocol))
    assert not [finding for finding in found if finding.severity == "blocking"]


def test_the_only_target_is_needed(patient: Path) -> None:
    dataset = pydicom.dcmread(patient / "rs.dcm")
    dataset.ROIContourSequence[0].ContourSequence = upright(0)
    save(patient / "rs.dcm", dataset)
    with pytest.raises(CaseError, match=r"rs.dcm: a contour of PTV is not parallel"):
        read_case(patient)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"Blase\0x", "Blase x"),
        (b"Bla\xffse", None),  # no UTF-8
        (b"\0\0\0\0", "ROI 9"),
        (b"A\x07B\x1bC", None),
        (b"=1+1\tcmd", "=1+1 cmd"),
    ],
)
@pytest.mark.parametrize("charset", ["ISO_IR 192", "ISO_IR 100", "NO SUCH", ""])
def test_names_of_any_bytes_are_read_or_refused_in_one_line(
    patient: Path, charset: str, written: bytes, read: str | None
) -> None:
    dataset = pydicom.dcmread(with_roi(patient, square([10, 15]), "@@@@@@@@@@@@") / "rs.dcm")
    dataset.SpecificCharacterSet = charset
    content = save(patient / "rs.dcm", dataset).read_bytes()
    content = content.replace(b"@@@@@@@@@@@@", written.ljust(12))
    (patient / "rs.dcm").write_bytes(content)
    try:
        names = set(read_case(patient).structures) - {"PTV", "Body", "Empty"}
    except CaseError as exception:
        assert "rs.dcm" in str(exception) and "\n" not in str(exception)
        return
    assert len(names) == 1
    name = names.pop()
    assert name.isprintable() and name == name.strip() and (read is None or name == read)
    name.encode("utf-8")


# --- Copies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["*", "slice*", "rs.dcm", "rp.dcm", "rd.dcm"])
def test_identical_copies_count_once(patient: Path, pattern: str) -> None:
    wanted = read_case(patient)
    files = sorted(patient.glob(pattern))
    for file in files:
        (patient / "copy").mkdir(exist_ok=True)
        shutil.copy(file, patient / f"{file.stem} (1).dcm")
        dataset = pydicom.dcmread(file)  # another writer's file meta information, the same data set
        dataset.file_meta.ImplementationVersionName = "ANOTHER"
        pydicom.dcmwrite(patient / "copy" / file.name, dataset)
    found = read_case(patient)
    assert np.array_equal(found.ct.array, wanted.ct.array)
    assert found.plan_dose is not None and wanted.plan_dose is not None
    assert np.array_equal(found.plan_dose.array, wanted.plan_dose.array)
    assert set(found.structures) == set(wanted.structures)
    stated = [finding.message for finding in found.findings if finding.id == "files-copied"]
    assert len(stated) == 1 and stated[0].startswith(f"{2 * len(files)} files are copies")
    assert read_case(patient / "rs.dcm").plan_dose is not None


def test_the_copy_that_is_named_is_the_case(patient: Path) -> None:
    copy = patient / "a longer name.dcm"
    shutil.copy(patient / "rs.dcm", copy)
    assert read_dicom(copy).case.name == "a longer name"


def test_different_files_under_one_instance_are_no_copies(patient: Path) -> None:
    dataset = pydicom.dcmread(patient / "rs.dcm")
    dataset.StructureSetLabel = "OTHER"
    save(patient / "rs2.dcm", dataset)
    with pytest.raises(CaseError, match="2 structure sets that fit"):
        read_case(patient)
