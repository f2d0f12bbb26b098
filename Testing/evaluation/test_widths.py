"""Bands by the expected error: scaled residuals, what they hold, and when they are not used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from calibrations import calibrate
from support import pelvis_case

from DosePredictionLib.app.calibrate import fitting
from DosePredictionLib.errors import ModelError
from DosePredictionLib.evaluation.calibration import (
    CohortErrors,
    StructureCalibration,
    calibrated_structures,
    read_calibration,
)
from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.evaluation.goal_probability import goal_probability
from DosePredictionLib.evaluation.widths import VOLUMES_PERCENT, StructureWidths, error_widths
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.schema import from_json, to_json
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Volume

COUNT = len(VOLUMES_PERCENT)


def widths(gy: float, percent: float = 0.0) -> StructureWidths:
    return StructureWidths({"Dmean_gy": gy, "V40Gy_percent": percent}, (gy,) * COUNT)


def cohort(patients: int, informed: bool) -> CohortErrors:
    """Patients whose errors are as large as their widths say, or not at all so."""
    random = np.random.default_rng(3)
    size = 10 ** random.uniform(-1.0, 1.0, patients)
    errors = (size if informed else 2.0) * random.normal(size=patients)
    known = tuple(widths(float(each)) for each in size)
    places, predicted = np.arange(patients), np.full(patients, 20.0)
    curves = np.repeat(errors[:, None], COUNT, axis=1)
    return CohortErrors(places, curves, {"Dmean_gy": (places, errors, predicted)}, known)


def test_widths_are_what_the_expected_error_does_to_endpoints():
    case = pelvis_case((30, 24, 20), (12.0, 12.0, 12.0))
    bound = bind(case, StructureProtocol.load("pelvis"))
    dose = case.plan_dose
    assert dose is not None
    error = Volume(np.full(dose.array.shape, 1.5, np.float32), dose.grid)
    found = error_widths(bound, dose, error, {"PTV": 45.0}, {"PTV": ["Dmean_gy", "V44Gy_percent"]})
    assert found["PTV"].endpoints["Dmean_gy"] == pytest.approx(1.5, abs=1e-3)
    np.testing.assert_allclose(found["PTV"].curve_gy, 1.5, atol=0.05)
    target = case.structures["PTV"]
    high, low = (
        dvh(
            Volume(dose.array + sign * 1.5, dose.grid).with_array(
                np.maximum(dose.array + sign * 1.5, 0)
            ),
            target,
        ).volume_at_gy(44)
        for sign in (1, -1)
    )
    assert found["PTV"].endpoints["V44Gy_percent"] == pytest.approx((high - low) / 2, abs=1e-3)


def test_residuals_are_scaled_to_the_case_by_hand():
    residuals = tuple(float(each) for each in range(-9, 10))
    own = tuple(0.5 + 0.1 * rank for rank in range(19))
    ratios = tuple(0.1 * rank for rank in range(19))
    known = StructureCalibration(
        {"Dmean_gy": residuals, "D95_gy": residuals},
        (2.0,) * COUNT,
        ratios,
        {"Dmean_gy": (20.0,) * 19},
        {"Dmean_gy": own},
        ratios,
    )
    adapted = known.for_case(widths(3.0))
    expected = [r * 3.5 / (w + 0.5) for r, w in zip(residuals, own, strict=True)]
    assert adapted.endpoints["Dmean_gy"] == pytest.approx(expected)
    assert adapted.endpoints["D95_gy"] == residuals  # whose width nobody knows
    assert adapted.curve_scale_gy == (3.5,) * COUNT
    assert adapted.plain is known and known.for_case(None) is known
    assert replace(known, widths={}).for_case(widths(3.0)).endpoints == known.endpoints
    endpoint = {"key": "Dmean_gy", "limit": 20.5, "factor": 1.0}
    goal = {"endpoint": endpoint, "value": 20.0, "comparison": "<="}
    found = goal_probability(goal, adapted)
    assert found is not None
    assert found["percent"] == pytest.approx(100 * 10.5 / 20, abs=0.1)
    assert found["nearest"] == {"met": 10, "of": 10}  # by plans as they were: −9 … 0 Gy beside 20


def test_bands_by_informed_widths_are_narrower_and_hold_as_much():
    errors, coverage = fitting({"Rectum": cohort(120, informed=True)}, 120)
    for each in coverage:
        assert each.interval_score_gy < 0.9 * each.constant_score_gy
        low, high = each.range_percent
        assert low <= each.endpoints_percent <= high
        assert low <= each.curves_percent <= high
    (known, few) = calibrated_structures(errors)
    assert not few and len(known["Rectum"].widths["Dmean_gy"]) == 120
    narrow, wide = (known["Rectum"].for_case(widths(gy)) for gy in (0.5, 5.0))
    ends = [np.diff(each.endpoint("Dmean_gy", 20.0, 90), axis=0)[0] for each in (narrow, wide)]
    assert ends[1] == pytest.approx(5.5 * ends[0], rel=0.01)
    copy = from_json(StructureCalibration, to_json(known["Rectum"]))
    assert copy == known["Rectum"]


def test_widths_that_say_nothing_are_left_out():
    errors, coverage = fitting({"Rectum": cohort(60, informed=False)}, 60)
    assert all(each.interval_score_gy > each.constant_score_gy for each in coverage)
    known, _ = calibrated_structures(errors)
    assert not known["Rectum"].widths and not known["Rectum"].curve_ratios


def test_a_calibration_without_widths_is_read_as_before(tmp_path: Path, pelvis_model: DoseModel):
    model = DoseModel.create(
        tmp_path / "model", pelvis_model.manifest, pelvis_model.network().state_dict()
    )
    path = calibrate(model, "Rectum")
    content = json.loads(path.read_text())
    for each in content["structures"].values():
        del each["widths"], each["curve_ratios"]
    path.write_text(json.dumps({**content, "schema_minor": 1}))
    known = read_calibration(path)
    assert known.for_case({"Rectum": widths(3.0)}) == known.structures
    content["structures"]["Rectum"]["widths"] = {"Dmean_gy": [1.0] * 5}
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="widths"):
        read_calibration(path)
