"""DICOM SEG in, written by highdicom."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from DosePredictionLib.errors import CaseError
from DosePredictionLib.io import read_case


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
