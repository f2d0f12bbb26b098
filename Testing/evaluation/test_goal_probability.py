"""Probabilities of goals: counted by hand, their interval, what is not calibrated, reliability."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.evaluation.calibration import StructureCalibration
from DosePredictionLib.evaluation.goal_probability import (
    goal_probability,
    probability_words,
    with_probabilities,
)
from DosePredictionLib.evaluation.goals import parse_goal
from DosePredictionLib.evaluation.logistic import cross_fitted
from DosePredictionLib.evaluation.reliability import (
    describe_reliability,
    goal_reliability,
)


def calibration(
    residuals: list[float], predictions: list[float] | None = None, key: str = "V40Gy_percent"
) -> StructureCalibration:
    return StructureCalibration(
        {key: tuple(residuals)},
        (1.0,) * 99,
        (1.0,) * len(residuals),
        {} if predictions is None else {key: tuple(predictions)},
    )


def goal(text: str, value: float | None, plan: float | None = None) -> dict[str, Any]:
    made = parse_goal("Rectum", text)
    key = made.metric.endpoint
    record = {
        "bound_to": "Rectum",
        "goal": text,
        "value": value,
        "margin": None if value is None else made.judge(value)[1],
        "comparison": made.comparison,
        "limit": made.limit,
        "endpoint": key and {"key": key, "limit": made.limit, "factor": 1.0},
    }
    if plan is not None:
        record["reference"] = {"value": plan, "status": made.judge(plan)[0], "margin": 0.0}
    return record


TEN = [-9.0, -7, -5, -3, -1, 1, 3, 5, 7, 9]


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("V40Gy <= 35 %", 35.0, 5),
        ("V40Gy <= 35 %", 34.0, 6),  # a plan at 35 % itself meets it
        ("V40Gy < 35 %", 34.0, 5),
        ("V40Gy >= 35 %", 36.0, 6),
        ("V40Gy > 35 %", 36.0, 5),
        ("V40Gy <= 35 %", 20.0, 10),
        ("V40Gy <= 35 %", 90.0, 0),
        ("V40Gy <= 0 %", 1.0, 5),  # no plan lies below 0
    ],
)
def test_the_probability_is_the_share_of_residuals_that_meet_the_goal(
    text: str, value: float, met: int
) -> None:
    found = goal_probability(goal(text, value), calibration(TEN))
    assert found is not None
    assert found["percent"] == pytest.approx(100 * (met + 0.5) / 11, abs=0.05)
    assert found["patients"] == 10 and found["nearest"] is None
    assert found["low_percent"] <= found["percent"] <= found["high_percent"]
    assert (found["low_percent"] == 0) == (met == 0)
    assert (found["high_percent"] == 100) == (met == 10)


def test_the_interval_is_jeffreys() -> None:
    """7 of 20 at 90 %: Beta(7.5, 13.5), whose 5 and 95 % points Brown et al. tabulate likewise."""
    residuals = [-1.0] * 7 + [1.0] * 13
    found = goal_probability(goal("V40Gy <= 35 %", 35.0), calibration(residuals))
    assert found is not None
    drawn = np.random.default_rng(0).beta(7.5, 13.5, 400_000)
    low, high = np.percentile(drawn, (5, 95))
    assert found["low_percent"] == pytest.approx(100 * low, abs=0.3)
    assert found["high_percent"] == pytest.approx(100 * high, abs=0.3)


def test_such_plans_are_those_of_the_nearest_predictions() -> None:
    predictions = [float(v) for v in range(20)]
    residuals = [-10.0] * 12 + [10.0] * 8
    known = calibration(residuals, predictions)
    found = goal_probability(goal("V40Gy <= 10 %", 14.6), known)
    assert found is not None  # 10 … 19; plans of 10 and 11 are 0 and 1 %, the others above 20 %
    assert found["nearest"] == {"met": 2, "of": 10}
    assert probability_words({"probability": found}).endswith("met by 2 of 10 such plans")


def test_words_never_call_a_chance_none_or_certain() -> None:
    found = {"percent": 99.6, "low_percent": 0.4, "high_percent": 100.0, "nearest": None}
    assert probability_words({"probability": found}) == ">99 % (<1–100)"


def test_a_goal_in_percent_of_the_prescription_is_taken_in_gy() -> None:
    record = goal("D2% <= 107 %Rx", 105.0)
    record["endpoint"] = {"key": "D2_gy", "limit": 1.07 * 70, "factor": 0.7}
    found = goal_probability(record, calibration([-2.0, -1, 0, 1, 1.3, 1.5, 2, 3, 4], key="D2_gy"))
    assert found is not None and found["percent"] == 55.0  # 1.4 Gy of room: 5 of 9


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (goal("V41Gy <= 35 %", 30.0), "V41Gy_percent of Rectum was not calibrated"),
        (goal("CI >= 0.8", 0.9), "it is about no DVH endpoint of the structure"),
        (goal("V40Gy <= 35 %", 30.0) | {"bound_to": "Bladder"}, "Bladder was not calibrated"),
        (goal("V40Gy <= 35 %", None), "not evaluable"),
    ],
)
def test_what_was_not_calibrated_says_so_in_one_line(record: dict[str, Any], reason: str) -> None:
    (found,) = with_probabilities([record], {"Rectum": calibration(TEN)})
    assert found["probability"] is None and found["probability_missing"] == reason
    silent = reason == "not evaluable"  # the status says so
    assert probability_words(found) == ("" if silent else f"no probability: {reason}")
    (without,) = with_probabilities([record], None)
    assert without["probability_missing"] == "no calibration" and not probability_words(without)


def test_predictions_must_be_as_many_as_residuals() -> None:
    with pytest.raises(DosePredictionError, match="predictions must have one of V40Gy_percent"):
        calibration(TEN, TEN[:-1])


def records(bias: float, seed: int, patients: int = 120) -> list[dict[str, Any]]:
    """Patients with one goal each, whose plans lie `bias` and normal noise from predictions."""
    random = np.random.default_rng(seed)
    values = random.uniform(25, 45, patients)
    plans = values + bias + random.normal(0, 5, patients)
    return [
        {"goals": [goal("V40Gy <= 35 %", float(v), float(p))]}
        for v, p in zip(values, plans, strict=True)
    ]


def test_right_probabilities_are_reliable_and_wrong_ones_are_not() -> None:
    residuals = sorted(np.random.default_rng(1).normal(0, 5, 200))
    known = {"Rectum": calibration(residuals)}
    right = goal_reliability(known, records(0.0, 2))
    wrong = goal_reliability(known, records(8.0, 2))
    assert right is not None and wrong is not None
    inside = [
        b["range_percent"][0] <= b["met_percent"] <= b["range_percent"][1] for b in right["bins"]
    ]
    assert all(inside) and right["brier"] <= right["brier_logistic"] + 0.005
    assert right["brier"] < right["brier_share"]
    assert wrong["brier"] > wrong["brier_logistic"] + 0.02
    assert "outside" in describe_reliability(wrong) and "outside" not in describe_reliability(right)
    assert goal_reliability(known, [{"goals": [goal("V40Gy <= 35 %", 30.0)]}]) is None


def test_the_logistic_never_sees_the_patient_whom_it_judges() -> None:
    """One patient whose plans all fail among plans that all meet: the others know of no failure."""
    patient = np.repeat(np.arange(10), 4)
    met = (patient != 3).astype(float)
    chance = cross_fitted(np.zeros(40), met, patient, 5)
    assert chance[patient == 3] == pytest.approx([32.5 / 33] * 4)
    separable = np.linspace(-1, 1, 40)
    steep = cross_fitted(separable, (separable > 0).astype(float), np.arange(40), 5)
    assert np.isfinite(steep).all() and (steep[separable > 0.2] > 0.9).all()


def goal_at_least_42_75() -> dict[str, object]:
    endpoint = {"key": "D95_gy", "factor": 1.0, "limit": 42.75}
    return {"endpoint": endpoint, "comparison": ">=", "bound_to": "PTV"}


def forecast(predicted: np.ndarray, plans: np.ndarray, value: float) -> float:
    order = np.argsort(plans - predicted)
    known = calibration(list((plans - predicted)[order]), list(predicted[order]), key="D95_gy")
    found = goal_probability({**goal_at_least_42_75(), "value": value}, known)
    assert found is not None
    assert found["low_percent"] <= found["percent"] <= found["high_percent"]
    return float(found["percent"])


def test_a_prediction_that_says_nothing_of_the_plan_does_not_move_the_probability() -> None:
    """Every plan is scaled to one D95: a model that misses it misses the goal, no plan does."""
    random = np.random.default_rng(1)
    predicted = random.normal(42.6, 0.6, 150)
    plans = random.normal(43.0, 0.02, 150)
    share = np.mean(42.0 + (plans - predicted) >= 42.75)
    assert share < 0.4
    assert forecast(predicted, plans, 42.0) > 85


def test_where_errors_are_alike_the_share_of_residuals_stays() -> None:
    random = np.random.default_rng(2)
    predicted = random.normal(42.75, 1.0, 150)
    plans = predicted + random.normal(0.3, 0.5, 150)
    for value in (42.0, 42.5, 43.0):
        share = 100 * np.mean(value + (plans - predicted) >= 42.75)
        assert forecast(predicted, plans, value) == pytest.approx(share, abs=12)


@pytest.mark.parametrize("count", [9, 33])
def test_few_plans_rarely_speak_against_the_share(count: int) -> None:
    random = np.random.default_rng(count)
    apart = []
    for _ in range(40):
        predicted = random.normal(42.75, 1.0, count)
        plans = predicted + random.normal(0.0, 0.5, count)
        share = 100 * (np.sum(43.0 + (plans - predicted) >= 42.75) + 0.5) / (count + 1)
        apart.append(abs(forecast(predicted, plans, 43.0) - share))
    assert np.median(apart) < 5


def test_plans_that_agree_are_never_certain() -> None:
    """A regression far from its limit says 1; n plans say (n + ½) / (n + 1)."""
    predicted = np.linspace(40.0, 46.0, 60)
    plans = 42.75 + np.where(predicted < 43.0, -0.05, 0.05)
    for value, most in ((60.0, 100 * 60.5 / 61), (20.0, 100 * 0.5 / 61)):
        assert forecast(predicted, plans, value) == pytest.approx(most, abs=0.051)
