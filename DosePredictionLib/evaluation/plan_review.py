"""Where a plan lies outside the bands of what plans like it reach: the everyday use of
knowledge-based planning.

A plan above an organ's band spares it less than such plans do, and is likely to gain. With bands of
90 %, one endpoint in ten lies outside by chance: a review counts them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .calibration import StructureCalibration
from .result import Evaluation
from .widths import VOLUMES_PERCENT, curve_doses

__all__ = ["REVIEW_LEVEL", "VERDICTS", "plan_review", "review_line", "review_summary"]

REVIEW_LEVEL = 90
"""Percent of the bands that a plan is held against."""

VERDICTS = {
    "likely_to_gain": "likely to gain",
    "better": "better than such plans reach",
    "differs": "unlike such plans",
}

_COVERAGE = ("D99_gy", "D98_gy", "D95_gy", "V95percent_percent")
_HOT = ("D2_gy", "D1_gy")
_ORGAN = ("Dmean_gy", "D0.1cc_gy", "V20Gy_percent", "V30Gy_percent", "V40Gy_percent")
_SMALLEST = {"gy": 0.1, "percent": 0.5}
"""What lies outside by less is not listed: no planner sees it."""

_COVERED_FROM, _HOT_TO = 90, 5
"""Percent of a target's volume from which, and to which, its curve is coverage and heat."""


def plan_review(
    evaluation: Evaluation, structures: Mapping[str, StructureCalibration]
) -> dict[str, Any] | None:
    """The endpoints and curves of a plan that lie outside their bands; None: there is no plan.

    Returns:
        `level_percent`; `reviewed` and `outside`, numbers of endpoints, and likewise
        `curves_reviewed` and `curves_outside`; `rows`, what is likely to gain first and then by the
        distance in widths of the band: `structure`, `endpoint` (a key, or null for the curve),
        `volume_percent` (where the curve lies farthest outside, and null), `plan`, `predicted`,
        `low`, `high`, `outside` (signed, beyond the nearer end), `unit`, `verdict`.
    """
    if evaluation.planned is None:
        return None
    rows: list[dict[str, Any]] = []
    counts = {"reviewed": 0, "outside": 0, "curves_reviewed": 0, "curves_outside": 0}
    values = evaluation.structures()
    for name, known in structures.items():
        ours, theirs = evaluation.predicted.get(name), evaluation.planned.get(name)
        if ours is None or theirs is None or ours.curve is None or theirs.curve is None:
            continue
        is_target = name in evaluation.targets
        for key, row in _endpoints(values[name]["endpoints"], known, is_target):
            counts["reviewed"] += 1
            counts["outside"] += row["outside"] != 0
            if abs(row["outside"]) >= _SMALLEST[key.rpartition("_")[2]]:
                rows.append({"structure": name, **row})
        curve = _curve(curve_doses(ours.curve), curve_doses(theirs.curve), known, is_target)
        counts["curves_reviewed"] += 1
        counts["curves_outside"] += curve["outside"] != 0
        if abs(curve["outside"]) >= _SMALLEST["gy"]:
            rows.append({"structure": name, **curve})
    rows.sort(key=lambda row: (row["verdict"] != "likely_to_gain", -_in_widths(row)))
    return {"level_percent": REVIEW_LEVEL, **counts, "rows": rows}


def review_line(row: Mapping[str, Any]) -> str:
    """A row in words: `Rectum Dmean 6.0 Gy above the band (20.1 to 28.4): likely to gain`."""
    what = f"D{row['volume_percent']}% of the curve"
    if row["endpoint"] is not None:
        what = row["endpoint"].rpartition("_")[0].replace("percent", "%")
    side = "above" if row["outside"] > 0 else "below"
    return (
        f"{row['structure']} {what} {abs(row['outside']):.1f} {row['unit']} {side} the band "
        f"({row['low']:.1f} to {row['high']:.1f}): {VERDICTS[row['verdict']]}"
    )


def review_summary(review: Mapping[str, Any]) -> str:
    """How much of a plan lies outside, beside what would by chance."""
    chance = review["reviewed"] * (100 - review["level_percent"]) / 100
    return (
        f"plan: {review['outside']} of {review['reviewed']} endpoints and "
        f"{review['curves_outside']} of {review['curves_reviewed']} curves lie outside the "
        f"{review['level_percent']} % bands (about {chance:.0f} endpoints would by chance)"
    )


def _endpoints(
    values: Mapping[str, Mapping[str, float | None]], known: StructureCalibration, is_target: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    for key in (*_COVERAGE, *_HOT) if is_target else _ORGAN:
        predicted = values.get(key, {}).get("prediction")
        plan = values.get(key, {}).get("reference")
        if key not in known.endpoints or predicted is None or plan is None:
            continue
        low, high = (float(end) for end in known.endpoint(key, predicted, REVIEW_LEVEL))
        outside = _outside(max(plan, 0.0), low, high)
        seen = {"plan": plan, "predicted": predicted, "low": low, "high": high, "outside": outside}
        yield (
            key,
            {
                "endpoint": key,
                "volume_percent": None,
                **{name: round(float(value), 3) for name, value in seen.items()},
                "unit": "Gy" if key.endswith("_gy") else "%",
                "verdict": _verdict(outside > 0, is_target, key in _COVERAGE, key in _HOT),
            },
        )


def _curve(
    predicted: np.ndarray, plan: np.ndarray, known: StructureCalibration, is_target: bool
) -> dict[str, Any]:
    """Where a plan's curve lies farthest outside; inside, its place of the least room."""
    low, high = known.curve(predicted, REVIEW_LEVEL)
    held = np.maximum(plan, 0.0)
    beyond = np.maximum(held - high, low - held)
    place = int(np.argmax(beyond))
    volume = VOLUMES_PERCENT[place]
    outside = _outside(held[place], low[place], high[place])
    return {
        "endpoint": None,
        "volume_percent": volume,
        "plan": round(float(plan[place]), 3),
        "predicted": round(float(predicted[place]), 3),
        "low": round(float(low[place]), 3),
        "high": round(float(high[place]), 3),
        "outside": round(outside, 3),
        "unit": "Gy",
        "verdict": _verdict(outside > 0, is_target, volume >= _COVERED_FROM, volume <= _HOT_TO),
    }


def _outside(value: float, low: float, high: float) -> float:
    """How far beyond the nearer end, signed; 0 inside, and within the file's four digits."""
    beyond = value - high if value > high else value - low if value < low else 0.0
    return 0.0 if abs(beyond) <= 1e-3 else float(beyond)


def _verdict(above: bool, is_target: bool, coverage: bool, hot: bool) -> str:
    """What it means that a plan lies above, or below, a band."""
    if is_target and not (coverage or hot):
        return "differs"
    more_is_better = is_target and coverage
    return "better" if above == more_is_better else "likely_to_gain"


def _in_widths(row: Mapping[str, Any]) -> float:
    return abs(float(row["outside"])) / max(row["high"] - row["low"], 0.5)
