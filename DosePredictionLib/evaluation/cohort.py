"""Statistics over patients, the comparison of two models, and every number as JSON or CSV.

Records are those of `Evaluation.as_json`. Intervals are percentile bootstraps over patients,
with a fixed seed; nothing here is NaN: what is undefined is None, and an empty cell in CSV.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..errors import DosePredictionError
from ..files import write_json
from ..tables import write_table

__all__ = [
    "CASE_SCORES",
    "SCORE_LABELS",
    "compare_models",
    "describe_cohort",
    "record_rows",
    "structure_errors",
    "summarize_cohort",
    "write_csv",
    "write_json",
]

Array = NDArray[np.float64]
Record = Mapping[str, Any]

CASE_SCORES = (
    "mae_body_gy",
    "bias_body_gy",
    "mae_above_5gy_gy",
    "ssim",
    "dose_score_gy",
    "dvh_score_gy",
    "masked_mae_d97_gy",
    "pelvic_score_points",
)
"""Scores of a record that a cohort summarizes."""

SCORE_LABELS = {
    "dose_score_gy": "dose score, Gy",
    "dvh_score_gy": "DVH score, Gy",
    "mae_body_gy": "MAE in body, Gy",
    "mae_above_5gy_gy": "MAE above 5 Gy, Gy",
    "masked_mae_d97_gy": "masked MAE after D97, Gy",
    "pelvic_score_points": "pelvic endpoints, points",
    "ssim": "SSIM",
}
"""How people read the scores."""

_BOOTSTRAPS = 2000
_STRUCTURE_MEASURES = ("mae_gy", "Dmean_gy", "D95_gy", "D2_gy", "D0.1cc_gy")
_COLUMNS = (
    "case",
    "structure",
    "measure",
    "prediction",
    "reference",
    "difference",
    "unit",
    "status",
    "reference_status",
)


def summarize_cohort(records: Sequence[Record], seed: int = 0) -> dict[str, Any]:
    """Mean, standard deviation and bootstrap 95 % interval over patients of every score.

    `dvh_score_gy.mean` is the challenge's: the mean over all endpoints of all patients pooled; the
    mean of the patients' own scores stands beside it as `per_patient_mean`. A score that no
    patient has is left out. Standard deviations are those of the patients' own values.
    """
    summary: dict[str, Any] = {}
    for key in CASE_SCORES:
        values = [np.array([float(r[key])]) for r in records if r.get(key) is not None]
        if values:
            summary[key] = _statistics(values, seed)
    terms = [np.array(list(r.get("dvh_score_terms_gy", {}).values()), float) for r in records]
    terms = [each for each in terms if each.size]
    if terms:
        per_patient = float(np.mean([each.mean() for each in terms]))
        summary["dvh_score_gy"] = _statistics(terms, seed) | {"per_patient_mean": per_patient}
    for name in dict.fromkeys(name for r in records for name in r.get("gamma", {})):
        rates = [
            r["gamma"][name]["pass_rate_percent"] for r in records if name in r.get("gamma", {})
        ]
        passed = [np.array([float(rate)]) for rate in rates if rate is not None]
        if passed:
            summary[f"gamma {name}"] = _statistics(passed, seed)
    return summary


def structure_errors(records: Sequence[Record], seed: int = 0) -> dict[str, dict[str, Any]]:
    """Over the patients who have a structure: its voxels' MAE and the errors of its endpoints.

    Structure → measure → statistics as in `summarize_cohort`, all in Gy. `mae_gy` is the mean
    absolute error of the voxels; `Dmean_gy`, `D95_gy`, … are mean absolute differences.
    """
    found: dict[str, dict[str, list[Array]]] = {}
    for record in records:
        for name, values in record.get("structures", {}).items():
            measures = found.setdefault(name, {key: [] for key in _STRUCTURE_MEASURES})
            for key, errors in measures.items():
                error = values.get(key) if key == "mae_gy" else _apart(values["endpoints"].get(key))
                if error is not None:
                    errors.append(np.array([abs(float(error))]))
    return {
        name: {key: _statistics(errors, seed) for key, errors in measures.items() if errors}
        for name, measures in found.items()
    }


def describe_cohort(records: Sequence[Record], summary: Mapping[str, Any]) -> str:
    """A table of patients, and the summary's means with their intervals, for people."""
    lines = [f"{'case':<24}{'dose score':>12}{'DVH score':>12}{'MAE body':>12}"]
    for record in records:
        values = [record[key] for key in ("dose_score_gy", "dvh_score_gy", "mae_body_gy")]
        cells = "".join(f"{np.nan if value is None else value:>12.3f}" for value in values)
        lines.append(f"{record['case']:<24}{cells}")
    for key, label in SCORE_LABELS.items():
        if key in summary:
            low, high = summary[key]["ci95"]
            mean = summary[key]["mean"]
            lines.append(f"{label:<24}{mean:>8.3f}  (95 % {low:.3f} to {high:.3f})")
    return "\n".join(lines + _describe_structures(structure_errors(records)))


def _describe_structures(structures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    measures = {"mae_gy": "MAE", "Dmean_gy": "Dmean", "D95_gy": "D95", "D2_gy": "D2"}
    head = "".join(f"{label:>9}" for label in measures.values())
    lines = [f"{'mean absolute error, Gy':<24}{head}{'patients':>10}"]
    for name, values in structures.items():
        cells = "".join(
            f"{values[key]['mean']:>9.2f}" if key in values else f"{'':>9}" for key in measures
        )
        patients = max(each["patients"] for each in values.values())
        lines.append(f"{name:<24}{cells}{patients:>10}")
    return lines


def compare_models(
    first: Sequence[Record], second: Sequence[Record], key: str, seed: int = 0
) -> dict[str, Any]:
    """Paired comparison of one score of two models on the same patients.

    Args:
        first, second: records, paired by `case`.
        key: of the score; see `CASE_SCORES`.

    Returns:
        `patients`; `mean_difference` (second - first) with its bootstrap `ci95`; `p_value` of the
        two-sided Wilcoxon signed-rank test, None below six patients, where it cannot reach 5 %, or
        where no patient differs.

    Raises:
        DosePredictionError: the two share no patient that has the score, or one appears twice.
    """
    values = [_by_case(records, key) for records in (first, second)]
    shared = [case for case in values[0] if case in values[1]]
    if not shared:
        raise DosePredictionError(f"The two models share no case with {key!r}.")
    difference = np.array([values[1][case] - values[0][case] for case in shared])
    drawn = np.random.default_rng(seed).integers(0, len(shared), (_BOOTSTRAPS, len(shared)))
    testable = len(shared) >= 6 and bool(np.any(difference != 0))
    p_value = float(stats.wilcoxon(difference).pvalue) if testable else None
    return {
        "key": key,
        "patients": len(shared),
        "mean_difference": float(difference.mean()),
        "ci95": [float(v) for v in np.percentile(difference[drawn].mean(axis=1), [2.5, 97.5])],
        "p_value": p_value,
        "test": "Wilcoxon signed-rank, two-sided",
    }


def record_rows(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Every number of the records, one a row: `case, structure, measure, prediction, …`.

    Scores that compare two doses stand under `difference`.
    """
    for record in records:
        case = record.get("case", "")
        for key, value in record.items():
            if isinstance(value, (int, float)) or (value is None and key.endswith("_gy")):
                yield _row(case, "", key, difference=value)
        for score, terms in (("DVH", "dvh_score_terms_gy"), ("pelvic", "pelvic_score_terms")):
            for key, value in record.get(terms, {}).items():
                yield _row(case, "", f"{score} score, {key}", difference=value)
        for key, value in record.get("isodose_dice", {}).items():
            yield _row(case, "", f"isodose_dice {key}%", difference=value)
        for name, values in record.get("gamma", {}).items():
            rate = values["pass_rate_percent"]
            yield _row(case, "", f"gamma {name}", difference=rate, unit="percent")
        for name, values in record.get("structures", {}).items():
            yield from _structure_rows(case, name, values)
        for goal in record.get("goals", ()):
            yield from _goal_rows(case, goal)
        for line in record.get("scorecard", {}).get("lines", ()):
            measure = f"scorecard {line['metric']}"
            yield _row(case, line["structure"], measure, line["value"], unit=line["unit"])
            yield _row(case, line["structure"], f"{measure} points", line["score"])


def write_csv(path: str | Path, records: Sequence[Record]) -> None:
    """Write `record_rows` as CSV; the file appears whole or not at all."""
    rows = [[row[column] for column in _COLUMNS] for row in record_rows(records)]
    write_table(Path(path), [_COLUMNS, *rows])


def _statistics(groups: Sequence[Array], seed: int) -> dict[str, Any]:
    """Pooled mean, spread of the patients' means, and a bootstrap interval over patients."""
    sums = np.array([group.sum() for group in groups])
    counts = np.array([group.size for group in groups])
    means = sums / counts
    drawn = np.random.default_rng(seed).integers(0, len(groups), (_BOOTSTRAPS, len(groups)))
    pooled = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return {
        "mean": float(sums.sum() / counts.sum()),
        "std": float(means.std(ddof=1)) if means.size > 1 else None,
        "ci95": [float(value) for value in np.percentile(pooled, [2.5, 97.5])],
        "patients": len(groups),
    }


def _by_case(records: Sequence[Record], key: str) -> dict[str, float]:
    values: dict[str, float] = {}
    for record in records:
        if record["case"] in values:
            raise DosePredictionError(
                f"Case {record['case']} appears twice in one model's records."
            )
        if record.get(key) is not None:
            values[record["case"]] = float(record[key])
    return values


def _structure_rows(case: str, name: str, values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield _row(case, name, "volume_cc", reference=values["volume_cc"], unit="cc")
    for key in ("mae_gy", "bias_gy"):
        if key in values:
            yield _row(case, name, key, difference=values[key], unit="Gy")
    for key, pair in values["endpoints"].items():
        ours, theirs = pair["prediction"], pair["reference"]
        yield _row(
            case, name, key, ours, theirs, _apart(pair), key.rsplit("_", 1)[1].replace("gy", "Gy")
        )


def _apart(pair: Mapping[str, float | None] | None) -> float | None:
    """Prediction minus reference, where both are defined."""
    if pair is None or pair["prediction"] is None or pair["reference"] is None:
        return None
    return pair["prediction"] - pair["reference"]


def _goal_rows(case: str, goal: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A goal's value and its margin, each with the plan's beside it."""
    plan = goal.get("reference") or {"status": None, "value": None, "margin": None}
    for key in ("value", "margin"):
        ours, theirs = goal[key], plan[key]
        apart = None if ours is None or theirs is None else ours - theirs
        measure = f"goal {goal['goal']}" + (" margin" if key == "margin" else "")
        row = _row(case, goal["structure"], measure, ours, theirs, apart, goal["unit"])
        yield row | {"status": goal["status"], "reference_status": plan["status"]}


def _row(
    case: str,
    structure: str,
    measure: str,
    prediction: float | None = None,
    reference: float | None = None,
    difference: float | None = None,
    unit: str = "",
) -> dict[str, Any]:
    values = (case, structure, measure, prediction, reference, difference, unit, None, None)
    return dict(zip(_COLUMNS, values, strict=True))
