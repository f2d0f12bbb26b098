"""RTPLANs that leave something unsaid, or say what is not read: never passed in silence."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from plans import sound_beam
from pydicom.dataset import Dataset
from support import DICOM_SAMPLE

from DosePredictionLib.case import Prescription
from DosePredictionLib.errors import CaseError
from DosePredictionLib.io import read_case
from DosePredictionLib.io.dicom.beams import arrangement_of
from DosePredictionLib.io.dicom.files import ION_PLAN, open_dicom
from DosePredictionLib.io.dicom.plan import read_plan
from DosePredictionLib.io.dicom.rtdose import Equipment
from DosePredictionLib.io.dicom.rtplan import PlanFile, plan_reference, write_rtplan

Run = Callable[..., tuple[int, Any, str]]
Change = Callable[[Dataset], Any]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "plan.dcm"
    beams = [replace(sound_beam(number), isocenter_mm=(0.0, 0.0, 0.0)) for number in (1, 2)]
    of_plan, of_dose = plan_reference()
    content = PlanFile(beams, Prescription({"PTV": 46.0}, 23), "x", of_plan.instance_uid, of_dose)
    write_rtplan(path, content, read_case(DICOM_SAMPLE), Equipment("model", "1", "research"))
    return path


def beam(plan: Dataset) -> Dataset:
    return plan.BeamSequence[0]


def point(plan: Dataset, index: int) -> Dataset:
    return beam(plan).ControlPointSequence[index]


def given(plan: Dataset) -> Dataset:
    return plan.FractionGroupSequence[0].ReferencedBeamSequence[0]


def second_group(plan: Dataset) -> None:
    plan.FractionGroupSequence.append(copy.deepcopy(plan.FractionGroupSequence[0]))
    given(plan).BeamMeterset = 80.0


def second_mlc(plan: Dataset) -> None:
    devices = beam(plan).BeamLimitingDeviceSequence
    devices.append(copy.deepcopy(devices[-1]))


FAULTS: dict[str, tuple[Change, str, str]] = {
    "no final weight": (
        lambda p: delattr(beam(p), "FinalCumulativeMetersetWeight"),
        "unstated",
        "FinalCumulativeMetersetWeight",
    ),
    "final weight 0": (
        lambda p: setattr(beam(p), "FinalCumulativeMetersetWeight", 0),
        "unstated",
        "FinalCumulativeMetersetWeight",
    ),
    "a weight missing": (
        lambda p: delattr(point(p, 2), "CumulativeMetersetWeight"),
        "unstated",
        "CumulativeMetersetWeight at control point 2",
    ),
    "control points out of order": (
        lambda p: setattr(point(p, 2), "ControlPointIndex", 4),
        "unstated",
        "ControlPointIndex from 0 to 5",
    ),
    "no number of control points": (
        lambda p: delattr(beam(p), "NumberOfControlPoints"),
        "unstated",
        "NumberOfControlPoints",
    ),
    "no gantry angle": (lambda p: delattr(point(p, 0), "GantryAngle"), "unstated", "GantryAngle"),
    "no isocenter": (
        lambda p: delattr(point(p, 0), "IsocenterPosition"),
        "unstated",
        "IsocenterPosition",
    ),
    "wedges": (lambda p: setattr(beam(p), "NumberOfWedges", 1), "unread", "wedges"),
    "blocks": (lambda p: setattr(beam(p), "NumberOfBlocks", 1), "unread", "blocks"),
    "an MLC that is not described": (
        lambda p: beam(p).BeamLimitingDeviceSequence.pop(-1),
        "unread",
        "MLCX",
    ),
    "two MLCs": (second_mlc, "unread", "MLCX"),
    "an isocenter that moves": (
        lambda p: setattr(point(p, 2), "IsocenterPosition", [10, 0, 0]),
        "unread",
        "IsocenterPosition",
    ),
    "an energy that changes": (
        lambda p: setattr(point(p, 2), "NominalBeamEnergy", 15),
        "unread",
        "NominalBeamEnergy",
    ),
    "minutes": (lambda p: setattr(beam(p), "PrimaryDosimeterUnit", "MINUTE"), "unread", "MINUTE"),
    "no type of radiation": (lambda p: delattr(beam(p), "RadiationType"), "photons", "no type"),
    "protons": (lambda p: setattr(beam(p), "RadiationType", "PROTON"), "photons", "PROTON"),
    "negative monitor units": (lambda p: setattr(given(p), "BeamMeterset", -60), "beam-mu", ""),
    "two beams of a number": (
        lambda p: setattr(p.BeamSequence[1], "BeamNumber", 1),
        "beam-references",
        "two beams 1",
    ),
    "monitor units of a beam that is not there": (
        lambda p: setattr(given(p), "ReferencedBeamNumber", 9),
        "beam-references",
        "no beam 9",
    ),
    "two fraction groups that disagree": (
        second_group,
        "beam-references",
        "beam 1 has two numbers",
    ),
    "no beams": (lambda p: setattr(p, "BeamSequence", []), "beams", ""),
}


def changed(sound: Path, change: Change, path: Path) -> Path:
    plan = pydicom.dcmread(sound)
    change(plan)
    plan.save_as(path)
    return path


def test_the_sound_plan_passes(sound: Path, run: Run) -> None:
    code, result, _ = run("plan-check", sound)
    assert (code, result["passed"], result["left_out"]) == (0, True, [])


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_of_a_file_breaks_its_row(
    sound: Path, run: Run, tmp_path: Path, name: str
) -> None:
    change, row_id, words = FAULTS[name]
    code, result, _ = run("plan-check", changed(sound, change, tmp_path / "plan.dcm"))
    broken = [row for row in result["rows"] if not row["passed"]]
    assert code == 0 and not result["passed"]
    assert any(row["id"] == row_id and words in row["place"] for row in broken), broken


def to_ions(plan: Dataset) -> None:
    plan.SOPClassUID = plan.file_meta.MediaStorageSOPClassUID = ION_PLAN


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: setattr(p, "BrachyTreatmentType", "HDR"), "a plan of brachytherapy"),
        (to_ions, "RT Ion Plan Storage"),
        (
            lambda p: setattr(beam(p).BeamLimitingDeviceSequence[-1], "NumberOfLeafJawPairs", -60),
            "-60 leaf pairs",
        ),
        (
            lambda p: setattr(beam(p).BeamLimitingDeviceSequence[-1], "NumberOfLeafJawPairs", 61),
            "has not 122 positions",
        ),
    ],
)
def test_what_cannot_be_judged_is_one_line(
    sound: Path, run: Run, tmp_path: Path, change: Change, words: str
) -> None:
    code, result, _ = run("plan-check", changed(sound, change, tmp_path / "plan.dcm"))
    assert code == 2 and words in result["error"]["message"]


def test_a_beam_without_monitor_units_is_named(sound: Path, run: Run, tmp_path: Path) -> None:
    path = changed(sound, lambda p: delattr(given(p), "BeamMeterset"), tmp_path / "plan.dcm")
    _, result, _ = run("plan-check", path)
    assert result["left_out"] == ["Beam 1"] and result["complexity"]["beams"] == 1


def test_beams_without_a_gantry_angle_are_no_arrangement(sound: Path, tmp_path: Path) -> None:
    path = changed(sound, lambda p: delattr(point(p, 0), "GantryAngle"), tmp_path / "plan.dcm")
    arrangement, (finding,) = arrangement_of(read_plan(open_dicom(path)), "HFS")
    assert arrangement is None and "GantryAngle" in finding.message
    whole, none = arrangement_of(read_plan(open_dicom(DICOM_SAMPLE / "RP.dcm")), "HFS")
    assert whole is not None and not none


def test_a_dose_is_no_plan() -> None:
    with pytest.raises(CaseError, match="no RTPLAN but RT Dose Storage"):
        read_plan(open_dicom(DICOM_SAMPLE / "RD.dcm"))
