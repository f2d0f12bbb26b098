"""DICOM SEG in and out, by highdicom."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from DosePredictionLib.app.contours import ContoursRequest, evaluate_contours
from DosePredictionLib.case import Case
from DosePredictionLib.errors import CaseError, DosePredictionError
from DosePredictionLib.io import read_case
from DosePredictionLib.io.dicom.case import read_contours
from DosePredictionLib.io.dicom.seg_writing import write_dicom_seg
from DosePredictionLib.io.dicom.writing import Equipment
from DosePredictionLib.mask import Mask


@pytest.fixture
def segmented(patient: Path) -> tuple[Path, np.ndarray]:
    """The small patient with two binary segments in place of its structure set."""
    seg = pytest.importorskip("highdicom.seg")
    from highdicom.sr.coding import CodedConcept

    for file in patient.glob("r*.dcm"):
        file.unlink()
    slices = [pydicom.dcmread(file) for file in sorted(patient.glob("slice*"))]
    for each in slices:
        each.PatientBirthDate = each.PatientSex = each.StudyDate = each.StudyTime = ""
        each.SliceThickness, each.PositionReferenceIndicator = 5, ""
        each.AccessionNumber = each.StudyID = each.ReferringPhysicianName = ""
    masks = np.zeros((8, 24, 24, 2), dtype=bool)
    masks[2:5, 8:16, 8:16, 0] = True
    masks[1:7, 3:21, 3:21, 1] = True
    tissue = CodedConcept("85756007", "SCT", "Tissue")
    descriptions = [
        seg.SegmentDescription(number, label, tissue, tissue, "MANUAL")
        for number, label in ((1, "PTV"), (2, "Blase – außen"))
    ]
    segmentation = seg.Segmentation(
        slices, masks, "BINARY", descriptions, "1.2.3.9", 1, "1.2.3.10", 1, "Test", "Test", "1", "1"
    )
    segmentation.SpecificCharacterSet = "ISO_IR 192"
    segmentation.save_as(patient / "seg.dcm")
    return patient, masks


def test_segments_become_structures_on_the_cts_slices(segmented: tuple[Path, np.ndarray]) -> None:
    folder, masks = segmented
    case = read_case(folder)
    assert set(case.structures) == {"PTV", "Blase – außen"}
    for number, name in enumerate(("PTV", "Blase – außen")):
        assert np.array_equal(case.structures[name].array > 0.5, masks[..., number])


def test_without_highdicom_the_command_to_install_it_is_told(
    segmented: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "highdicom.seg", None)
    with pytest.raises(CaseError, match=r"seg.dcm .* pip install highdicom"):
        read_case(segmented[0])


def edited(folder: Path, name: str, labels: dict[int, str], shift: float = 0.0) -> Path:
    """Another segmentation of the same CT: new instance, some labels changed, moved along z."""
    dataset = pydicom.dcmread(folder / "seg.dcm")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for number, label in labels.items():
        dataset.SegmentSequence[number].SegmentLabel = label
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient[2] += shift
    dataset.save_as(folder / name)
    return folder / name


@pytest.mark.parametrize("labels", [{}, {1: "Rectum"}])
def test_a_label_in_two_segmentations_is_asked_for(
    segmented: tuple[Path, np.ndarray], labels: dict[int, str]
) -> None:
    folder, masks = segmented
    second = edited(folder, "rater2.dcm", labels)
    with pytest.raises(CaseError, match=r"called 'PTV': rater2.dcm.*, seg.dcm.* Name the file"):
        read_case(folder)
    case = read_case(second)
    assert set(case.structures) == {"PTV", labels.get(1, "Blase – außen")}
    assert np.array_equal(case.structures["PTV"].array > 0.5, masks[..., 0])


def test_segmentations_of_different_structures_add_up_and_copies_count_once(
    segmented: tuple[Path, np.ndarray],
) -> None:
    folder, _ = segmented
    edited(folder, "more.dcm", {0: "Rectum", 1: "Bowel"})
    (folder / "seg (1).dcm").write_bytes((folder / "seg.dcm").read_bytes())
    assert set(read_case(folder).structures) == {"PTV", "Blase – außen", "Rectum", "Bowel"}


def test_a_segment_beside_the_ct_is_left_out(segmented: tuple[Path, np.ndarray]) -> None:
    folder, _ = segmented
    far = edited(folder, "far.dcm", {0: "Couch", 1: "Table"}, shift=900.0)
    case = read_case(folder)
    assert set(case.structures) == {"PTV", "Blase – außen"}
    stated = {finding.structure for finding in case.findings if finding.id == "structure-left-out"}
    assert stated == {"Couch", "Table"}
    with pytest.raises(CaseError, match=r"far.dcm: Couch lies on .* does not overlap the CT"):
        read_case(far)


def test_a_segmentation_by_itself_is_held_against_a_case(
    segmented: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    folder, masks = segmented
    case = read_case(folder)
    assert case.origin is not None
    frame, alone = case.origin.frame_of_reference_uid, tmp_path / "seg.dcm"
    alone.write_bytes((folder / "seg.dcm").read_bytes())
    read, findings = read_contours(alone, case.grid, frame)
    assert np.array_equal(read["PTV"].binary(), masks[..., 0]) and not findings
    with pytest.raises(CaseError, match=r"seg.dcm lies in the frame of reference .* other images"):
        read_contours(alone, case.grid, "1.2.3.4")
    twice = edited(folder, "twice.dcm", {1: "PTV"})
    with pytest.raises(CaseError, match="holds two segments called 'PTV'"):
        read_contours(twice, case.grid, frame)
    twice.unlink()
    # "PTV" lies inside "Blase – außen": each structure keeps its own voxels.
    (folder / "seg.dcm").write_bytes(edited(folder, "organs.dcm", {1: "Bladder"}).read_bytes())
    alone.write_bytes((folder / "organs.dcm").read_bytes())
    (folder / "organs.dcm").unlink()
    evaluation = evaluate_contours(ContoursRequest(folder, alone, protocol="pelvis"))
    assert evaluation.structures["Bladder"]["dice"] == 1


def test_a_fractional_segmentation_is_the_share_of_each_voxel(
    segmented: tuple[Path, np.ndarray],
) -> None:
    seg = pytest.importorskip("highdicom.seg")
    folder, masks = segmented
    binary = pydicom.dcmread(folder / "seg.dcm")
    source = [pydicom.dcmread(file) for file in sorted(folder.glob("slice*"))]
    for each in source:
        each.PatientBirthDate = each.PatientSex = each.StudyDate = each.StudyTime = ""
        each.SliceThickness, each.PositionReferenceIndicator = 5, ""
        each.AccessionNumber = each.StudyID = each.ReferringPhysicianName = ""
    descriptions = [seg.SegmentDescription.from_dataset(s) for s in binary.SegmentSequence]
    shares = masks.astype(np.float32) * np.float32([0.6, 1.0])
    segmentation = seg.Segmentation(
        source, shares, "FRACTIONAL", descriptions, "1.2.3.9", 2, "1.2.3.11", 1, "T", "T", "1", "1"
    )
    segmentation.save_as(folder / "seg.dcm")
    case = read_case(folder)
    ptv = Mask.of(case.structures["PTV"])
    assert np.allclose(ptv.weights(), shares[..., 0], atol=0.01)
    assert np.array_equal(ptv.majority(), masks[..., 0])


# --- Out ------------------------------------------------------------------------------------------

EQUIPMENT = Equipment("organs-by-hu", "1, weights 0123", "Organs contoured by a neural network")
COLORS = {"Bladder": (255, 200, 0)}


def contoured(patient: Path) -> Case:
    """The small patient with overlapping masks, one of which covers voxels in part."""
    case = read_case(patient)
    bladder = np.zeros(case.grid.shape, dtype=bool)
    bladder[2:6, 4:14, 5:15] = True
    partial = np.zeros(case.grid.shape, dtype=np.float32)
    partial[3:5, 10:18, 8:16], partial[3:5, 9, 8:16] = 1.0, 0.4
    masks = {"Bladder": bladder, "Blase – außen": partial, "Empty": bladder & False}
    return replace(case, structures={n: Mask(mask, case.grid) for n, mask in masks.items()})


def test_what_is_written_is_read_back_on_the_cts_slices(patient: Path) -> None:
    pytest.importorskip("highdicom.seg")
    case = contoured(patient)
    for file in patient.glob("r*.dcm"):
        file.unlink()
    write_dicom_seg(patient / "organs.dcm", case, {"Bladder"}, EQUIPMENT, COLORS)
    back = read_case(patient)
    assert set(back.structures) == {"Bladder", "Blase – außen"}
    assert back.grid.matches(case.grid)
    for name in back.structures:
        own, ours = Mask.of(case.structures[name]), Mask.of(back.structures[name])
        assert np.array_equal(ours.binary(), own.majority()), name
    dataset = pydicom.dcmread(patient / "organs.dcm")
    kinds = {s.SegmentLabel: s.SegmentAlgorithmType for s in dataset.SegmentSequence}
    assert kinds == {"Bladder": "AUTOMATIC", "Blase – außen": "MANUAL"}
    (found,) = [s for s in dataset.SegmentSequence if s.SegmentLabel == "Bladder"]
    assert found.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == EQUIPMENT.name
    assert found.SegmentedPropertyTypeCodeSequence[0].CodeValue == "89837001"
    assert "NOT FOR CLINICAL USE" in dataset.SeriesDescription
    ct = pydicom.dcmread(next(patient.glob("slice*")))
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert dataset[keyword].value == ct[keyword].value
    referred = dataset.ReferencedSeriesSequence[0]
    assert referred.SeriesInstanceUID == ct.SeriesInstanceUID


def test_nothing_is_written_of_no_voxels_or_no_slices(patient: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom.seg")
    case, path = contoured(patient), tmp_path / "organs.dcm"

    def write(changed: Case) -> None:
        write_dicom_seg(path, changed, (), EQUIPMENT, {})

    with pytest.raises(CaseError, match="no voxel to write"):
        write(replace(case, structures={"Empty": case.structures["Empty"]}))
    with pytest.raises(CaseError, match="does not come from DICOM"):
        write(replace(case, origin=None))
    assert not path.exists()


@pytest.mark.parametrize("reason", ["highdicom", "pydicom"])
def test_what_is_missing_to_write_is_one_line(
    patient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    if reason == "highdicom":
        monkeypatch.setitem(sys.modules, "highdicom.seg", None)
    else:
        monkeypatch.setattr(pydicom, "__version__", "2.4.4")
    with pytest.raises(DosePredictionError, match=r"highdicom.* or write --format nifti") as caught:
        write_dicom_seg(tmp_path / "organs.dcm", contoured(patient), (), EQUIPMENT, {})
    assert "\n" not in str(caught.value)
