"""The planner's process: a plan of a prediction as the window gets it, and its packages."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from legs import leg
from scene.predictions import prediction_of
from support import ROOT

from DosePredictionLib.beams.arrangement import BeamArrangement
from DosePredictionLib.case import Prescription
from DosePredictionLib.errors import DosePredictionError, PredictionCancelled
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.origin import DicomOrigin, Reference
from DosePredictionLib.planner_environment import STEPS, has_planner, install_planner
from DosePredictionLib.worker.exchange import (
    read_exchanged_case,
    read_prediction,
    write_case,
    write_prediction,
)
from DosePredictionLib.worker.launch import worker_launch
from DosePredictionLib.worker.measured import read_bands, read_measures
from DosePredictionLib.worker.messages import (
    InstallPlanner,
    MakePlan,
    PlanWish,
    decode_request,
    encode_message,
)
from DosePredictionLib.worker.plan_jobs import make_plan

ORIGIN = DicomOrigin(
    patient={"PatientName": "Doe^J", "PatientID": "7"},
    study={"StudyInstanceUID": "1.2.3"},
    frame_of_reference_uid="1.2.3.4",
    ct_series_uid="1.2.3.5",
    ct_slices=(),
    structure_set=Reference("1.2.840.10008.5.1.4.1.1.481.3", "1.2.3.6"),
    roi_numbers={"PTV": 13},
    patient_position="HFS",
)
GOAL = "Rectum Dmean <= 8 Gy"


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory, pelvis_model: DoseModel) -> MakePlan:
    folder = tmp_path_factory.mktemp("exchange")
    case = write_case(folder / "case", leg())
    prediction = prediction_of(read_exchanged_case(case), pelvis_model, 1.0)
    prescription = Prescription({"PTV": 45.0})
    whole = replace(prediction, prescription=prescription, seconds={"total": 1.0})
    write_prediction(folder / "prediction", whole)
    return MakePlan(
        "p",
        str(case),
        str(folder / "prediction"),
        str(folder / "out"),
        beams=BeamArrangement.of_angles([0.0, 90.0]),
        wishes=(PlanWish(GOAL, 30.0),),
        goals="pelvis_nodal_45_50",
        origin=ORIGIN,
    )


@pytest.fixture(scope="module")
def planned(request_: MakePlan) -> Path:
    pytest.importorskip("pyRadPlan")
    heard: list[float] = []
    result = make_plan(request_, lambda share, stage: heard.append(share), lambda: False)
    assert heard == sorted(heard) and len(heard) > 5
    return Path(result.folder)


def test_the_request_survives_its_way(request_: MakePlan) -> None:
    for request in (request_, replace(request_, origin=None), InstallPlanner("i", "/x")):
        assert decode_request(encode_message(request)) == request


def test_the_plans_dose_comes_back_as_doses_do(planned: Path, request_: MakePlan) -> None:
    plan = read_prediction(planned, read_exchanged_case(Path(request_.case)))
    assert plan.case.beams is not None and plan.case.beams.gantry_degrees == [0, 90]
    target = plan.case.structures["PTV"].binary()
    assert plan.dose.array[target].mean() > 2 * plan.dose.array[~target].mean() > 0
    measures = read_measures(planned)
    assert measures.predicted["PTV"].mean_gy == pytest.approx(plan.dose.array[target].mean(), 0.02)
    bands = read_bands(planned)
    assert bands is not None and bands.content is None and "one plan" in bands.missing
    names = {path.name for path in (planned / "plan").iterdir()}
    assert names == {"rtplan.dcm", "rtdose.dcm", "report.html", "plan.json", "beams.png"}
    assert not list(planned.parent.glob("*-files*"))


def test_plan_and_dose_refer_to_the_patients_own_series(planned: Path) -> None:
    plan, dose = (pydicom.dcmread(planned / "plan" / f"rt{what}.dcm") for what in ("plan", "dose"))
    for written in (plan, dose):
        assert (written.PatientID, written.StudyInstanceUID) == ("7", "1.2.3")
        assert written.FrameOfReferenceUID == "1.2.3.4"
    (drawn,) = plan.ReferencedStructureSetSequence
    assert drawn.ReferencedSOPInstanceUID == "1.2.3.6"
    assert plan.DoseReferenceSequence[0].ReferencedROINumber == 13
    (referred,) = dose.ReferencedRTPlanSequence
    assert referred.ReferencedSOPInstanceUID == plan.SOPInstanceUID


def test_wishes_goals_and_the_assumed_fractions_are_in_the_record(planned: Path) -> None:
    record = json.loads((planned / "plan" / "plan.json").read_text())
    (wish,) = record["wishes"]
    assert f"{wish['structure']} {wish['goal']}" == GOAL
    assert any(goal["structure"] == "PTV" for goal in record["goals"])
    assert record["prescription"]["fractions"] == 22  # of 2 Gy: nothing states how many
    assert "22 are assumed" in record["findings"][0]["message"]
    assert record["complexity"]["beams"] == 2


@pytest.mark.parametrize("answers", [0, 3])
def test_cancelled_at_any_moment_nothing_is_left(request_: MakePlan, answers: int) -> None:
    pytest.importorskip("pyRadPlan")
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > answers

    request = replace(request_, output=f"{request_.output}-{answers}")
    with pytest.raises(PredictionCancelled, match="nothing was written"):
        make_plan(request, lambda share, stage: None, cancelled)
    output = Path(request.output)
    assert not output.exists() and not list(output.parent.glob(f"{output.name}*"))


def test_a_patient_who_lies_otherwise_is_refused(request_: MakePlan) -> None:
    pytest.importorskip("pyRadPlan")
    prone = replace(request_, origin=replace(ORIGIN, patient_position="HFP"))
    with pytest.raises(DosePredictionError, match="HFP"):
        make_plan(prone, lambda share, stage: None, lambda: False)


# ---------------------------------------------------------------- the planner's packages


def wheel(folder: Path, name: str) -> Path:
    """A package of one module, as pip takes it."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "HERE = True\n")
        archive.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    return path


def test_packages_get_a_folder_of_their_own_or_none(tmp_path: Path) -> None:
    folder = tmp_path / "planner"
    found = wheel(tmp_path, "pyRadPlanner")
    steps = [["--no-index", "--no-deps", str(found)]]
    heard: list[str] = []
    install_planner(folder, lambda share, stage: heard.append(stage), steps=steps)
    assert (folder / "pyRadPlanner" / "__init__.py").is_file() and heard[-1] == "installed"
    assert "pyRadPlanner" not in sys.modules and not list(tmp_path.glob(".partial*"))
    before = sorted(folder.rglob("*"))
    with pytest.raises(PredictionCancelled):
        install_planner(folder, cancelled=lambda: True, steps=steps)
    assert sorted(folder.rglob("*")) == before and not list(tmp_path.glob(".partial*"))


def test_they_go_before_everything_else(tmp_path: Path) -> None:
    """A library that lies there stands for this one."""
    worker = tmp_path / "DosePredictionLib" / "worker"
    worker.mkdir(parents=True)
    for file in (worker.parent / "__init__.py", worker / "__init__.py"):
        file.write_text("")
    (worker / "__main__.py").write_text("def main():\n    import sys\n    print(sys.argv[1:])\n")
    launch = worker_launch(packages=tmp_path)
    command = [launch.program, *launch.arguments]
    done = subprocess.run(command, env=dict(launch.environment), capture_output=True, text=True)
    assert done.stdout.startswith("['--parent'"), done.stderr


def test_what_pip_cannot_install_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DosePredictionError, match="pip could not install the planner") as failed:
        install_planner(tmp_path / "planner", steps=[["--no-index", "no-such-package-here"]])
    assert "\n" not in str(failed.value)
    assert not (tmp_path / "planner").exists() and not list(tmp_path.glob(".partial*"))


def test_the_planner_asks_for_what_the_project_pins() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    (pinned,) = {package for step in STEPS for package in step if "pyRadPlan" in package}
    assert f'"{pinned}"' in project
    bound = next(each for step in STEPS for each in step if each.startswith("pydantic>"))
    assert bound.split(",")[1] == "<2.13" and '"pydantic<2.13"' in project


def test_without_either_there_is_no_planner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not has_planner(tmp_path)
    (tmp_path / "pyRadPlan").mkdir()
    assert has_planner(tmp_path)
