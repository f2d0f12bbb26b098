"""What bands hold, measured: in a cohort of their own, or in halves of the calibration patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DosePredictionError
from .calibration import (
    LEVELS,
    WIDTH_FLOOR,
    Calibration,
    CohortErrors,
    LevelCoverage,
    Record,
    StructureCalibration,
    endpoint_pairs,
    recorded_widths,
)
from .conformal import (
    conformal_quantile,
    coverage_range,
    curve_scores,
    interval_score,
    residual_interval,
    smallest_count,
)
from .reliability import describe_reliability, goal_reliability

__all__ = ["SPLITS", "cohort_coverage", "describe_coverage", "split_coverage"]

SPLITS = 200
_FEWEST = smallest_count(max(LEVELS))


class _Held(NamedTuple):
    """One endpoint, or the curve, of one structure in all patients who have it.

    Args:
        inside: whether the plan's lies in the band, `(patients,)`.
        score_gy: interval scores, `(patients,)`; empty for curves and for what is no dose.
    """

    structure: str
    is_curve: bool
    inside: NDArray
    score_gy: NDArray


def split_coverage(
    errors: Mapping[str, CohortErrors], patients: int, splits: int = SPLITS
) -> tuple[LevelCoverage, ...]:
    """What bands from a random half of the patients hold in the other half, with a fixed seed.

    Empty where half of the patients are too few for a level. Patients of one cohort are
    exchangeable, so this shows that the bands are made rightly, not that another cohort is alike.

    Args:
        errors: of `cohort_errors`.
        patients: in the cohort.
    """
    tested = patients // 2
    calibrated = patients - tested
    halves = _Halves()
    random = np.random.default_rng(0)
    for _ in range(splits if calibrated >= _FEWEST else 0):
        chosen = np.zeros(patients, dtype=bool)
        chosen[random.permutation(patients)[tested:]] = True
        for each in errors.values():
            halves.add(each, chosen)
    return tuple(
        LevelCoverage(
            percent,
            round(100 * float(np.mean(halves.inside[percent, False])), 2),
            round(100 * float(np.mean(halves.inside[percent, True])), 2),
            coverage_range(calibrated, tested, percent),
            splits,
            *halves.scores(percent),
        )
        for percent in LEVELS
        if halves.inside[percent, False] and halves.inside[percent, True]
    )


class _Halves:
    """What bands of random halves held of the others, by the errors alone: clipping and monotony
    change nothing about that.

    Attributes:
        inside: (level, whether of curves) → whether each error lay in its band.
    """

    def __init__(self) -> None:
        self.inside: dict[tuple[int, bool], list[bool]] = {
            (percent, curves): [] for percent in LEVELS for curves in (False, True)
        }
        self._scores: dict[tuple[int, bool], list[float]] = {
            (percent, adapted): [] for percent in LEVELS for adapted in (False, True)
        }

    def add(self, errors: CohortErrors, chosen: NDArray) -> None:
        """Hold one structure's errors against bands made of the chosen patients."""
        mine = chosen[errors.patients]
        if _FEWEST <= mine.sum() < mine.size:
            self._add_curves(errors, mine)
        for key, (patients, residuals, _) in errors.endpoints.items():
            mine = chosen[patients]
            if _FEWEST <= mine.sum() < mine.size:
                widths = errors.endpoint_widths(key)
                self._add_endpoint(key, residuals, widths, mine)

    def scores(self, percent: int) -> tuple[float | None, float | None]:
        """Mean interval scores, Gy: of the bands, and of constant ones if the bands are not."""
        constant, adapted = (self._scores[percent, each] for each in (False, True))
        means = [round(float(np.mean(each)), 3) if each else None for each in (constant, adapted)]
        return (means[0], None) if means[1] is None else (means[1], means[0])

    def _add_curves(self, errors: CohortErrors, mine: NDArray) -> None:
        ratios = errors.curve_ratios
        if ratios is None:
            scores, scale = curve_scores(errors.curves_gy[mine])
            others = (np.abs(errors.curves_gy[~mine]) / scale).max(axis=1)
        else:
            scores, others = ratios[mine], ratios[~mine]
        for percent in LEVELS:
            self.inside[percent, True] += list(others <= conformal_quantile(scores, percent))

    def _add_endpoint(
        self, key: str, residuals: NDArray, widths: NDArray | None, mine: NDArray
    ) -> None:
        constant = np.ones(residuals.size)
        for adapted in (False, True) if widths is not None else (False,):
            norm = widths + WIDTH_FLOOR if adapted and widths is not None else constant
            for percent in LEVELS:
                low, high = residual_interval((residuals / norm)[mine], percent)
                ends, rest = (low * norm[~mine], high * norm[~mine]), residuals[~mine]
                if adapted or widths is None:
                    self.inside[percent, False] += list((rest >= ends[0]) & (rest <= ends[1]))
                if key.endswith("_gy"):
                    self._scores[percent, adapted] += list(interval_score(*ends, rest, percent))


def cohort_coverage(calibration: Calibration, records: Sequence[Record]) -> dict[str, Any]:
    """What a calibration's bands hold in another cohort, as JSON types.

    Returns:
        `patients`, by level what `_measures` says of all structures and of each, and what
        `goal_reliability` says of goals.

    Raises:
        DosePredictionError: a patient is one of the calibration's.
    """
    shared = sorted({record["case"] for record in records} & set(calibration.patients))
    if shared:
        raise DosePredictionError(
            f"{len(shared)} patients are those of the calibration ({', '.join(shared[:5])}"
            f"{' …' if len(shared) > 5 else ''}): measure its bands on others."
        )
    levels = {}
    for percent in LEVELS:
        held = list(_held(calibration.structures, records, percent))
        sizes = (len(calibration.patients), len(records))
        levels[str(percent)] = {
            **_measures(held, *sizes, percent),
            "structures": {
                name: _measures(
                    mine,
                    len(calibration.structures[name].curve_scores),
                    mine[0].inside.size,
                    percent,
                )
                for name in dict.fromkeys(each.structure for each in held)
                if (mine := [each for each in held if each.structure == name])
            },
        }
    return {
        "calibration": calibration.summary(),
        "patients": len(records),
        "levels": levels,
        "goals": goal_reliability(calibration.structures, records),
    }


def describe_coverage(result: Mapping[str, Any]) -> str:
    """`cohort_coverage` as a table for people."""
    lines = [
        f"bands of {result['calibration']['patients']} calibration patients in "
        f"{result['patients']} others: share inside, %",
        f"{'':<24}{'level':>6}{'endpoints':>11}{'curves':>9}{'90 % range':>16}{'score, Gy':>11}",
    ]
    for percent, level in result["levels"].items():
        rows = {"all structures": level, **level["structures"]}
        for name, row in rows.items():
            shares = "".join(
                f"{'–' if row[key] is None else format(row[key], '.1f'):>{width}}"
                for key, width in (("endpoints_percent", 11), ("curves_percent", 9))
            )
            low, high = row["range_percent"]
            score = row["interval_score_gy"]
            lines.append(
                f"{name:<24}{percent:>6}{shares}{f'{low:.1f} to {high:.1f}':>16}"
                f"{'–' if score is None else format(score, '.2f'):>11}"
            )
    if result["goals"] is not None:
        lines.append(describe_reliability(result["goals"]))
    return "\n".join(lines)


def _held(
    structures: Mapping[str, StructureCalibration], records: Sequence[Record], percent: int
) -> Iterator[_Held]:
    for name, known in structures.items():
        mine = [record for record in records if name in record["curves"]]
        if not mine:
            continue
        inside = []
        cases = [known.for_case(recorded_widths(record, name)) for record in mine]
        for case, record in zip(cases, mine, strict=True):
            curve = record["curves"][name]
            low, high = case.curve(np.asarray(curve["prediction_gy"]), percent)
            inside.append(_between(low, np.asarray(curve["reference_gy"]), high).all())
        yield _Held(name, True, np.array(inside), np.zeros(0))
        for key in known.endpoints:
            pairs = [endpoint_pairs(record, name).get(key) or {} for record in mine]
            found = [
                (*case.endpoint(key, predicted, percent), plan)
                for case, pair in zip(cases, pairs, strict=True)
                if (predicted := pair.get("prediction")) is not None
                and (plan := pair.get("reference")) is not None
            ]
            if not found:
                continue
            lows, highs, plans = np.array(found, dtype=np.float64).T
            score = interval_score(lows, highs, plans, percent)
            is_dose = key.endswith("_gy")
            within = _between(lows, plans, highs)
            yield _Held(name, False, within, score if is_dose else np.zeros(0))


def _between(low: NDArray, value: NDArray, high: NDArray) -> NDArray:
    """Both ends count, and what the file's four digits leave out of them.

    A band ends at 0; resampling leaves plans a little below.
    """
    value = np.maximum(value, 0.0)
    return (value >= low - 1e-4) & (value <= high + 1e-4)


def _share(held: Sequence[_Held], curves: bool) -> float | None:
    inside = [each.inside for each in held if each.is_curve == curves]
    return 100.0 * float(np.concatenate(inside).mean()) if inside else None


def _measures(held: Sequence[_Held], calibrated: int, tested: int, percent: int) -> dict[str, Any]:
    """Shares inside in percent, the range of one endpoint's share, and the mean interval score."""
    scores = np.concatenate([np.zeros(0), *(each.score_gy for each in held)])
    return {
        "endpoints_percent": _share(held, curves=False),
        "curves_percent": _share(held, curves=True),
        "range_percent": list(coverage_range(calibrated, tested, percent)),
        "interval_score_gy": float(scores.mean()) if scores.size else None,
    }
