"""A case's record and a cohort's statistics, by hand and on the shipped samples."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.errors import CaseError, DosePredictionError
from DosePredictionLib.evaluation.cohort import (
    compare_models,
    structure_errors,
    summarize_cohort,
    write_csv,
    write_json,
)
from DosePredictionLib.evaluation.dvh import dvhs
from DosePredictionLib.evaluation.evaluate import (
    ENDPOINTS,
    EvaluationParts,
    evaluate,
    require_plausible_dose,
)
from DosePredictionLib.evaluation.goals import parse_goal
from DosePredictionLib.mask import Mask
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume

SAMPLES = Path(__file__).parents[2] / "Resources" / "SampleData"


@pytest.fixture
def record(scene):
    space = scene((16, 16, 16))
    reference = space.volume(50 - 0.5 * np.abs(space.z))
    prediction = reference.with_array(reference.array + 1.0)
    structures = {"PTV": space.ball(8.0), "Rectum": space.ball(5.0, (6, 0, 4))}
    everywhere = space.volume(np.ones((16, 16, 16), bool))
    case = Case("ball", everywhere, structures, reference, Prescription({"PTV": 50.0}))
    bound = replace(
        bind(case, StructureProtocol.load("pelvis")), known_external=Mask.of(everywhere)
    )
    goals = [parse_goal("PTV", "Dmean >= 40 Gy"), parse_goal("Bowel", "Dmax < 3 Gy")]
    return evaluate(bound, prediction, EvaluationParts(goals=goals)).as_json()


def test_a_record_holds_the_keys_of_the_contract(record):
    for key in ("mae_body_gy", "mae_above_5gy_gy", "dose_score_gy", "dvh_score_gy", "bias_body_gy"):
        assert record[key] == pytest.approx(1.0, abs=1e-6), key
    assert 0.9 < record["ssim"] < 1
    assert set(record["structures"]["PTV"]) >= {"volume_cc", "mae_gy", "endpoints"}
    assert set(record["structures"]["PTV"]["endpoints"]) == set(ENDPOINTS)
    mean = record["structures"]["Rectum"]["endpoints"]["Dmean_gy"]
    assert mean["prediction"] - mean["reference"] == pytest.approx(1.0, abs=1e-6)
    assert [goal["status"] for goal in record["goals"]] == ["met", "not_evaluable"]
    assert set(record["goals"][0]) >= {"structure", "goal", "status", "value", "margin"}
    json.dumps(record, allow_nan=False)


def test_the_cohort_pools_endpoints_of_unequal_patients():
    records = [
        {"case": "a", "dose_score_gy": 1.0, "dvh_score_gy": 1.0, "dvh_score_terms_gy": {"x": 1.0}},
        {
            "case": "b",
            "dose_score_gy": 3.0,
            "dvh_score_gy": 4.0,
            "dvh_score_terms_gy": {"x": 3.0, "y": 4.0, "z": 5.0},
            "gamma": {"3%/3mm": {"pass_rate_percent": 90.0}},
        },
    ]
    summary = summarize_cohort(records)
    assert summary["dvh_score_gy"]["mean"] == pytest.approx((1 + 3 + 4 + 5) / 4)
    assert summary["dvh_score_gy"]["per_patient_mean"] == pytest.approx(2.5)
    assert summary["dose_score_gy"]["mean"] == pytest.approx(2.0)
    assert summary["dose_score_gy"]["std"] == pytest.approx(np.sqrt(2))
    assert summary["dose_score_gy"]["ci95"] == [1.0, 3.0]
    assert summary["gamma 3%/3mm"]["mean"] == 90.0
    assert summary["gamma 3%/3mm"]["std"] is None
    assert "ssim" not in summary
    assert summarize_cohort([]) == {}


def test_errors_by_structure_are_absolute_and_over_those_who_have_it():
    def record(mean: float, d95: float | None) -> dict:
        pairs = {
            "Dmean_gy": {"prediction": mean, "reference": 20.0},
            "D95_gy": {"prediction": d95, "reference": 10.0},
        }
        return {"structures": {"Bladder": {"mae_gy": 3.0, "endpoints": pairs}}}

    errors = structure_errors([record(18.0, 11.0), record(23.0, None), {"structures": {}}])
    assert errors["Bladder"]["Dmean_gy"]["mean"] == pytest.approx(2.5)
    assert errors["Bladder"]["Dmean_gy"]["patients"] == 2
    assert errors["Bladder"]["D95_gy"]["mean"] == pytest.approx(1.0)
    assert errors["Bladder"]["mae_gy"]["mean"] == pytest.approx(3.0)
    assert "D2_gy" not in errors["Bladder"]


def test_two_models_are_compared_on_the_patients_they_share():
    first = [{"case": str(i), "ssim": 0.5 + 0.01 * i} for i in range(8)]
    second = [{"case": str(i), "ssim": 0.52 + 0.011 * i} for i in range(1, 9)]
    result = compare_models(first, second, "ssim")
    assert result["patients"] == 7
    assert result["mean_difference"] == pytest.approx(0.02 + 0.001 * 4)
    assert result["p_value"] == pytest.approx(2 / 2**7)  # all seven differ in one direction
    assert result["ci95"][0] <= result["mean_difference"] <= result["ci95"][1]
    assert compare_models(first[:3], first[:3], "ssim")["p_value"] is None
    with pytest.raises(DosePredictionError, match="share no case"):
        compare_models(first[:1], second[-1:], "ssim")
    with pytest.raises(DosePredictionError, match="twice"):
        compare_models(first[:1] * 2, second, "ssim")


def test_every_number_is_written_as_json_and_csv(record, tmp_path):
    record = {"case": "one", **record}
    write_csv(tmp_path / "all.csv", [record])
    rows = list(csv.DictReader((tmp_path / "all.csv").open(encoding="utf-8")))
    found = {(row["structure"], row["measure"]): row for row in rows}
    assert float(found["", "dose_score_gy"]["difference"]) == pytest.approx(1.0)
    assert float(found["PTV", "D95_gy"]["difference"]) == pytest.approx(1.0, abs=1e-6)
    assert found["PTV", "V20Gy_percent"]["unit"] == "percent"
    unknown = found["Bowel", "goal Dmax < 3 Gy"]
    assert unknown["prediction"] == "" and unknown["status"] == "not_evaluable"
    assert "nan" not in (tmp_path / "all.csv").read_text().lower()
    write_json(tmp_path / "all.json", record)
    assert json.loads((tmp_path / "all.json").read_text())["case"] == "one"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "bad.json", {"value": float("nan")})
    written = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert written == ["all.csv", "all.json"]


@pytest.mark.parametrize(
    ("dose", "message"),
    [(np.nan, "NaN"), (-1.0, "negative doses, down to -1.00 Gy"), (0.0, "zero everywhere")],
)
def test_an_implausible_dose_is_refused(dose, message):
    volume = Volume(np.full((2, 2, 2), dose), Grid((2, 2, 2)))
    with pytest.raises(CaseError, match=message):
        require_plausible_dose(volume, "dose.nii.gz")


def test_the_eclipse_plan_has_its_published_means():
    folder = SAMPLES / "eclipse_rando_prostate"
    from DosePredictionLib.io import read_case

    case = read_case(folder)
    curves = dvhs(case.plan_dose, case.structures)
    published = {"PTV": 45.88, "Rectum": 39.11, "Bladder": 45.91}
    for name, mean_gy in published.items():
        assert curves[name].mean_gy == pytest.approx(mean_gy, abs=0.2), name
