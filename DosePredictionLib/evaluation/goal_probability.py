"""How likely a plan meets a goal: by how far calibration plans lay from their predictions.

The plan's value is the predicted one plus a residual. If the plan to come and the n calibration
plans are exchangeable, the share of residuals with which the goal is met estimates the probability,
as a predictive distribution made of residuals does (Vovk et al. 2017, doi
10.1007/s10994-018-5755-8). It takes errors to be alike whatever is predicted. Where they are not,
as of a target to whose D95 every plan is scaled, a logistic regression of what the calibration
plans met on what was predicted for them knows better: the probability is a mixture of both,
weighted by how well each tells the calibration plans that it has not seen (stacking: Breiman 1996,
doi 10.1007/BF00117832). The interval is Jeffreys' for a binomial share (Brown, Cai, DasGupta 2001,
doi 10.1214/ss/1009213286): it says how few the plans are, not how unlike them a case is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special  # its statistics take a second to load, in a window

from .calibration import StructureCalibration
from .logistic import cross_fitted, fitted_logistic

__all__ = ["NEAREST", "goal_probability", "probability_words", "with_probabilities"]

LEVEL_PERCENT = 90
"""Of the interval of a probability."""

NEAREST = 10
"""How many calibration patients with the nearest predictions are counted, too."""

NO_CALIBRATION, NOT_EVALUABLE = "no calibration", "not evaluable"
"""Reasons that are said elsewhere already."""

_FOLDS = 10
_DOUBT = 2.0
"""Squared differences of both forecasts that speak for the share before any plan is looked at."""

_TOLERANCE = 1e-9


def with_probabilities(
    goals: Sequence[Mapping[str, Any]], structures: Mapping[str, StructureCalibration] | None
) -> list[dict[str, Any]]:
    """Records of goals with `probability`, or with `probability_missing`: why there is none.

    Args:
        goals: of `evaluate_goals`.
        structures: what was calibrated; None: the case has no calibration that is of it.
    """
    records = []
    for goal in goals:
        found, reason = None, None
        if structures is None:
            reason = NO_CALIBRATION
        elif goal["value"] is None:
            reason = NOT_EVALUABLE
        else:
            found = goal_probability(goal, structures.get(goal["bound_to"]))
            if found is None:
                reason = _uncalibrated(goal, structures)
        records.append({**goal, "probability": found, "probability_missing": reason})
    return records


def goal_probability(
    goal: Mapping[str, Any], known: StructureCalibration | None
) -> dict[str, Any] | None:
    """With which probability a plan meets a goal, in percent; None: nothing tells it.

    Returns:
        `percent`, its interval `low_percent` to `high_percent` of `level_percent`, from how many
        `patients`, and, where the calibration holds predictions, `nearest`: of how many (`of`)
        patients with the nearest predictions the plans `met` the goal.
    """
    endpoint, value = goal["endpoint"], goal["value"]
    if endpoint is None or value is None or known is None:
        return None
    residuals = np.asarray(known.endpoints.get(endpoint["key"], ()), dtype=np.float64)
    if residuals.size == 0:
        return None
    value *= endpoint["factor"]
    count = residuals.size
    chance = (_met(goal, value + residuals).sum() + 0.5) / (count + 1)
    predictions = np.asarray(known.predictions.get(endpoint["key"], ()), dtype=np.float64)
    nearest = None
    if predictions.size == count:
        measured = np.asarray(known.plain.endpoints[endpoint["key"]], dtype=np.float64)
        chance = _stacked(goal, float(chance), value, predictions, measured)
        near = np.argsort(np.abs(predictions - value), kind="stable")[:NEAREST]
        plans = predictions[near] + measured[near]
        nearest = {"met": int(_met(goal, plans).sum()), "of": int(near.size)}
    like_met = chance * (count + 1)  # as many plans and a half would say it by their share
    outside = (1 - LEVEL_PERCENT / 100) / 2
    low, high = special.betaincinv(like_met, count + 1 - like_met, (outside, 1 - outside))
    return {
        "percent": _percent(chance),
        "low_percent": 0.0 if like_met <= 0.5 else _percent(low),
        "high_percent": 100.0 if like_met >= count + 0.5 else _percent(high),
        "level_percent": LEVEL_PERCENT,
        "patients": count,
        "nearest": nearest,
    }


def _stacked(
    goal: Mapping[str, Any],
    share: float,
    value: float,
    predictions: NDArray[np.float64],
    measured: NDArray[np.float64],
) -> float:
    """The share of residuals and a logistic regression, mixed by what calibration plans say.

    Args:
        share: of the residuals with which the case meets the goal.
        value: predicted for the case, in the endpoint's unit.
        predictions: for the calibration plans, `(n,)`, likewise.
        measured: how far these plans lay from them, `(n,)`.
    """
    count = predictions.size
    met = _met(goal, predictions + measured).astype(np.float64)
    others = np.array([_met(goal, each + measured).sum() for each in predictions])
    shares = (others - met + 0.5) / count  # each plan's own residual left out
    learned = cross_fitted(predictions, met, np.arange(count), _FOLDS)
    apart = learned - shares
    weight = np.clip(((met - shares) @ apart) / (apart @ apart + _DOUBT), 0.0, 1.0)
    logistic = fitted_logistic(predictions, met)(np.array(value))
    # n plans that agree say no more than their share would.
    surest = 0.5 / (count + 1)
    return float(np.clip((1 - weight) * share + weight * logistic, surest, 1 - surest))


def probability_words(goal: Mapping[str, Any]) -> str:
    """As in `32 % (24–41), met by 8 of 10 such plans`, or why there is none; may be empty.

    Args:
        goal: of `with_probabilities`.
    """
    found = goal.get("probability")
    if found is None:
        reason = goal.get("probability_missing")
        silent = (None, NO_CALIBRATION, NOT_EVALUABLE)
        return "" if reason in silent else f"no probability: {reason}"
    text = (
        f"{_whole(found['percent'])} % "
        f"({_whole(found['low_percent'])}–{_whole(found['high_percent'])})"
    )
    near = found["nearest"]
    return text if near is None else f"{text}, met by {near['met']} of {near['of']} such plans"


def _whole(percent: float) -> str:
    """Whole percents; what is neither 0 nor 100 is not called so."""
    if 0 < percent < 1:
        return "<1"
    return ">99" if 99 < percent < 100 else f"{percent:.0f}"


def _met(goal: Mapping[str, Any], values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values of the endpoint meet the goal; none lies below 0."""
    limit, values = goal["endpoint"]["limit"], np.maximum(values, 0.0)
    if goal["comparison"] in ("<", "<="):
        inside: NDArray[np.bool_] = values < limit + _TOLERANCE
        return inside if goal["comparison"] == "<=" else values < limit
    return values >= limit - _TOLERANCE if goal["comparison"] == ">=" else values > limit


def _uncalibrated(goal: Mapping[str, Any], structures: Mapping[str, StructureCalibration]) -> str:
    """Why nothing tells the probability of a goal, in one line."""
    if goal["endpoint"] is None:
        return "it is about no DVH endpoint of the structure"
    if goal["bound_to"] not in structures:
        return f"{goal['bound_to']} was not calibrated"
    return f"{goal['endpoint']['key']} of {goal['bound_to']} was not calibrated"


def _percent(share: float) -> float:
    return round(100.0 * float(share), 1)
