"""RTPLAN out, and back by our own reader and by others."""

from __future__ import annotations

import copy
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_support import save as save_dataset
from plans import MACHINE, PAIRS, changed, sound_beam
from support import DICOM_SAMPLE

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.delivery import TreatmentBeam
from DosePredictionLib.errors import CaseError
from DosePredictionLib.io.dicom import read_dicom
from DosePredictionLib.io.dicom.files import open_dicom
from DosePredictionLib.io.dicom.plan import read_plan
from DosePredictionLib.io.dicom.rtdose import PlannedDose, write_rtdose
from DosePredictionLib.io.dicom.rtplan import PlanFile, plan_reference, write_rtplan
from DosePredictionLib.io.dicom.writing import Equipment
from DosePredictionLib.planning.check import check_plan

EQUIPMENT = Equipment("planner", "1.0", "Plan optimized; research only")
BEAMS = [sound_beam(1, 3, 60.25, seed=1), sound_beam(2, 5, 33.333333, seed=2)]
FIELDS = ("weight", "gantry_degrees", "jaws_x_mm", "jaws_y_mm", "leaves_mm", "leaf_borders_mm")


@pytest.fixture(scope="module")
def eclipse_case() -> Case:
    return read_dicom(DICOM_SAMPLE).case


@pytest.fixture(scope="module")
def written(eclipse_case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plan and dose that name each other, beside the CT and structures that they name."""
    folder = tmp_path_factory.mktemp("plan")
    write_pair(folder, eclipse_case)
    return folder


def write_pair(folder: Path, case: Case) -> None:
    plan, dose = plan_reference()
    content = PlanFile(BEAMS, Prescription({"PTV": 46.0}, 23), "A test.", plan.instance_uid, dose)
    write_rtplan(folder / "plan.dcm", content, case, EQUIPMENT)
    assert case.plan_dose is not None
    planned = PlannedDose(plan, dose.instance_uid, "CALCULATED – NOT FOR CLINICAL USE")
    write_rtdose(folder / "dose.dcm", case.plan_dose, case, EQUIPMENT, planned)


def same(one: TreatmentBeam, other: TreatmentBeam) -> None:
    for field in FIELDS:
        np.testing.assert_allclose(getattr(one, field), getattr(other, field), atol=1e-6)
    assert one.meterset == pytest.approx(other.meterset, abs=1e-6)
    assert one.isocenter_mm == pytest.approx(other.isocenter_mm)
    for field in ("number", "name", "machine", "kind", "energy_mv", "sad_mm", "stated_points"):
        assert getattr(one, field) == getattr(other, field)


def test_what_is_written_is_what_is_read(written: Path) -> None:
    plan = read_plan(open_dicom(written / "plan.dcm"))
    for one, other in zip(BEAMS, plan.beams, strict=True):
        same(one, other)
    assert (plan.fractions, plan.technique) == (23, "IMRT")
    assert plan.targets[0][1:] == ("PTV", 46.0)
    assert all(row.passed for row in check_plan(plan.beams, MACHINE, 2.0))


def test_jaws_that_follow_the_segments_are_written_and_read(
    eclipse_case: Case, tmp_path: Path
) -> None:
    """Also where the leaves stay as they are."""
    jaws = np.repeat([[-60.0, 60.0], [-60.0, 40.0], [-20.0, 55.5]], 2, axis=0)
    beam = replace(BEAMS[0], jaws_x_mm=jaws, leaves_mm=np.repeat(BEAMS[0].leaves_mm[:1], 6, axis=0))
    content = PlanFile(
        [beam], Prescription({"PTV": 46.0}, 23), "", plan_reference()[0].instance_uid
    )
    write_rtplan(tmp_path / "plan.dcm", content, eclipse_case, EQUIPMENT)
    (read,) = read_plan(open_dicom(tmp_path / "plan.dcm")).beams
    same(beam, read)


def test_plan_and_dose_name_each_other_and_the_structures(written: Path) -> None:
    plan, dose = (pydicom.dcmread(written / name) for name in ("plan.dcm", "dose.dcm"))
    ct, structures = (pydicom.dcmread(DICOM_SAMPLE / name) for name in ("CT_001.dcm", "RS.dcm"))
    (of_dose,) = dose.ReferencedRTPlanSequence
    (of_plan,) = plan.ReferencedDoseSequence
    assert of_dose.ReferencedSOPInstanceUID == plan.SOPInstanceUID
    assert of_plan.ReferencedSOPInstanceUID == dose.SOPInstanceUID
    (drawn,) = plan.ReferencedStructureSetSequence
    assert drawn.ReferencedSOPInstanceUID == structures.SOPInstanceUID
    for dataset in (plan, dose):
        assert dataset.FrameOfReferenceUID == ct.FrameOfReferenceUID
        assert dataset.StudyInstanceUID == ct.StudyInstanceUID
        assert "NOT FOR CLINICAL USE" in dataset.SeriesDescription
    assert (plan.ApprovalStatus, plan.PlanIntent) == ("UNAPPROVED", "RESEARCH")
    assert plan.RTPlanDescription.startswith("NOT FOR CLINICAL USE")


def test_an_independent_reader_finds_the_same_positions(written: Path) -> None:
    pymedphys = pytest.importorskip("pymedphys")
    dataset = pydicom.dcmread(written / "plan.dcm")
    for beam in dataset.BeamSequence:  # it reads collimators without X jaws alone
        devices = beam.BeamLimitingDeviceSequence
        beam.BeamLimitingDeviceSequence = [
            d for d in devices if d.RTBeamLimitingDeviceType != "ASYMX"
        ]
    delivery = pymedphys.Delivery.from_dicom(copy.deepcopy(dataset), fraction_group_number=1)
    leaves = np.asarray(delivery.mlc)  # (point, pair, bank): positive away from the axis
    ours = np.concatenate([beam.leaves_mm for beam in BEAMS])
    np.testing.assert_allclose(leaves[:, ::-1, 0], ours[:, 1], atol=0.05)
    np.testing.assert_allclose(-leaves[:, ::-1, 1], ours[:, 0], atol=0.05)
    total = sum(beam.meterset or 0 for beam in BEAMS)
    assert np.asarray(delivery.monitor_units)[-1] == pytest.approx(total, abs=0.01)


def test_dciodvfy_finds_no_error(written: Path, eclipse_case: Case, tmp_path: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dicom3tools is not installed")
    write_pair(tmp_path, replace(eclipse_case, origin=None))
    for path in (written / "plan.dcm", tmp_path / "plan.dcm"):
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
        assert "RTPlan" in done.stderr.splitlines() and "Error" not in done.stderr, done.stderr


def test_a_case_with_the_written_pair_is_read_as_a_case(written: Path, tmp_path: Path) -> None:
    for path in [*DICOM_SAMPLE.glob("CT_*.dcm"), DICOM_SAMPLE / "RS.dcm"]:
        shutil.copy(path, tmp_path)
    for name in ("plan.dcm", "dose.dcm"):
        shutil.copy(written / name, tmp_path)
    back = read_dicom(tmp_path)
    assert back.plan is not None and len(back.plan.beams) == 2
    assert back.case.prescription is not None and back.case.plan_dose is not None
    assert dict(back.case.prescription.target_gy) == {"PTV": 46.0}


@pytest.mark.parametrize(
    ("beams", "fractions", "words"),
    [
        ([], 25, "has no beam"),
        ([replace(BEAMS[0], meterset=None)], 25, "without monitor units"),
        (BEAMS, None, "no number of fractions"),
        ([changed(BEAMS[0], "gantry_degrees", -1, 90.0)], 25, "Beam 1 turns gantry"),
    ],
)
def test_what_cannot_be_written_is_refused(
    eclipse_case: Case, tmp_path: Path, beams: list, fractions: int | None, words: str
) -> None:
    content = PlanFile(beams, Prescription({"PTV": 46.0}, fractions), "", "1.2.3")
    with pytest.raises(CaseError, match=words):
        write_rtplan(tmp_path / "plan.dcm", content, eclipse_case, EQUIPMENT)
    assert not list(tmp_path.glob("*.dcm"))


def test_faulty_plans_are_read_for_what_they_are(written: Path, tmp_path: Path) -> None:
    """Each fault is a broken limit, or one line."""

    def faulty(**beam_changes: object) -> Path:
        dataset = pydicom.dcmread(written / "plan.dcm")
        for keyword, value in beam_changes.items():
            setattr(dataset.BeamSequence[0], keyword, value)
        return save_dataset(tmp_path / "faulty.dcm", dataset)

    def broken(path: Path) -> set[str]:
        plan = read_plan(open_dicom(path))
        return {row.id for row in check_plan(plan.beams, MACHINE) if not row.passed}

    assert broken(faulty(FinalCumulativeMetersetWeight="2")) == {"meterset-end"}
    assert broken(faulty(NumberOfControlPoints=8)) == {"control-points"}
    dataset = pydicom.dcmread(written / "plan.dcm")
    device = dataset.BeamSequence[0].BeamLimitingDeviceSequence[-1]
    device.LeafPositionBoundaries = list(device.LeafPositionBoundaries)[:-1]
    with pytest.raises(CaseError, match="LeafPositionBoundaries must hold 61 numbers; it holds 60"):
        broken(save_dataset(tmp_path / "leaves.dcm", dataset))
    with pytest.raises(CaseError, match="beam 1 has no control points"):
        broken(faulty(ControlPointSequence=[]))
    assert PAIRS == 60
