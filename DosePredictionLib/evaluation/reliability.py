"""Whether goals are met as often as their probabilities say, measured in a cohort.

Held against what a cohort's own plans would teach: for each goal a logistic regression on the
predicted margin, cross-fitted by patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration import Record, StructureCalibration, recorded_widths
from .goal_probability import goal_probability
from .logistic import cross_fitted

__all__ = ["describe_reliability", "goal_reliability"]

Array = NDArray[np.float64]

BIN_EDGES_PERCENT = (0, 10, 30, 50, 70, 90, 100)
FOLDS = 5
_DRAWS = 2000


def goal_reliability(
    structures: Mapping[str, StructureCalibration], records: Sequence[Record]
) -> dict[str, Any] | None:
    """Brier scores and reliability of goals' probabilities; None: no goal has one and a plan.

    Args:
        structures: what was calibrated.
        records: of `evaluate` for patients whom the calibration does not hold.

    Returns:
        `goals` (how many judgements), `patients`, `brier`, `brier_logistic` (cross-fitted in these
        very patients by the predicted margin), `brier_share` (likewise by the share alone), and
        `bins`: forecasts between two percents, their mean, the share that was met, and the
        `range_percent` in which that share lies in 95 % if the probabilities are right.
    """
    rows = []
    for index, record in enumerate(records):
        known = {n: each.for_case(recorded_widths(record, n)) for n, each in structures.items()}
        rows += [
            (index, (goal["bound_to"], goal["goal"]), found["percent"] / 100, goal["margin"], met)
            for goal in record.get("goals", ())
            if (found := goal_probability(goal, known.get(goal["bound_to"]))) is not None
            and (met := _was_met(goal)) is not None
        ]
    if not rows:
        return None
    patients, names, forecasts, margins, outcomes = zip(*rows, strict=True)
    patient, forecast = np.array(patients), np.array(forecasts)
    margin, outcome = np.array(margins, dtype=np.float64), np.array(outcomes, dtype=np.float64)
    logistic, share = np.empty(outcome.size), np.empty(outcome.size)
    for name in dict.fromkeys(names):
        mine = np.array([each == name for each in names])
        part = (outcome[mine], patient[mine], FOLDS)
        logistic[mine] = cross_fitted(margin[mine], *part)
        share[mine] = cross_fitted(np.zeros(int(mine.sum())), *part)
    return {
        "patients": len(set(patients)),
        "goals": len(rows),
        "brier": _brier(forecast, outcome),
        "brier_logistic": _brier(logistic, outcome),
        "brier_share": _brier(share, outcome),
        "bins": _bins(forecast, outcome, patient),
    }


def describe_reliability(found: Mapping[str, Any]) -> str:
    """`goal_reliability` as lines for people."""
    lines = [
        f"{found['goals']} goals of {found['patients']} patients: Brier score "
        f"{found['brier']:.4f}; logistic on the predicted margin, cross-fitted in these patients, "
        f"{found['brier_logistic']:.4f}; share of plans alone {found['brier_share']:.4f}",
        f"{'probability, %':<18}{'goals':>7}{'stated, %':>11}{'met, %':>9}{'95 % if right':>18}",
    ]
    for each in found["bins"]:
        low, high = each["range_percent"]
        span = f"{each['from_percent']} to {each['to_percent']}"
        lines.append(
            f"{span:<18}{each['goals']:>7}{each['stated_percent']:>11.1f}"
            f"{each['met_percent']:>9.1f}{f'{low:.1f} to {high:.1f}':>18}"
            f"{'' if low <= each['met_percent'] <= high else '  outside'}"
        )
    return "\n".join(lines)


def _was_met(goal: Mapping[str, Any]) -> bool | None:
    plan = goal.get("reference")
    return None if plan is None or plan["value"] is None else bool(plan["status"] == "met")


def _brier(forecast: Array, outcome: Array) -> float:
    return float(np.mean((forecast - outcome) ** 2))


def _bins(forecast: Array, outcome: Array, patient: NDArray) -> list[dict[str, Any]]:
    """Reliability, with the range that consistent forecasts would give.

    The range is the wider of two: outcomes drawn from the forecasts themselves (Bröcker, Smith
    2007, doi 10.1175/WAF993.1), as if a patient's goals knew nothing of each other, and the
    measured differences drawn by whole patients (cluster bootstrap; Field, Welsh 2007, doi
    10.1111/j.1467-9868.2007.00593.x).
    """
    random = np.random.default_rng(0)
    bins = []
    edges = BIN_EDGES_PERCENT
    place = np.clip(np.digitize(100 * forecast, edges) - 1, 0, len(edges) - 2)
    for index in range(len(edges) - 1):
        mine = place == index
        if not mine.any():
            continue
        stated, met = forecast[mine], outcome[mine]
        drawn = (random.random((_DRAWS, stated.size)) < stated).mean(axis=1) - stated.mean()
        apart = _by_patient(met - stated, patient[mine], random)
        low, high = (
            extreme(np.percentile(each, percent) for each in (drawn, apart))
            for extreme, percent in ((min, 2.5), (max, 97.5))
        )
        bins.append(
            {
                "from_percent": edges[index],
                "to_percent": edges[index + 1],
                "goals": int(stated.size),
                "stated_percent": 100 * float(stated.mean()),
                "met_percent": 100 * float(met.mean()),
                "range_percent": [
                    100 * max(0.0, float(stated.mean() + low)),
                    100 * min(1.0, float(stated.mean() + high)),
                ],
            }
        )
    return bins


def _by_patient(apart: Array, patient: NDArray, random: np.random.Generator) -> Array:
    """Mean differences of patients drawn with replacement, about their own mean."""
    _, index = np.unique(patient, return_inverse=True)
    sums, counts = np.bincount(index, apart), np.bincount(index)
    drawn = random.integers(0, counts.size, (_DRAWS, counts.size))
    means: Array = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means - apart.mean()
