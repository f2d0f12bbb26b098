"""`plan`: from a case and a dose to RTPLAN, RTDOSE, report and record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from support import DICOM_SAMPLE, write_case_folder, write_nifti
from test_planner import falling_dose, small_case

from DosePredictionLib.app import plan as plan_module
from DosePredictionLib.cli import main
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.io.dicom.files import open_dicom
from DosePredictionLib.io.dicom.plan import read_plan
from DosePredictionLib.planning import monte_carlo
from DosePredictionLib.volume import Volume

pytest.importorskip("pyRadPlan")

Run = Callable[..., tuple[int, Any, str]]
PELVIS = ("--protocol", "pelvis")  # three structures name none by themselves
GOAL = "Rectum Dmean <= 8 Gy"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    bound = small_case()
    case = write_case_folder(folder / "thigh", bound.case)
    return case, write_nifti(folder / "dose.nii.gz", falling_dose(bound.case.grid))


@pytest.fixture(scope="module")
def planned(inputs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    case, dose = inputs
    options = [*PELVIS, "--prediction", dose, "--beams", "5", "--segments", "60"]
    options += ["--goal", GOAL, "--output", out]
    assert main(["plan", *map(str, [case, *options])]) == 0
    return out / "thigh"


def test_the_five_files_are_there_and_nothing_else(planned: Path) -> None:
    names = {path.name for path in planned.iterdir()}
    assert names == {"rtplan.dcm", "rtdose.dcm", "report.html", "plan.json", "beams.png"}
    assert not list(planned.parent.glob(".partial*"))


def test_the_record_holds_gamma_limits_and_goals(planned: Path) -> None:
    record = json.loads((planned / "plan.json").read_text())
    assert record["violations"] == 0 and record["complexity"]["beams"] == 5
    assert record["gamma"]["recomputed_against_optimized"]["3%/3mm"] >= 99
    assert "not for clinical use" in record["statement"]
    (wish,) = record["wishes"]
    assert (wish["structure"], wish["unit"]) == ("Rectum", "Gy")
    assert wish["plan"] < wish["wanted"]  # asked for, and moved that way
    assert record["structures"]["PTV"]["endpoints"]["D95_gy"]["prediction"] is not None


def test_the_report_warns_of_the_plan(planned: Path) -> None:
    page = (planned / "report.html").read_text()
    assert "do not deliver it" in page and "dose.nii.gz" in page
    assert "No dose engine has computed it" not in page


def test_plan_and_dose_belong_together(planned: Path) -> None:
    plan, dose = (pydicom.dcmread(planned / name) for name in ("rtplan.dcm", "rtdose.dcm"))
    (of_dose,) = dose.ReferencedRTPlanSequence
    assert of_dose.ReferencedSOPInstanceUID == plan.SOPInstanceUID
    record = json.loads((planned / "plan.json").read_text())
    units = sum(beam.meterset or 0 for beam in read_plan(open_dicom(planned / "rtplan.dcm")).beams)
    assert units == pytest.approx(record["complexity"]["monitor_units"], abs=0.01)


def test_its_own_plan_passes_the_check(planned: Path, run: Run) -> None:
    code, result, _ = run("plan-check", planned / "rtplan.dcm", "--machine", "generic-120")
    assert code == 0 and result["passed"]


def bad_dose(folder: Path, kind: str) -> Path:
    dose = falling_dose(small_case().case.grid)
    array = {"cGy": dose.array * 100, "zero": dose.array * 0}[kind]
    return write_nifti(folder / f"{kind}.nii.gz", Volume(array.astype(np.float32), dose.grid))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--machine", "other"), "no machine 'other'"),
        (("--beams", "0"), "1 to 72 beams"),
        (("--beams", "181-179"), "arcs are not planned"),
        (("--beams", "left"), "--beams takes gantry angles"),
        (("--goal", "Heart Dmean < 3 Gy"), "there is no such structure"),
        (("--goal", "nonsense"), "takes a structure and a goal"),
        (("--goal", GOAL, "--goal-weight", "-3"), "--goal-weight) lies between 1"),
        (("--goal", GOAL, "--goal-weight", "0"), "--goal-weight) lies between 1"),
        (("--goal", GOAL, "--goal-weight", "nan"), "--goal-weight) lies between 1"),
        (("--own-plan",), "has no plan dose of its own"),
        (("--dose-grid", "0.1"), "dose_grid_mm must be of type float, at least 2"),
        (("--prediction", "none.nii.gz"), "none.nii.gz"),
    ],
)
def test_bad_calls_are_one_line_and_leave_nothing(
    run: Run, inputs: tuple[Path, Path], tmp_path: Path, options: tuple, words: str
) -> None:
    case, dose = inputs
    out = tmp_path / "out"
    code, result, _ = run("plan", case, *PELVIS, "--prediction", dose, "--output", out, *options)
    message = result["error"]["message"]
    assert code == 2 and words in message and "\n" not in message
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.parametrize("kind", ["cGy", "zero"])
def test_doses_that_are_none_are_refused(
    run: Run, inputs: tuple[Path, Path], tmp_path: Path, kind: str
) -> None:
    dose = bad_dose(tmp_path, kind)
    code, result, _ = run(
        "plan", inputs[0], *PELVIS, "--prediction", dose, "--output", tmp_path / "out"
    )
    assert code == 2 and str(dose) in result["error"]["message"]


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("FrameOfReferenceUID", "1.2.3.4", "frame of reference"),
        ("DoseGridScaling", None, "DoseGridScaling"),
    ],
)
def test_a_dose_of_another_frame_or_without_scale_is_refused(
    run: Run, tmp_path: Path, keyword: str, value: str | None, words: str
) -> None:
    dataset = pydicom.dcmread(DICOM_SAMPLE / "RD.dcm")
    if value is None:
        delattr(dataset, keyword)
    else:
        setattr(dataset, keyword, value)
    dose = tmp_path / "dose.dcm"
    dataset.save_as(dose)
    out = tmp_path / "out"
    code, result, _ = run("plan", DICOM_SAMPLE, *PELVIS, "--prediction", dose, "--output", out)
    message = result["error"]["message"]
    assert code == 2 and words in message and "\n" not in message
    assert not out.exists() or not list(out.iterdir())


def test_a_structure_set_is_no_dose(run: Run, tmp_path: Path) -> None:
    given = ("--prediction", DICOM_SAMPLE / "RS.dcm", "--output", tmp_path / "out")
    code, result, _ = run("plan", DICOM_SAMPLE, *PELVIS, *given)
    assert code == 2 and "RS.dcm is no RTDOSE" in result["error"]["message"]


def test_a_second_call_replaces_its_own_files_alone(
    run: Run, inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module.Planner, "planned", lambda *a, **k: ready_plan())
    case, dose = inputs
    out = tmp_path / "out"
    call = ("plan", case, *PELVIS, "--prediction", dose, "--beams", "1", "--output", out)
    assert run(*call)[0] == 0
    (out / "thigh" / "notes.txt").write_text("mine")
    first = (out / "thigh" / "rtplan.dcm").read_bytes()
    assert run(*call)[0] == 0
    assert (out / "thigh" / "rtplan.dcm").read_bytes() != first
    assert (out / "thigh" / "notes.txt").read_text() == "mine"
    (out / "thigh" / "plan.json").unlink()  # whose are the others now?
    code, result, _ = run(*call)
    assert code == 2 and "rtplan.dcm" in result["error"]["message"]
    assert "which no earlier call wrote" in result["error"]["message"]


def test_an_interrupt_leaves_nothing_half_written(
    run: Run, inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plan_module, "write_plan_report", interrupted)
    monkeypatch.setattr(plan_module.Planner, "planned", lambda *a, **k: ready_plan())
    case, dose = inputs
    out = tmp_path / "out"
    options = [*PELVIS, "--prediction", dose, "--beams", "1", "--output", out]
    code = main(["plan", *map(str, [case, *options])])
    assert code == 130
    assert not (out / "thigh").exists() and not list(out.glob(".partial*"))


def ready_plan() -> Any:
    """A plan of one open beam, without the work."""
    from dataclasses import replace

    from plans import sound_beam

    from DosePredictionLib.planning.planner import DeliverablePlan

    dose = falling_dose(small_case().case.grid)
    beam = replace(sound_beam(), isocenter_mm=(0.0, 0.0, 0.0))
    return DeliverablePlan((beam,), dose, dose, dose)


def test_without_ompmc_nothing_is_planned_first(
    run: Run, inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monte_carlo.importlib.util, "find_spec", lambda name: None)
    case, dose = inputs
    options = [*PELVIS, "--prediction", dose, "--monte-carlo", "--output", tmp_path / "out"]
    code, result, _ = run("plan", case, *options)
    assert code == 2 and "pip install ompmc" in result["error"]["message"]
    assert not (tmp_path / "out").exists()


def test_without_the_planner_one_line_says_how_to_install_it(
    run: Run, inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyRadPlan", None)
    case, dose = inputs
    code, result, _ = run("plan", case, *PELVIS, "--prediction", dose, "--output", tmp_path / "out")
    message = result["error"]["message"]
    assert code == 2 and message.startswith("Plans need pyRadPlan")
    assert 'pip install "pyRadPlan==0.5.0"' in message
    assert issubclass(DosePredictionError, ValueError)
