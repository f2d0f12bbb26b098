"""A result as RTDOSE: whose it is and where it lies, from what Slicer knows of the CT's files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel (Linux, x86-64)")
from support import DICOM_SAMPLE

from DosePredictionLib.errors import CaseError, GeometryError
from DosePredictionLib.io.dicom.case import DicomCase, read_dicom
from DosePredictionLib.io.doses import read_dose
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.prediction import Prediction
from DosePredictionLib.scene import add_result, case_from_nodes, write_result_rtdose

from .nodes import nodes_of, rotation, transform_node
from .predictions import prediction_of

pytestmark = pytest.mark.usefixtures("scene")


@pytest.fixture(scope="module")
def patient() -> DicomCase:
    return read_dicom(DICOM_SAMPLE)


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The only part of Slicer's database (Qt, not in slicer-core) that is asked: uid → file."""
    files = {_uid(path): str(path) for path in DICOM_SAMPLE.glob("*.dcm")}
    asked = SimpleNamespace(isOpen=True, fileForInstance=lambda uid: files.get(uid, ""))
    monkeypatch.setattr(slicer, "dicomDatabase", asked, raising=False)
    return files


def _uid(path: Path) -> str:
    return str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


def _nodes(patient: DicomCase, database: dict[str, str]) -> tuple[Any, Any, Any]:
    """CT, structures and dose with what Slicer's DICOM module and SlicerRT note on them."""
    ct, segmentation, dose = nodes_of(patient.case)
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMInstanceUIDName()
    slices = [uid for uid, path in database.items() if "CT_" in path]
    drawn = [uid for uid, path in database.items() if "RS" in path]
    for node, uids in ((ct, slices), (segmentation, drawn)):
        item = tree.GetItemByDataNode(node) or tree.CreateItem(tree.GetSceneItemID(), node)
        tree.SetItemUID(item, name, " ".join(uids))
    content = segmentation.GetSegmentation()
    origin = patient.case.origin
    assert origin is not None
    for segment in map(content.GetSegment, content.GetSegmentIDs()):
        number = origin.roi_numbers[segment.GetName()]
        segment.SetTag("DicomRtImport.RoiNumber", str(number))
    return ct, segmentation, dose


def _predicted(nodes: tuple, model: DoseModel) -> tuple[Any, Prediction]:
    source = case_from_nodes(*nodes)
    prediction = prediction_of(source.case, model)
    return add_result(prediction, source), prediction


def test_it_is_for_the_patient_and_the_frame_of_the_ct(
    patient: DicomCase, database: dict[str, str], pelvis_model: DoseModel, tmp_path: Path
) -> None:
    nodes = _nodes(patient, database)
    transform_node(rotation(4, shift=(5, 6, 7)), *nodes)  # a registration; not the scanner's
    result, prediction = _predicted(nodes, pelvis_model)

    path = write_result_rtdose(result, prediction, tmp_path / "dose.dcm")

    written, ct = pydicom.dcmread(path), pydicom.dcmread(DICOM_SAMPLE / "CT_001.dcm")
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert written[keyword].value == ct[keyword].value
    drawn = pydicom.dcmread(DICOM_SAMPLE / "RS.dcm")
    referenced = written.ReferencedStructureSetSequence[0]
    assert referenced.ReferencedSOPInstanceUID == drawn.SOPInstanceUID
    numbers = {item.DVHReferencedROISequence[0].ReferencedROINumber for item in written.DVHSequence}
    assert 13 in numbers  # the PTV's
    back, _ = read_dose(path, patient.case.grid, {})
    assert np.abs(back.array - prediction.dose.array).max() < 1e-4


def test_a_ct_that_is_no_dicom_gets_a_name_and_a_frame_of_its_own(
    patient: DicomCase, pelvis_model: DoseModel, tmp_path: Path
) -> None:
    result, prediction = _predicted(nodes_of(patient.case), pelvis_model)
    written = pydicom.dcmread(write_result_rtdose(result, prediction, tmp_path / "dose.dcm"))
    assert patient.case.origin is not None
    assert written.PatientID == "CT 1"
    assert written.FrameOfReferenceUID != patient.case.origin.frame_of_reference_uid


def test_a_place_that_the_frame_does_not_know_is_refused(
    patient: DicomCase, database: dict[str, str], pelvis_model: DoseModel, tmp_path: Path
) -> None:
    nodes = _nodes(patient, database)
    transform_node(np.diag([1.1, 1.0, 1.0, 1.0]), *nodes)
    result, prediction = _predicted(nodes, pelvis_model)
    with pytest.raises(GeometryError, match="Take the CT out of the transform"):
        write_result_rtdose(result, prediction, tmp_path / "dose.dcm")
    assert not (tmp_path / "dose.dcm").exists()


def test_a_removed_ct_is_told(
    patient: DicomCase, database: dict[str, str], pelvis_model: DoseModel, tmp_path: Path
) -> None:
    nodes = _nodes(patient, database)
    result, prediction = _predicted(nodes, pelvis_model)
    slicer.mrmlScene.RemoveNode(nodes[0])
    with pytest.raises(CaseError, match="has been removed"):
        write_result_rtdose(result, prediction, tmp_path / "dose.dcm")
