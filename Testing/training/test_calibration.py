"""Calibration by the command, its bands in every result, and what is refused.

Predictions are plans times a factor, so that every dose's error is known: plan · (1 − factor).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import pelvis_case, prediction_of, write_case_folder

from DosePredictionLib.app.evaluate import EvaluateRequest, EvaluationSettings, evaluate_case_files
from DosePredictionLib.app.models import show_model, verify_model
from DosePredictionLib.app.outputs import OutputRequest, write_outputs
from DosePredictionLib.app.summary import prediction_summary
from DosePredictionLib.case import Case
from DosePredictionLib.errors import ModelError
from DosePredictionLib.evaluation.calibration import Calibration, read_calibration
from DosePredictionLib.evaluation.coverage import cohort_coverage
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.models.manifest import ModelFolder, read_model_folder
from training.__main__ import main

FACTORS = {f"p{index:02}": 1 + 0.01 * (index - 9) for index in range(20)}
"""Of the calibration patients: 0.91, 0.92 … 1.10, so the plan is 9 % higher … 10 % lower."""

KEPT = ("PTV", "Rectum", "Bladder", "Body")


def tiny_case(name: str) -> Case:
    whole = pelvis_case((30, 24, 20), (12.0, 12.0, 12.0))
    return replace(whole, name=name, structures={key: whole.structures[key] for key in KEPT})


def write_cohort(folder: Path, model: ModelFolder, factors: Mapping[str, float]) -> list[str]:
    """Patients and their predictions; returns the arguments that name them."""
    for name, factor in factors.items():
        case = tiny_case(name)
        write_case_folder(folder / "cases" / name, case)
        predicted = prediction_of(case, model, factor)
        write_outputs(predicted, OutputRequest(folder / "doses", goals=None), 0.0, 0.0)
    return ["--cases", str(folder / "cases"), "--predictions", str(folder / "doses")]


def changed(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture(scope="module")
def calibrated(
    tmp_path_factory: pytest.TempPathFactory, pelvis_model: DoseModel
) -> tuple[Path, list[str]]:
    """A model's folder with its calibration, and the arguments that name its cohort."""
    folder = tmp_path_factory.mktemp("calibrated")
    shutil.copytree(pelvis_model.folder, folder / "model")
    cohort = write_cohort(folder, read_model_folder(folder / "model"), FACTORS)
    call = ["calibrate", "--model", str(folder / "model"), *cohort, "--workers", "1"]
    assert main([*call, "--description", "tiny phantoms"]) == 0
    return folder / "model", cohort


@pytest.fixture
def model(calibrated: tuple[Path, list[str]], tmp_path: Path) -> ModelFolder:
    """A copy of the model with its calibration."""
    shutil.copytree(calibrated[0], tmp_path / "model")
    return read_model_folder(tmp_path / "model")


@pytest.fixture
def calibration(model: ModelFolder) -> Calibration:
    return read_calibration(model.folder / "calibration.json")


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line by which `python -m training calibrate` refuses."""
    capsys.readouterr()
    assert main(["calibrate", *map(str, arguments), "--workers", "1"]) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "warning" not in each]
    return line


# ---------------------------------------------------------------- the file


def test_residuals_are_plan_minus_prediction(
    calibration: Calibration, pelvis_model: DoseModel
) -> None:
    assert calibration.patients == tuple(FACTORS) and calibration.cohort == "tiny phantoms"
    assert calibration.prescription_gy == {"PTV": 45.0} and calibration.protocol == "pelvis"
    assert calibration.weights_sha256 == (pelvis_model.manifest.weights_sha256,)
    assert set(calibration.structures) == {"PTV", "Rectum", "Bladder"}  # no band of the body
    expected = sorted(1 - factor for factor in FACTORS.values())
    for key in ("Dmean_gy", "D95_gy", "D2_gy", "D0.1cc_gy"):
        residuals = np.array(calibration.structures["PTV"].endpoints[key])
        plan_gy = residuals[-1] / expected[-1]
        assert plan_gy > 10
        assert residuals == pytest.approx(plan_gy * np.array(expected), abs=2e-3)


def test_coverage_is_measured_in_halves_and_said(
    calibrated: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten calibrate, ten are tested: symmetric intervals of rank 10 of 11, 90.9 % on average."""
    folder, cohort = calibrated
    output = tmp_path / "own.json"
    call = ["calibrate", "--model", str(folder), *cohort, "--output", str(output)]
    assert main([*call, "--json", "--workers", "1"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["patients"] == 20 and printed["structures"]["Rectum"] == 20
    measured = printed["coverage"]["90"]
    assert measured["endpoints_percent"] == pytest.approx(100 * 10 / 11, abs=3)
    assert measured["curves_percent"] == pytest.approx(100 * 10 / 11, abs=5)
    assert measured["range_percent"] == [70.0, 100.0]
    assert (
        read_calibration(output).structures
        == read_calibration(folder / "calibration.json").structures
    )


# ---------------------------------------------------------------- its bands


def test_a_prediction_has_the_bands_of_its_models_calibration(
    model: ModelFolder, tmp_path: Path
) -> None:
    """20 patients: the 90 % interval ends at the residuals of ranks 1 and 20, the ends."""
    prediction = prediction_of(tiny_case("new"), model, 1.02)
    done = write_outputs(prediction, OutputRequest(tmp_path, report=True), 0.0, 0.0)
    text = (done.folder / "prediction.json").read_text()
    record = json.loads(text)
    band, values = record["bands"]["structures"]["PTV"], record["structures"]["PTV"]["endpoints"]
    predicted, plan = values["D95_gy"], values["D95_gy"] / 1.02
    assert band["endpoints"]["D95_gy"]["90"] == {
        "low": pytest.approx(predicted - 0.10 * plan, abs=0.01),
        "high": pytest.approx(predicted + 0.09 * plan, abs=0.01),
    }
    inner, outer = (band["endpoints"]["D95_gy"][level] for level in ("50", "90"))
    assert outer["low"] < inner["low"] < inner["high"] < outer["high"]
    assert all(
        0 <= ends["low"] <= ends["high"] <= 100
        for key, levels in band["endpoints"].items()
        if key.endswith("percent")
        for ends in levels.values()
    )
    curve = band["curve"]
    assert curve["volume_percent"] == list(range(1, 100))
    for level in ("50", "90"):
        low, high = (np.array(curve[level][end]) for end in ("low_gy", "high_gy"))
        assert low.size == 99 and (np.diff(low) <= 0).all() and (np.diff(high) <= 0).all()
        assert (low <= high).all()
    assert record["bands"]["calibration"]["patients"] == 20
    assert '"volume_percent": [1, 2, 3,'.replace(" ", "") in text.replace(" ", "")
    page = (done.folder / "report.html").read_text()
    assert "from 20 calibration patients (tiny phantoms)" in page and "90 % band" in page
    assert page.count("fill-opacity: 0.14") == 3
    assert "from 20 calibration patients" in done.text()


def test_without_a_calibration_nothing_changes(pelvis_model: DoseModel, tmp_path: Path) -> None:
    prediction = prediction_of(tiny_case("new"), pelvis_model)
    done = write_outputs(prediction, OutputRequest(tmp_path, report=True), 0.0, 0.0)
    page = (done.folder / "report.html").read_text()
    assert done.summary["bands"] is None and done.summary["checks"] == []
    assert "90 % band" not in page and "fill-opacity: 0.14" not in page


def test_a_calibration_of_other_weights_leaves_the_dose_without_bands(
    model: ModelFolder, tmp_path: Path
) -> None:
    path = model.folder / "calibration.json"
    changed(path, weights_sha256=["0" * 64])
    prediction = prediction_of(tiny_case("new"), model)
    done = write_outputs(prediction, OutputRequest(tmp_path, report=True), 0.0, 0.0)
    assert done.summary["bands"] is None and (done.folder / "dose.nii.gz").is_file()
    (check,) = done.summary["checks"]
    assert check["id"] == "bands-missing" and "weights 000000000000…" in check["message"]
    assert "bands-missing" not in (done.folder / "report.html").read_text()
    assert "weights 000000000000…" in (done.folder / "report.html").read_text()
    assert "weights 000000000000…" in done.text()
    with pytest.raises(ModelError, match="weights 000000000000…"):
        prediction_summary(prediction, calibration=path)
    with pytest.raises(ModelError, match="weights 000000000000…"):
        verify_model(str(model.folder))


def test_another_prescription_than_the_calibrations_has_no_bands(model: ModelFolder) -> None:
    case = tiny_case("new")
    assert case.prescription is not None
    other = replace(case, prescription=replace(case.prescription, target_gy={"PTV": 50.4}))
    summary = prediction_summary(prediction_of(other, model))
    assert summary["bands"] is None
    assert (
        "PTV is prescribed 50.4 Gy, the calibration is of PTV 45 Gy"
        in summary["checks"][0]["message"]
    )


def test_a_calibration_of_another_grid_leaves_the_dose_without_bands(
    calibrated: tuple[Path, list[str]], model: ModelFolder
) -> None:
    """The weights are the same, the model's grid is not: its errors are others."""
    manifest = json.loads((model.folder / "model.json").read_text())
    manifest["encoding"]["grid"]["spacing_mm"] = [4.0, 4.0, 4.0]
    changed(model.folder / "model.json", encoding=manifest["encoding"])
    other = read_model_folder(model.folder)
    summary = prediction_summary(prediction_of(tiny_case("new"), other))
    assert summary["bands"] is None
    message = summary["checks"][0]["message"]
    assert re.search(
        r"made on the grid as-is, .*; the model random-pelvis works on as-is,", message
    )
    assert "\n" not in message
    with pytest.raises(ModelError, match=r"works on as-is, .* 4 × 4 × 4"):
        prediction_summary(
            prediction_of(tiny_case("new"), other), calibration=model.folder / "calibration.json"
        )
    changed(model.folder / "calibration.json", grid="")  # of an earlier version: not known
    assert prediction_summary(prediction_of(tiny_case("new"), other))["bands"] is not None


def test_the_models_card_says_whom_it_is_calibrated_on(model: ModelFolder) -> None:
    assert show_model(str(model.folder))["calibration"]["patients"] == 20
    assert verify_model(str(model.folder))["verified"]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"schema_version": 2}, "schema version 2; .* reads up to 1"),
        ({"patients": ["a", "b"]}, "patients must be a list, of length 9"),
        ({"surprise": 1}, "surprise"),
        ({"structures": {}}, "structures"),
    ],
)
def test_a_damaged_calibration_is_refused_by_its_field(
    model: ModelFolder, changes: dict[str, Any], names: str
) -> None:
    path = model.folder / "calibration.json"
    changed(path, **changes)
    with pytest.raises(ModelError, match=rf"calibration\.json.*{names}"):
        read_calibration(path)
    path.write_text("[]")
    with pytest.raises(ModelError, match=r"calibration\.json is no calibration"):
        read_calibration(path)


def test_what_a_newer_minor_version_adds_is_left_out(model: ModelFolder) -> None:
    path = model.folder / "calibration.json"
    before = read_calibration(path)
    changed(path, schema_minor=3, surprise=1)
    assert replace(read_calibration(path), schema_minor=2) == before


# ---------------------------------------------------------------- what is refused


def test_patients_whom_the_model_has_seen_are_refused(
    model: ModelFolder, calibrated: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = model.folder / "model.json"
    training = json.loads(manifest.read_text())["training"] | {"patients": ["p03", "p04", "x"]}
    changed(manifest, training=training)
    line = refused(capsys, "--model", model.folder, *calibrated[1])
    assert "2 patients shaped the weights of random-pelvis (p03, p04)" in line


def test_too_few_patients_are_refused(
    model: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = write_cohort(tmp_path, model, {"a": 1.0, "b": 1.1})
    line = refused(capsys, "--model", model.folder, *cohort)
    assert "2 cases have a dose in" in line and "take 9 patients or more" in line


@pytest.mark.parametrize(
    ("record", "names"),
    [
        ({"model": {"name": "m", "protocol": "pelvis", "weights_sha256": "1" * 64}}, "1111…"),
        ({"prescription": {"target_gy": {"PTV": 60.0}}}, "one prescription at a time"),
        ({"model": {"name": "m"}}, r"prediction\.json\.model lacks"),
        ({"checks": [{"id": "beams-unlike-model"}]}, "1 of the plans have other beams"),
        ({"checks": [{"id": "technique-unlike-model"}]}, "1 of the plans have other beams"),
    ],
)
def test_a_dose_of_another_model_or_prescription_is_refused(
    model: ModelFolder,
    calibrated: tuple[Path, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    record: dict[str, Any],
    names: str,
) -> None:
    cases, doses = calibrated[1][1], tmp_path / "doses"
    shutil.copytree(calibrated[1][3], doses)
    changed(doses / "p05" / "prediction.json", **record)
    line = refused(capsys, "--model", model.folder, "--cases", cases, "--predictions", doses)
    assert re.search(names, line)
    (doses / "p05" / "prediction.json").unlink()
    line = refused(capsys, "--model", model.folder, "--cases", cases, "--predictions", doses)
    assert "prediction.json cannot be read" in line


# ---------------------------------------------------------------- evaluate --calibration


def test_evaluate_measures_the_bands_on_other_patients(
    run: Callable[..., Any], model: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of four, one lies above every calibration patient: three quarters of dose endpoints hold."""
    write_cohort(tmp_path, model, {"a": 1.0, "b": 1.05, "c": 0.95, "d": 0.8})
    path = model.folder / "calibration.json"
    call = ["evaluate", "--cohort", tmp_path / "cases", "--predictions", tmp_path / "doses"]
    call += ["--calibration", path, "--workers", "1"]
    code, result, _ = run(*call)
    assert code == 0 and result["bands"]["patients"] == 4
    level = result["bands"]["levels"]["90"]
    assert level["curves_percent"] == 75.0 and level["range_percent"] == [50.0, 100.0]
    mean = evaluate_case_files(
        EvaluateRequest(
            tmp_path / "cases" / "a",
            tmp_path / "doses" / "a" / "dose.nii.gz",
            settings=EvaluationSettings(goals=None, curves=True),
        )
    )
    only = {"a": mean.as_json() | {"case": "a", "curves": mean.curves()}}
    one = cohort_coverage(read_calibration(path), list(only.values()))["levels"]["90"]
    assert one["endpoints_percent"] == one["curves_percent"] == 100.0
    widths = [
        np.diff(read_calibration(path).structures[name].endpoint(key, pair["prediction"], 90))[0]
        for name, values in only["a"]["structures"].items()
        for key, pair in values["endpoints"].items()
        if key.endswith("_gy") and name != "Body"
    ]
    assert one["interval_score_gy"] == pytest.approx(np.mean(widths))
    assert level["interval_score_gy"] > one["interval_score_gy"]


def test_evaluate_refuses_a_calibration_of_other_weights_and_its_own_patients(
    run: Callable[..., Any], model: ModelFolder, calibrated: tuple[Path, list[str]]
) -> None:
    path = model.folder / "calibration.json"
    call = ["evaluate", "--cohort", calibrated[1][1], "--predictions", calibrated[1][3]]
    call += ["--calibration", path, "--workers", "1"]
    code, result, _ = run(*call)
    assert code == 2 and "20 patients are those of the calibration" in result["error"]["message"]
    changed(path, weights_sha256=["0" * 64])
    code, result, _ = run(*call)
    assert code == 2 and "000000000000…" in result["error"]["message"]
    changed(path, weights_sha256=[*read_model_folder(calibrated[0]).manifest.checksums])
    changed(path, patients=[f"other {n}" for n in range(9)], prescription_gy={"PTV": 60.0})
    code, result, _ = run(*call)
    message = result["error"]["message"]
    assert code == 2 and "PTV is prescribed 45 Gy, the calibration is of PTV 60 Gy" in message


def test_a_plan_a_little_below_0_gy_lies_in_a_band_that_ends_there(
    calibration: Calibration,
) -> None:
    curve = {"prediction_gy": [0.0] * 99, "reference_gy": [-0.01] * 99}
    pair = {"prediction": 0.0, "reference": -0.01}
    record = {
        "case": "other",
        "structures": {"Rectum": {"endpoints": {"Dmin_gy": pair}}},
        "curves": {"Rectum": curve},
    }
    level = cohort_coverage(calibration, [record])["levels"]["90"]
    assert level["curves_percent"] == level["endpoints_percent"] == 100.0


# ---------------------------------------------------------------- goals and plan review


def test_goals_have_probabilities_from_the_plans_of_the_calibration(
    model: ModelFolder, calibration: Calibration, tmp_path: Path
) -> None:
    """The shipped goals' endpoints are calibrated, too, and say with which predictions."""
    known = calibration.structures["Rectum"]
    assert "V45Gy_percent" not in known.endpoints or known.predictions["V45Gy_percent"]
    assert set(known.predictions) == set(known.endpoints)
    done = write_outputs(prediction_of(tiny_case("new"), model), OutputRequest(tmp_path), 0.0, 0.0)
    goals = done.summary["goals"]
    assert goals and all(
        (goal["probability"] is None) != (goal["probability_missing"] is None) for goal in goals
    )
    (rectum,) = [g for g in goals if g["structure"] == "Rectum"][:1]
    found = rectum["probability"]
    assert found["patients"] == 20 and found["nearest"]["of"] == 10
    assert found["low_percent"] <= found["percent"] <= found["high_percent"]


@pytest.mark.parametrize(
    ("factor", "organ", "target"),
    [(0.7, "likely_to_gain", "better"), (1.5, "better", "likely_to_gain")],
)
def test_a_plan_far_from_its_prediction_is_reviewed(
    model: ModelFolder, tmp_path: Path, factor: float, organ: str, target: str
) -> None:
    """Calibration plans lie at most 10 % off; this one lies above, or far below, every one."""
    prediction = prediction_of(tiny_case("new"), model, factor)
    done = write_outputs(prediction, OutputRequest(tmp_path, report=True), 0.0, 0.0)
    review = done.summary["review"]
    rows = {(row["structure"], row["endpoint"]): row for row in review["rows"]}
    assert rows["Bladder", "Dmean_gy"]["verdict"] == organ
    assert rows["PTV", "D95_gy"]["verdict"] == target
    side = 1 if factor < 1 else -1
    mean = rows["Bladder", "Dmean_gy"]
    end = mean["high"] if side > 0 else mean["low"]
    assert mean["outside"] == pytest.approx(mean["plan"] - end, abs=2e-3)
    assert np.sign(mean["outside"]) == side
    assert review["outside"] <= review["reviewed"] and review["curves_outside"] == 3
    gains = [row["verdict"] == "likely_to_gain" for row in review["rows"]]
    assert gains == sorted(gains, reverse=True) and any(gains)
    page = (done.folder / "report.html").read_text()
    assert "Plan review" in page and "likely to gain" in page
    assert "likely to gain" in done.text()


def test_a_plan_inside_its_bands_is_not_listed(model: ModelFolder, tmp_path: Path) -> None:
    prediction = prediction_of(tiny_case("new"), model, 1.0)
    done = write_outputs(prediction, OutputRequest(tmp_path, report=True), 0.0, 0.0)
    assert done.summary["review"]["rows"] == [] and done.summary["review"]["outside"] == 0
    assert "lies in its band" in (done.folder / "report.html").read_text()
    alone = replace(tiny_case("alone"), plan_dose=None)
    without = replace(prediction, case=alone)
    assert prediction_summary(without)["review"] is None


def test_evaluate_reviews_one_plan(
    run: Callable[..., Any], model: ModelFolder, tmp_path: Path
) -> None:
    write_cohort(tmp_path, model, {"a": 0.7})
    path, dose = model.folder / "calibration.json", tmp_path / "doses" / "a"
    call = ["evaluate", "--case", tmp_path / "cases" / "a", "--prediction", dose / "dose.nii.gz"]
    report = tmp_path / "report.html"
    code, result, _ = run(*call, "--calibration", path, "--report", report)
    assert code == 0 and result["review"]["rows"][0]["verdict"] == "likely_to_gain"
    assert result["bands"]["structures"] and "probability" in result["goals"][0]
    assert "Plan review" in report.read_text()
    changed(dose / "prediction.json", checks=[{"id": "technique-unlike-model"}])
    code, result, _ = run(*call, "--calibration", path)
    assert code == 2 and "as those that the model learned from" in result["error"]["message"]
    changed(path, weights_sha256=["0" * 64])
    assert run(*call, "--calibration", path)[0] == 2
    (dose / "prediction.json").unlink()
    code, result, _ = run(*call, "--calibration", path)
    assert code == 2 and "prediction.json" in result["error"]["message"]
