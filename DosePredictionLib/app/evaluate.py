"""Evaluation of doses from files: one case against its plan, or a cohort."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..case import Case
from ..checks.plan_dose import (
    NOT_COMPARABLE,
    plan_finding,
    require_possible_dose,
    scored_structures,
)
from ..errors import CaseError, DosePredictionError, GeometryError
from ..evaluation.calibration import Calibration, read_calibration
from ..evaluation.cohort import CASE_SCORES, compare_models, structure_errors, summarize_cohort
from ..evaluation.coverage import cohort_coverage
from ..evaluation.deliverability import Deliverability, deliverability
from ..evaluation.evaluate import Evaluation, EvaluationParts, evaluate
from ..evaluation.gamma import MAX_GAMMA
from ..evaluation.goal_probability import with_probabilities
from ..evaluation.plan_review import plan_review
from ..evaluation.scorecard import Scorecard
from ..evaluation.widths import curve_doses
from ..findings import DOSE_GAP, Finding, each_once
from ..io import case_name, read_case
from ..io.doses import read_dose
from ..processes import parallel_map, usable_cores
from ..schema import to_json
from ..structures.bound import BoundCase, bind
from ..structures.protocol import StructureProtocol
from ..volume import Volume
from .bands import read_record
from .choices import BeamsChoice, MappingChoice
from .outputs import RECORD
from .several import CaseFailure, failure_text

if TYPE_CHECKING:
    from ..evaluation.goals import GoalSet

__all__ = [
    "CaseEvaluation",
    "CohortEvaluation",
    "CohortRequest",
    "EvaluateRequest",
    "EvaluationSettings",
    "cohort_pairs",
    "evaluate_case_files",
    "evaluate_cohort",
    "write_evaluation_report",
]


@dataclass(frozen=True)
class EvaluationSettings:
    """How doses are evaluated.

    Args:
        protocol: id; None: the mapping file's, or the one that fits. If none fits, every structure
            stands for itself.
        mapping: structures for channels.
        resample: whether a dose on another grid is resampled onto the structures'.
        gamma: criteria, as "3%/3mm".
        max_gamma: where the search for gamma ends; above 1 it changes no pass rate.
        goals: what doses are judged by; "default": the shipped set for the case.
        scorecard: file of a plan scorecard.
        curves: whether records hold the doses at 1, 2, … 99 % of each structure's volume.
        deliverable: hold the prediction against what the beams can give, too.
        beams: go before the cases' own.
    """

    protocol: str | None = None
    mapping: MappingChoice = field(default_factory=MappingChoice)
    resample: bool = True
    gamma: tuple[str, ...] = ()
    max_gamma: float | None = MAX_GAMMA
    goals: GoalSet | Literal["default"] | None = "default"
    scorecard: Path | None = None
    curves: bool = False
    deliverable: bool = False
    beams: BeamsChoice = field(default_factory=BeamsChoice)


@dataclass(frozen=True)
class EvaluateRequest:
    """One case and its dose.

    Args:
        case: what `read_case` takes.
        prediction: the dose.
        reference: another dose than the case's plan.
        calibration: of the model that predicted; its record lies beside the dose.
    """

    case: Path
    prediction: Path
    reference: Path | None = None
    settings: EvaluationSettings = field(default_factory=EvaluationSettings)
    calibration: Path | None = None


@dataclass(frozen=True)
class CohortRequest:
    """A folder of cases, paired with a folder of predictions.

    Args:
        cases: `cases/<case>`.
        predictions: `predictions/<case>/dose.*`.
        compare: another model's predictions.
        workers: processes; None: one a core.
        calibration: of the model, whose bands are measured on the cohort.
    """

    cases: Path
    predictions: Path
    compare: Path | None = None
    settings: EvaluationSettings = field(default_factory=EvaluationSettings)
    workers: int | None = None
    calibration: Path | None = None


@dataclass(frozen=True, eq=False)
class CaseEvaluation:
    """One case with its doses on one grid, their numbers, and what was noticed on the way.

    `deliverability` is None where it was not asked for, `calibration` where none was named.
    """

    bound: BoundCase
    prediction: Volume
    reference: Volume
    evaluation: Evaluation
    findings: tuple[Finding, ...]
    deliverability: Deliverability | None = None
    calibration: Calibration | None = None

    def as_json(self) -> dict[str, Any]:
        """The record of `evaluate`."""
        record = {
            "case": self.bound.case.name,
            **self.evaluation.as_json(),
            "checks": [finding.as_json() for finding in self.findings],
        }
        if self.deliverability is not None:
            record["deliverability"] = self.deliverability.as_json()
        if self.calibration is not None:
            known = self.calibration.for_case(self.evaluation.widths)
            record["goals"] = with_probabilities(record["goals"], known)
            record["bands"] = self.calibration.bands(self.evaluation)
            record["review"] = plan_review(self.evaluation, known)
        return record

    def for_bands(self) -> dict[str, Any]:
        """What a calibration takes beside the record: `curves`, and `widths` where known."""
        widths = self.evaluation.widths
        return {"curves": self.curves(), **({"widths": to_json(widths)} if widths else {})}

    def curves(self) -> dict[str, Any]:
        """Structure → doses in Gy at 1, 2, … 99 % of its volume, all but the external contour's."""
        planned = self.evaluation.planned or {}
        return {
            name: {
                "prediction_gy": curve_doses(dvh.curve).tolist(),
                "reference_gy": curve_doses(plan.curve).tolist(),
            }
            for name, dvh in self.evaluation.predicted.items()
            if name != self.evaluation.external
            and dvh.curve is not None
            and (plan := planned.get(name)) is not None
            and plan.curve is not None
        }


@dataclass(frozen=True)
class CohortEvaluation:
    """Records of a cohort and their statistics.

    Args:
        records: of `CaseEvaluation.as_json`.
        failed: pairs that could not be evaluated, of both models.
        unpaired: cases and doses without a partner.
        comparison: of another model with this one, by score.
        bands: what a calibration's bands hold; None without one.
    """

    records: tuple[Mapping[str, Any], ...]
    failed: tuple[CaseFailure, ...]
    unpaired: tuple[str, ...]
    comparison: tuple[Mapping[str, Any], ...] = ()
    bands: Mapping[str, Any] | None = None
    summary: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        summary = summarize_cohort(self.records) if self.records else {}
        object.__setattr__(self, "summary", summary)

    def as_json(self) -> dict[str, Any]:
        """The JSON object of a cohort."""
        record = {
            "cases": list(self.records),
            "summary": self.summary,
            "structures": structure_errors(self.records),
            "comparison": list(self.comparison),
            "unpaired": list(self.unpaired),
            "failed": [failure.as_json() for failure in self.failed],
        }
        return record if self.bands is None else {**record, "bands": self.bands}


def evaluate_case_files(request: EvaluateRequest) -> CaseEvaluation:
    """Read a case and a dose, and evaluate the dose against the plan's.

    Raises:
        DosePredictionError: one cannot be read, there is no plan, a dose cannot be one, it does
            not cover what is scored, or the calibration is not of the model that predicted it or of
            its prescription.
    """
    settings = request.settings
    calibration = None if request.calibration is None else read_calibration(request.calibration)
    made = request.prediction.parent / RECORD
    if calibration is not None:
        read_record(made).require_calibrated(calibration, str(made))
    wants_widths = calibration is not None or settings.curves
    widths = read_record(made).widths if wants_widths and made.is_file() else {}
    bound = _bound(settings.beams.of(read_case(request.case)), settings)
    case = bound.case
    scored = scored_structures(bound)
    frame = case.origin.frame_of_reference_uid if case.origin else None
    read = partial(
        read_dose, grid=case.grid, structures=scored, resample=settings.resample, frame_uid=frame
    )
    prediction, findings = read(request.prediction)
    findings += require_possible_dose(bound, prediction, str(request.prediction))
    reference = case.plan_dose
    if request.reference is not None:
        reference, noticed = read(request.reference)
        findings += noticed
        findings += require_possible_dose(bound, reference, str(request.reference))
    elif reference is None:
        raise CaseError(f"{request.case} has no plan dose: name one by --reference.")
    else:
        _require_comparable(bound)
    parts = EvaluationParts(
        reference=reference,
        goals=settings.goals,
        gamma=settings.gamma,
        max_gamma=settings.max_gamma,
        scorecard=None if settings.scorecard is None else Scorecard.read(settings.scorecard),
    )
    evaluation = replace(evaluate(bound, prediction, parts), widths=widths)
    findings = [*findings, *bound.findings]
    found = deliverability(bound, prediction) if settings.deliverable else None
    if found is not None:
        findings.append(found.finding)
    every = tuple(each_once(findings))
    return CaseEvaluation(bound, prediction, reference, evaluation, every, found, calibration)


def evaluate_cohort(request: CohortRequest) -> CohortEvaluation:
    """Evaluate every case that has a dose; one that fails is listed.

    Raises:
        DosePredictionError: there is no folder, or no pair, or the calibration is not of the model
            that predicted, of another prescription, or of these very patients.
    """
    calibration = None if request.calibration is None else read_calibration(request.calibration)
    if calibration is not None:
        for _, folder in cohort_pairs(request.cases, request.predictions)[0]:
            read_record(folder / RECORD).require_calibrated(calibration, str(folder / RECORD))
        request = replace(request, settings=replace(request.settings, curves=True))
    records, failed, unpaired = _evaluated(request, request.predictions)
    comparison: list[dict[str, Any]] = []
    if request.compare is not None:
        others, failed_others, _ = _evaluated(request, request.compare)
        failed += failed_others
        comparison = [
            compare_models(records, others, key)
            for key in CASE_SCORES
            if any(record.get(key) is not None for record in records)
        ]
    bands = None if calibration is None else cohort_coverage(calibration, records)
    parts = tuple(records), tuple(failed), tuple(unpaired), tuple(comparison)
    return CohortEvaluation(*parts, bands)


def write_evaluation_report(evaluated: CaseEvaluation, path: Path) -> None:
    """Write the HTML report of one case."""
    from ..report import ReportInput, write_report
    from ..report.content import Metadata
    from .summary import report_structures

    bound = evaluated.bound
    record = evaluated.as_json()
    metadata = Metadata(findings=evaluated.findings, prescription_gy=bound.prescriptions_gy)
    if bound.protocol is not None:
        metadata["protocol"] = bound.protocol.title
    report = ReportInput(
        case=bound.case,
        prediction=evaluated.prediction,
        structures=report_structures(bound),
        reference=evaluated.reference,
        metadata=metadata,
        evaluation=record,
        bands=record.get("bands") or {},
    )
    write_report(report, path)


def _bound(case: Case, settings: EvaluationSettings) -> BoundCase:
    """The case bound to the protocol that was named, that the mapping is for, or that fits.

    Without a protocol a structure that the plan leaves out has no numbers.
    """
    named = settings.protocol or settings.mapping.protocol
    protocol = None if named is None else StructureProtocol.load(named)
    bound = bind(case, protocol, settings.mapping.of(protocol))
    gaps = {finding.structure for finding in case.findings if finding.id == DOSE_GAP}
    gaps.discard(bound.external_name)
    if bound.protocol is not None or not gaps:
        return bound
    covered = {name: mask for name, mask in case.structures.items() if name not in gaps}
    return replace(bound, case=replace(case, structures=covered))


def _require_comparable(bound: BoundCase) -> None:
    """Refuse a plan dose that does not belong, or leaves part of a target or organ out."""
    found = plan_finding(bound)
    if found is not None:
        kind = GeometryError if found.id == NOT_COMPARABLE else CaseError
        raise kind(f"{bound.case.name}: {found.message} {found.remedy}")


def _evaluated(
    request: CohortRequest, predictions: Path
) -> tuple[list[dict[str, Any]], list[CaseFailure], list[str]]:
    """Records, failures, and the names that have no partner."""
    pairs, unpaired = cohort_pairs(request.cases, predictions)
    if not pairs:
        raise DosePredictionError(
            f"No case of {request.cases} has a dose in {predictions}/<case>/dose.nii.gz."
        )
    workers = usable_cores() if request.workers is None else request.workers
    work = partial(_one_of_cohort, settings=request.settings)
    done = sorted(parallel_map(work, pairs, workers), key=lambda result: result[0])
    results = [record for _, record in done]
    failed = [result for result in results if isinstance(result, CaseFailure)]
    return [each for each in results if not isinstance(each, CaseFailure)], failed, unpaired


def _one_of_cohort(
    pair: tuple[Path, Path], settings: EvaluationSettings
) -> dict[str, Any] | CaseFailure:
    """The record of one pair, or the reason why there is none; runs in a process of its own."""
    try:
        dose = _dose_of(pair[1])
        done = evaluate_case_files(EvaluateRequest(pair[0], dose, None, settings))
        return {**done.as_json(), **(done.for_bands() if settings.curves else {})}
    except Exception as exception:  # whatever one case can raise is that case's failure
        return CaseFailure(case_name(pair[0]), failure_text(exception))


def cohort_pairs(cohort: Path, predictions: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Cases with the folders of their doses, and the names that have no partner.

    Raises:
        DosePredictionError: there is no such folder.
    """
    for folder in (cohort, predictions):
        if not folder.is_dir():
            raise DosePredictionError(f"There is no folder {folder}.")
    cases = {
        case_name(path): path
        for path in sorted(cohort.iterdir())
        if path.is_dir() or path.suffix == ".npz"
    }
    doses = {
        folder.name: folder for folder in sorted(predictions.iterdir()) if any(_doses_in(folder))
    }
    paired = [(cases[name], doses[name]) for name in cases if name in doses]
    return paired, sorted(set(cases) ^ set(doses))


def _doses_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("dose.*"))


def _dose_of(folder: Path) -> Path:
    """The dose in a prediction's folder: the one that its record names, or the only one.

    Raises:
        CaseError: there are several, and no record says which is meant.
    """
    doses = _doses_in(folder)
    try:
        named = json.loads((folder / RECORD).read_text(encoding="utf-8"))["dose"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        named = None
    for dose in doses:
        if dose.name == named or len(doses) == 1:
            return dose
    listed = ", ".join(dose.name for dose in doses)
    raise CaseError(f"{folder} holds {len(doses)} doses ({listed}): leave one there.")
