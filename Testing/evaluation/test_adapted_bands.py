"""Bands by the expected error in files: of new cases, of a cohort, and back into a calibration."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from calibrations import calibrate
from support import pelvis_case, prediction_of, write_case_folder

from DosePredictionLib.app.outputs import OutputRequest, PredictedCase, write_outputs
from DosePredictionLib.cli import main
from DosePredictionLib.evaluation.calibration import cohort_errors
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.models.manifest import ModelFolder, read_model_folder
from DosePredictionLib.prediction import Output


def predicted(
    folder: Path, model: ModelFolder, name: str, factor: float, expected: float | None
) -> PredictedCase:
    """A plan times a factor, and its expected error as a share of the plan."""
    case = replace(pelvis_case((30, 24, 20), (12.0, 12.0, 12.0)), name=name)
    write_case_folder(folder / "cases" / name, case)
    prediction = prediction_of(case, model, factor)
    if expected is not None:
        assert case.plan_dose is not None
        off = case.plan_dose.with_array(case.plan_dose.array * np.float32(expected))
        error = Output("expected_error", off, "expected error", "Gy")
        prediction = replace(prediction, outputs=(*prediction.outputs, error))
    return write_outputs(prediction, OutputRequest(folder / "doses", goals=None), 0.0, 0.0)


def target(done: PredictedCase) -> tuple[float, float]:
    """Widths of the 90 % bands of the target's mean dose and of its D50 %, Gy."""
    bands = done.summary["bands"]["structures"]["PTV"]
    ends, curve = bands["endpoints"]["Dmean_gy"]["90"], bands["curve"]["90"]
    return ends["high"] - ends["low"], curve["high_gy"][49] - curve["low_gy"][49]


@pytest.fixture
def model(tmp_path: Path, pelvis_model: DoseModel) -> ModelFolder:
    """With a calibration of made-up residuals, whose patients had widths of 1 Gy."""
    shutil.copytree(pelvis_model.folder, tmp_path / "model")
    found = read_model_folder(tmp_path / "model")
    path = calibrate(found, "PTV")
    content = json.loads(path.read_text())
    of_target = content["structures"]["PTV"]
    of_target["widths"] = {"Dmean_gy": [1.0] * len(of_target["endpoints"]["Dmean_gy"])}
    of_target["curve_ratios"] = of_target["curve_scores"]
    path.write_text(json.dumps(content))
    return found


def test_bands_are_as_wide_as_the_case_lets_expect(
    model: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, near, far = (
        predicted(tmp_path, model, name, 1.3, expected)
        for name, expected in (("plain", None), ("near", 0.001), ("far", 0.6))
    )
    assert near.summary["bands"]["calibration"]["adapted"]
    width = far.summary["widths"]["PTV"]
    mean_gy = width["endpoints"]["Dmean_gy"]
    assert mean_gy > 5
    # Residuals from −0.9 to 0.9 Gy of patients with 1 Gy: (width + 0.5) / 1.5 of it.
    assert target(plain) == pytest.approx((1.8, 2 * 0.9 * 2.0), abs=0.02)
    assert target(far)[0] == pytest.approx(1.8 * (mean_gy + 0.5) / 1.5, abs=0.02)
    assert target(far)[1] == pytest.approx(2 * 0.9 * (width["curve_gy"][49] + 0.5), abs=0.02)
    assert target(near)[0] < target(plain)[0] and target(near)[1] < target(plain)[1]

    call = ["evaluate", "--cohort", str(tmp_path / "cases"), "--predictions"]
    call += [str(tmp_path / "doses"), "--calibration", str(model.folder / "calibration.json")]
    capsys.readouterr()
    assert main([*call, "--goals", "none", "--workers", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    # All three doses are 30 % too high, and one of them was expected to be.
    assert result["bands"]["levels"]["90"]["curves_percent"] == pytest.approx(100 / 3)
    records = {record["case"]: record for record in result["cases"]}
    assert "widths" not in records["plain"]
    assert cohort_errors([records["near"], records["plain"]])["PTV"].widths == ()
    errors = cohort_errors([records["near"], records["far"]])["PTV"]
    (_, widths) = errors.endpoint_widths("Dmean_gy")
    assert widths == pytest.approx(mean_gy)
    assert errors.curve_ratios[1] < 1 < errors.curve_ratios[0]
