"""DICOM SEG in, written by highdicom."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

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
