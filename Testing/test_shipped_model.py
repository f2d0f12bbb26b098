"""The shipped model on the shipped patient, and the wheel that carries both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import OPENKBP_SAMPLE, PELVIS_SAMPLE, ROOT, SAMPLES

from benchmarks.precision import SHIPPED_CASES, Deviation, deviation
from DosePredictionLib.beams.arrangement import ARRANGEMENTS
from DosePredictionLib.cli import main
from DosePredictionLib.inference.predictor import default_model, predict
from DosePredictionLib.io import read_case
from DosePredictionLib.prediction import Prediction
from DosePredictionLib.wishes import Wish

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture(scope="module")
def in_float32() -> Callable[..., Prediction]:
    """A model's prediction of a case, by default the default model's, computed once."""
    return cache(lambda path, model=None: predict(read_case(path), model=model, precision="fp32"))


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped patient as `predict` writes it, in float32."""
    out = tmp_path_factory.mktemp("predicted")
    call = ["predict", str(OPENKBP_SAMPLE), "--output", str(out), "--precision", "fp32"]
    assert main(call) == 0
    return out / OPENKBP_SAMPLE.stem


def test_the_shipped_patient_scores_what_the_card_says(run: Run, predicted: Path) -> None:
    model = default_model(read_case(OPENKBP_SAMPLE))
    record = json.loads((predicted / "prediction.json").read_text())
    assert record["model"]["name"] == model.manifest.name
    dose = predicted / "dose.nii.gz"
    code, scores, _ = run("evaluate", "--case", OPENKBP_SAMPLE, "--prediction", dose)
    assert code == 0
    on_card = model.manifest.validation["per_case"]["pt_235"]
    for key in ("dose_score_gy", "dvh_score_gy"):
        assert scores[key] == pytest.approx(on_card[key], abs=0.02)
    in_record = record["evaluation"]["dose_score_gy"]
    assert in_record == pytest.approx(scores["dose_score_gy"], abs=1e-3)


def test_the_simulated_pelvis_is_predicted_without_naming_a_model(
    in_float32: Callable[..., Prediction],
) -> None:
    prediction = in_float32(SAMPLES / "simulated_pelvis")
    case = prediction.case
    assert prediction.model.manifest.name == "pelvis-simulated"
    assert case.plan_dose is not None
    body = case.structures["Body"].array > 0
    error = np.abs(prediction.dose.array - case.plan_dose.array)[body].mean()
    assert error == pytest.approx(1.54, abs=0.05)  # docs/images/pelvis_slices.png


def test_other_beams_give_another_dose_without_the_bands_of_the_models_own(
    run: Run, tmp_path: Path
) -> None:
    doses = {}
    for beams, has_bands in (("nine-field", True), ("0,90,180,270", False)):
        call = ["predict", OPENKBP_SAMPLE, "--model", "openkbp-beams", "--beams", beams]
        code, result, _ = run(*call, "--output", tmp_path / beams[:4])
        assert code == 0
        record = json.loads(Path(result["cases"][0]["prediction"]).read_text())
        assert (record["bands"] is not None) == has_bands
        found = {check["id"] for check in record["checks"]}
        assert ({"beams-unlike-model", "bands-missing"} <= found) != has_bands
        doses[beams] = result["cases"][0]["scores"]["dose_score_gy"]
    assert doses["nine-field"] < 3 < 5 < doses["0,90,180,270"]  # the plan has nine fields


def test_a_wish_spares_its_organ_and_leaves_the_target() -> None:
    case = read_case(SAMPLES / "simulated_pelvis")
    assert case.plan_dose is not None
    beams = ARRANGEMENTS["nine-field"]
    volumes, targets = [], []
    for wishes in ((), (Wish("Marrow", 20, 40),)):
        planned = replace(case, beams=beams, wishes=wishes)
        dose = predict(planned, model="pelvis-wishes", precision="fp32").dose.array
        volumes.append((dose[case.structures["Marrow"].majority()] >= 20).mean() * 100)
        targets.append(np.percentile(dose[case.structures["PTV"].majority()], 5))
        error = np.abs(dose - case.plan_dose.array)[case.structures["Body"].majority()].mean()
        assert error == pytest.approx(1.46, abs=0.05)
    assert volumes[1] < volumes[0] - 5
    assert targets == pytest.approx([targets[0]] * 2, abs=0.7)


@pytest.mark.parametrize(("path", "model"), SHIPPED_CASES, ids=["head-and-neck", "pelvis"])
def test_the_precision_that_is_chosen_by_itself_keeps_the_dose(
    path: Path, model: str, automatic_precision: str, in_float32: Callable[..., Prediction]
) -> None:
    prediction = predict(read_case(path), model=model)
    assert prediction.precision == automatic_precision
    found = deviation(prediction, in_float32(path, model))
    limit = Deviation(0.0, 0.0) if automatic_precision == "fp32" else Deviation(0.02, 0.05)
    assert abs(found.shift_gy) <= limit.shift_gy
    assert found.difference_gy <= limit.difference_gy


def test_a_real_pelvis_plan_finds_the_pelvis_model_and_its_limits() -> None:
    prediction = predict(read_case(PELVIS_SAMPLE), precision="fp32")
    assert prediction.model.manifest.name == "pelvis-simulated"
    assert "technique-unlike-model" in {finding.id for finding in prediction.findings}
    assert prediction.dose.array.max() < 1.15 * 46


def test_a_wheel_predicts_from_an_empty_folder(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    wheels, site, empty = tmp_path / "wheels", tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    pip = [sys.executable, "-m", "pip"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, cwd=empty)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run(
        [*pip, "install", "-q", "--no-deps", "--no-compile", "--target", str(site), str(wheel)],
        check=True,
        cwd=empty,
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = [sys.executable, "-c", "import DosePredictionLib as d; print(d.__file__)"]
    found = subprocess.run(where, cwd=empty, env=environment, check=True, capture_output=True)
    assert str(site) in found.stdout.decode()
    sample = site / "DosePredictionLib" / "Resources" / "SampleData" / "openkbp" / "pt_235.npz"
    command = [sys.executable, "-m", "DosePredictionLib", "predict", str(sample)]
    done = subprocess.run(
        [*command, "--output", "out", "--report", "--json"],
        cwd=empty,
        env=environment,
        check=True,
        capture_output=True,
    )
    (record,) = json.loads(done.stdout)["cases"]
    assert (empty / record["dose"]).is_file() and (empty / record["report"]).is_file()
    assert [path.name for path in empty.iterdir()] == ["out"]


def test_the_dose_is_zero_where_no_dose_may_be(predicted: Path) -> None:
    import nibabel

    case = read_case(OPENKBP_SAMPLE)
    dose = np.asarray(nibabel.load(predicted / "dose.nii.gz").dataobj).T
    assert case.dose_mask is not None
    assert not dose[~case.dose_mask.array].any()
