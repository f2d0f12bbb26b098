"""A model's calibration from plans that it has not seen and predictions made of them before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import DosePredictionError, ModelError
from ..evaluation.calibration import (
    LEVELS,
    SCHEMA_VERSION,
    Calibration,
    CohortErrors,
    LevelCoverage,
    calibrated_structures,
    cohort_errors,
)
from ..evaluation.conformal import smallest_count
from ..evaluation.coverage import split_coverage
from .bands import grid_words, read_record
from .evaluate import CohortRequest, EvaluationSettings, cohort_pairs, evaluate_cohort
from .outputs import RECORD
from .several import CaseFailure

if TYPE_CHECKING:
    from ..evaluation.goals import GoalSet
    from ..models.manifest import ModelFolder

__all__ = ["CalibrateRequest", "Calibrated", "calibrate", "fitting"]

_SHOWN = 5
_FEWEST = smallest_count(max(LEVELS))


@dataclass(frozen=True)
class CalibrateRequest:
    """Which model is calibrated, and on whom.

    Args:
        model: whose predictions they are.
        cases: folder of cases with their plan doses.
        predictions: `predictions/<case>/dose.*` with `prediction.json`.
        seen: patients whose plans shaped the weights.
        cohort: what the patients are, in words.
        workers: processes; None: one a core.
        goals: whose endpoints are calibrated beside those that results list; "default": the shipped
            set for the cases.
    """

    model: ModelFolder
    cases: Path
    predictions: Path
    seen: frozenset[str] = frozenset()
    cohort: str = ""
    workers: int | None = None
    goals: GoalSet | Literal["default"] | None = "default"


@dataclass(frozen=True)
class Calibrated:
    """A calibration, and what did not go into it.

    Args:
        few: structures that too few patients have, with their number.
        failed: pairs that could not be evaluated.
        unpaired: cases and doses without a partner.
    """

    calibration: Calibration
    few: Mapping[str, int]
    failed: tuple[CaseFailure, ...]
    unpaired: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The record of `calibrate`, without the residuals."""
        structures = self.calibration.structures
        return {
            **self.calibration.summary(),
            "structures": {name: len(each.curve_scores) for name, each in structures.items()},
            "left_out": dict(self.few),
            "failed": [failure.as_json() for failure in self.failed],
            "unpaired": list(self.unpaired),
        }

    def text(self) -> str:
        """The record in a few lines for people."""
        record = self.as_json()
        lines = [f"{self.calibration.model}: {record['patients']} calibration patients"]
        lines += [f"  {name:<24}{count:>4}" for name, count in record["structures"].items()]
        lines += [
            f"  {name:<24}{count:>4}, left out: {max(LEVELS)} % takes {_FEWEST}"
            for name, count in self.few.items()
        ]
        for each in self.calibration.coverage:
            low, high = each.range_percent
            lines.append(
                f"  {each.level_percent} % bands held {each.endpoints_percent:.1f} % of endpoints "
                f"and {each.curves_percent:.1f} % of curves in {each.splits} random halves (one "
                f"endpoint of one half: {low:.1f} to {high:.1f} % in 9 of 10)"
            )
            if each.constant_score_gy is not None:
                lines.append(
                    f"  {each.level_percent} % interval score {each.interval_score_gy:.2f} Gy by "
                    f"the expected error, {each.constant_score_gy:.2f} Gy by constant width"
                )
        if any(each.constant_score_gy is not None for each in self.calibration.coverage):
            adapted = record["adapted"]
            lines.append(f"  the bands {'are' if adapted else 'are not'} fitted to each case")
        if not self.calibration.coverage:
            lines.append("  too few patients to measure coverage in halves of them")
        return "\n".join(lines)


def calibrate(request: CalibrateRequest) -> Calibrated:
    """Calibrate a model on patients whom it has not seen.

    Raises:
        DosePredictionError: a patient shaped the weights, a dose is of another model, two patients
            have different prescriptions of a target, or there are too few.
    """
    pairs, _ = cohort_pairs(request.cases, request.predictions)
    prescription_gy = _prescription(request, {dose.name: dose / RECORD for _, dose in pairs})
    manifest = request.model.manifest
    settings = EvaluationSettings(protocol=manifest.protocol, goals=request.goals, curves=True)
    cohort = evaluate_cohort(
        CohortRequest(request.cases, request.predictions, None, settings, request.workers)
    )
    errors, coverage = fitting(cohort_errors(cohort.records), len(cohort.records))
    structures, few = calibrated_structures(errors)
    if not structures:
        reason = f": {cohort.failed[0].case}: {cohort.failed[0].error}" if cohort.failed else "."
        raise DosePredictionError(
            f"{len(cohort.records)} patients were evaluated, {max(LEVELS)} % takes {_FEWEST} who "
            f"share a structure; {len(cohort.failed)} failed{reason}"
        )
    calibration = Calibration(
        schema_version=SCHEMA_VERSION,
        model=manifest.name,
        weights_sha256=manifest.checksums,
        protocol=manifest.protocol,
        prescription_gy=prescription_gy,
        patients=tuple(sorted(record["case"] for record in cohort.records)),
        structures=structures,
        coverage=coverage,
        cohort=request.cohort,
        grid=grid_words(manifest),
    )
    return Calibrated(calibration, few, cohort.failed, cohort.unpaired)


def fitting(
    errors: Mapping[str, CohortErrors], patients: int
) -> tuple[Mapping[str, CohortErrors], tuple[LevelCoverage, ...]]:
    """Errors with the cases' widths if bands by them score better than constant ones, else without.

    Both scores stay in the coverage.
    """
    coverage = split_coverage(errors, patients)
    if all(
        each.constant_score_gy is None or (each.interval_score_gy or 0) < each.constant_score_gy
        for each in coverage
    ):
        return errors, coverage
    return {name: replace(each, widths=()) for name, each in errors.items()}, coverage


def _prescription(request: CalibrateRequest, records: Mapping[str, Path]) -> dict[str, float]:
    """The one prescription of all patients, before any of them is evaluated; refuses as above."""
    manifest = request.model.manifest
    seen = sorted(request.seen & set(records))
    if seen:
        raise ModelError(
            f"{len(seen)} patients shaped the weights of {manifest.name} "
            f"({_listed(seen)}): its errors on them are too small. Leave them out of --predictions."
        )
    if len(records) < _FEWEST:
        raise DosePredictionError(
            f"{len(records)} cases have a dose in {request.predictions}: bands of {max(LEVELS)} % "
            f"take {_FEWEST} patients or more."
        )
    common: dict[str, tuple[float, str]] = {}
    otherwise = []
    for case, path in records.items():
        record = read_record(path)
        if record.is_planned_otherwise:
            otherwise.append(case)
        if (record.model.weights, record.model.protocol) != (
            manifest.checksums,
            manifest.protocol,
        ):
            raise ModelError(
                f"{path} is of the weights {record.model.weights_sha256[:12]}…, {manifest.name} "
                f"has {manifest.weights_sha256[:12]}…: predict with it first."
            )
        for target, gy in record.prescription.target_gy.items():
            known, first = common.setdefault(target, (gy, case))
            if abs(gy / known - 1) > 0.01:
                raise DosePredictionError(
                    f"{target} is prescribed {known:g} Gy in {first} and {gy:g} Gy in {case}: "
                    "calibrate one prescription at a time."
                )
    if otherwise:
        raise DosePredictionError(
            f"{len(otherwise)} of the plans have other beams or another technique than those that "
            f"{manifest.name} learned from ({_listed(otherwise)}): there are no bands for such "
            "plans. Leave them out of --predictions."
        )
    return {target: gy for target, (gy, _) in common.items()}


def _listed(names: Sequence[str]) -> str:
    """The first few of many names."""
    return f"{', '.join(names[:_SHOWN])}{' …' if len(names) > _SHOWN else ''}"
