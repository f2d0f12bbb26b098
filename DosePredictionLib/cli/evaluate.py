"""`evaluate`: how far a dose lies from a plan's, for one case or a cohort."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..app.summary import goal_resolver, report_structures, scored_structures
from ..case import Case
from ..errors import CaseError, DosePredictionError, GeometryError
from ..evaluation.cohort import (
    CASE_SCORES,
    SCORE_LABELS,
    compare_models,
    describe_cohort,
    structure_errors,
    write_csv,
)
from ..evaluation.dvh import dvhs
from ..evaluation.evaluate import evaluate_case, require_plausible_dose, summarize_cohort
from ..evaluation.goals import GoalSet
from ..evaluation.scorecard import Scorecard, score_plan
from ..external import derive_external
from ..findings import Finding
from ..inference.device import usable_cores
from ..io import case_name, read_case
from ..io.doses import DOSE_GAP, read_dose
from ..mask import to_binary
from ..structures.mapping import StructureMapping, map_structures
from ..structures.protocol import StructureProtocol
from ..volume import Volume
from .codes import EXIT_SOME_FAILED
from .options import (
    add_goals_option,
    add_json_option,
    add_mapping_options,
    chosen_goals,
    chosen_mapping,
    protocol_of,
)
from .output import Output, goals_in_words

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("evaluate", help="score predicted doses against plans")
    parser.add_argument("--case", type=Path, help="one case, with its plan dose")
    parser.add_argument("--prediction", type=Path, help="its predicted dose")
    parser.add_argument("--reference", type=Path, help="another dose than the case's plan")
    parser.add_argument("--cohort", type=Path, help="folder of cases")
    parser.add_argument("--predictions", type=Path, help="folder with <case>/dose.* for each")
    parser.add_argument(
        "--gamma",
        action="append",
        default=[],
        metavar="3%/3mm",
        help="gamma criterion (repeatable)",
    )
    add_goals_option(parser)
    parser.add_argument("--scorecard", type=Path, help="a Varian plan scorecard (JSON) to score")
    parser.add_argument("--report", type=Path, metavar="FILE", help="of one case: an HTML report")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every number as a table")
    parser.add_argument(
        "--compare", type=Path, metavar="DIR", help="of a cohort: another model's predictions"
    )
    parser.add_argument("--no-resample", action="store_true", help="refuse a dose on another grid")
    parser.add_argument("--protocol", help="id of the protocol (default: the one that fits)")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="for a cohort")
    add_mapping_options(parser)
    add_json_option(parser)
    parser.set_defaults(run=run)


@dataclass(frozen=True, eq=False)
class _Evaluated:
    """One case with its doses on one grid, what they scored, and what was noticed on the way."""

    case: Case
    protocol: StructureProtocol
    mapping: StructureMapping
    prediction: Volume
    reference: Volume
    body: Volume
    record: dict[str, Any]
    findings: list[Finding]


def run(call: argparse.Namespace, output: Output) -> int:
    """Evaluate one case, or a cohort."""
    one, cohort = (call.case, call.prediction), (call.cohort, call.predictions)
    if all(one) and not any((*cohort, call.compare)):
        evaluated = evaluate_files(call.case, call.prediction, call)
        output.findings(evaluated.findings)
        if call.csv:
            write_csv(call.csv, [evaluated.record])
        if call.report:
            _write_report(evaluated, call.report)
        output.result(evaluated.record, _describe(evaluated.record))
        return 0
    if all(cohort) and not any((*one, call.report)):
        return _run_cohort(call, output)
    raise DosePredictionError(
        "evaluate takes --case CASE --prediction FILE [--report FILE], or --cohort DIR "
        "--predictions DIR [--compare DIR]."
    )


def evaluate_files(path: Path, dose_path: Path, call: argparse.Namespace) -> _Evaluated:
    """Read one case and a predicted dose, and score the dose against the plan's."""
    case = read_case(path)
    protocol = protocol_of(case, call.protocol)
    mapping = map_structures(list(case.structures), protocol, chosen_mapping(call, protocol))
    named = scored_structures(case, protocol, mapping)
    structures = {name: mask for name, (mask, _) in named.items()}
    scored = {
        name: mask
        for name, (mask, channel) in named.items()
        if channel is not None and channel.role != "external"
    }
    resample = not call.no_resample
    frame = case.origin.frame_of_reference_uid if case.origin else None
    prediction, findings = read_dose(dose_path, case.grid, scored, resample, frame)
    reference, reference_label = case.plan_dose, "The plan dose"
    if call.reference is not None:
        reference, noticed = read_dose(call.reference, case.grid, scored, resample, frame)
        reference_label = str(call.reference)
        findings += noticed
    elif reference is None:
        raise CaseError(f"{path} has no plan dose: name one by --reference.")
    else:
        _require_covered(case, protocol, mapping)
    require_plausible_dose(prediction, str(dose_path))
    require_plausible_dose(reference, reference_label)
    body = _body(case, protocol, structures)
    prescriptions_gy = case.prescription.target_gy if case.prescription else {}
    goals = chosen_goals(call)
    if goals == "suiting":
        goals = GoalSet.suiting(protocol.id, prescriptions_gy)
    resolve = goal_resolver(named, protocol, mapping)
    curves = dvhs(prediction, structures)
    record = {
        "case": case.name,
        "protocol": protocol.id,
        **evaluate_case(
            prediction,
            reference,
            structures,
            targets=[channel.name for channel in protocol.targets],
            organs=[channel.name for channel in protocol.organs],
            body=body,
            prescriptions_gy=prescriptions_gy,
            dose_mask=case.dose_mask,
            goals=goals or (),
            resolve=resolve,
            curves=curves,
        ),
        "goal_set": goals.id if goals else None,
        "gamma": _gamma(call.gamma, reference, prediction),
        "checks": [finding.as_json() for finding in findings],
    }
    if call.scorecard is not None:
        card = Scorecard.read(call.scorecard)
        # The card's own prescription counts only for a case that has none.
        record["scorecard"] = score_plan(
            card,
            curves,
            resolve=resolve,
            prescription_gy=max(prescriptions_gy.values(), default=None),
        )
    return _Evaluated(case, protocol, mapping, prediction, reference, body, record, findings)


def _write_report(evaluated: _Evaluated, path: Path) -> None:
    from ..report import ReportInput, write_report

    named = scored_structures(evaluated.case, evaluated.protocol, evaluated.mapping)
    report = ReportInput(
        case=evaluated.case,
        prediction=evaluated.prediction,
        structures=report_structures(named, evaluated.body),
        reference=evaluated.reference,
        metadata={"protocol": evaluated.protocol.title, "findings": evaluated.findings},
        evaluation=evaluated.record,
    )
    write_report(report, path)


def _require_covered(case: Case, protocol: StructureProtocol, mapping: StructureMapping) -> None:
    """Refuse a plan dose that leaves part of a target or organ out."""
    channels = [*protocol.targets, *protocol.organs]
    scored = {mapping.structure(channel.name) for channel in channels}
    for finding in case.findings:
        if finding.id == DOSE_GAP and finding.structure in scored:
            raise GeometryError(f"{finding.message} At least 99 % are needed for scores.")


def _body(case: Case, protocol: StructureProtocol, structures: Mapping[str, Volume]) -> Volume:
    channel = protocol.external
    if channel is not None and channel.name in structures:
        mask = structures[channel.name]
        return mask.with_array(to_binary(mask.array))
    return derive_external(case.ct)


def _gamma(criteria: list[str], reference: Volume, prediction: Volume) -> dict[str, Any]:
    if not criteria:
        return {}
    from ..evaluation.gamma import gamma_pass_rates

    return gamma_pass_rates(reference, prediction, criteria)


def _run_cohort(call: argparse.Namespace, output: Output) -> int:
    records, failed, unpaired = _evaluated_cohort(call, call.predictions)
    summary = summarize_cohort(records) if records else {}
    comparison: list[dict[str, Any]] = []
    text = describe_cohort(records, summary)
    if call.compare is not None:
        others, failed_others, _ = _evaluated_cohort(call, call.compare)
        failed += failed_others
        comparison = [
            compare_models(records, others, key)
            for key in CASE_SCORES
            if any(record.get(key) is not None for record in records)
        ]
        text += "\n" + _describe_comparison(comparison, call.compare)
    for failure in failed:
        output.note(f"error: {failure['case']}: {failure['error']}")
    if unpaired:
        output.note(f"not paired: {', '.join(unpaired)}")
    if call.csv:
        write_csv(call.csv, records)
    result = {
        "cases": records,
        "summary": summary,
        "structures": structure_errors(records),
        "comparison": comparison,
        "unpaired": unpaired,
        "failed": failed,
    }
    output.result(result, text)
    return EXIT_SOME_FAILED if failed else 0


def _evaluated_cohort(
    call: argparse.Namespace, predictions: Path
) -> tuple[list[dict[str, Any]], list[dict[str, str]], list[str]]:
    """Records, failures, and the names that have no partner."""
    pairs, unpaired = _pairs(call.cohort, predictions)
    if not pairs:
        raise DosePredictionError(
            f"No case of {call.cohort} has a dose in {predictions}/<case>/dose.nii.gz."
        )
    with ProcessPoolExecutor(max(1, min(call.workers, len(pairs)))) as pool:
        results = list(pool.map(partial(_one_of_cohort, call=call), pairs))
    failed = [
        {"case": case_name(case), "error": error}
        for (case, _), (_, error) in zip(pairs, results, strict=True)
        if error is not None
    ]
    return [record for record, error in results if error is None], failed, unpaired


def _one_of_cohort(
    pair: tuple[Path, Path], call: argparse.Namespace
) -> tuple[dict[str, Any], str | None]:
    """The record of one pair, or the reason why there is none; runs in a worker."""
    try:
        return evaluate_files(*pair, call).record, None
    except (DosePredictionError, OSError) as exception:
        return {}, " ".join(str(exception).split())


def _pairs(cohort: Path, predictions: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Cases with their doses, and the names of cases and doses that have no partner."""
    for folder in (cohort, predictions):
        if not folder.is_dir():
            raise DosePredictionError(f"There is no folder {folder}.")
    cases = {
        case_name(path): path
        for path in sorted(cohort.iterdir())
        if path.is_dir() or path.suffix == ".npz"
    }
    doses = {
        folder.name: dose
        for folder in sorted(predictions.iterdir())
        if (dose := next(iter(sorted(folder.glob("dose.*"))), None)) is not None
    }
    paired = [(cases[name], doses[name]) for name in cases if name in doses]
    return paired, sorted(set(cases) ^ set(doses))


def _describe(record: dict[str, Any]) -> str:
    lines = [f"{record['case']} ({record['protocol']})"]
    for key, label in SCORE_LABELS.items():
        if record.get(key) is not None:
            lines.append(f"  {label:<28}{record[key]:8.3f}")
    for criterion, value in record["gamma"].items():
        lines.append(f"  gamma {criterion:<22}{value['pass_rate_percent']:8.2f} %")
    lines.append(f"  {'structure':<24}{'cc':>9}{'MAE Gy':>8}{'mean Gy':>9}{'plan Gy':>9}")
    for name, values in record["structures"].items():
        mean = values["endpoints"]["Dmean_gy"]
        lines.append(
            f"  {name:<24}{values['volume_cc']:>9.1f}{values['mae_gy']:>8.2f}"
            f"{mean['prediction']:>9.2f}{mean['reference']:>9.2f}"
        )
    if record["goals"]:
        lines.append(f"  goals ({record['goal_set']}): {goals_in_words(record['goals'])}")
        lines += [_goal_line(goal) for goal in record["goals"] if goal["value"] is not None]
    if "scorecard" in record:
        lines += _scorecard_lines(record["scorecard"])
    return "\n".join(lines)


def _goal_line(goal: dict[str, Any]) -> str:
    plan = goal.get("reference", {}).get("value")
    beside = "" if plan is None else f"   plan {plan:.2f}"
    unit, status = goal["unit"], goals_in_words([goal])[2:]
    text = f"    {goal['structure']:<22}{goal['goal']:<20}{goal['value']:8.2f} {unit:<4}"
    return f"{text}{status:<18}{beside}".rstrip()


def _scorecard_lines(card: dict[str, Any]) -> list[str]:
    if card["score"] is None:
        return [f"  scorecard {card['title']}: no line could be scored"]
    left_out = sum(line["score"] is None for line in card["lines"])
    note = f", {left_out} lines not evaluable" if left_out else ""
    return [f"  scorecard {card['title']}: {card['score']:.2f} of {card['highest']:g}{note}"]


def _describe_comparison(comparison: list[dict[str, Any]], other: Path) -> str:
    lines = [f"{other} minus these, paired by patient (Wilcoxon signed-rank, two-sided):"]
    for entry in comparison:
        low, high = entry["ci95"]
        p = "" if entry["p_value"] is None else f"  p = {entry['p_value']:.3g}"
        text = f"{entry['key']:<24}{entry['mean_difference']:>+9.3f}"
        lines.append(f"{text}  (95 % {low:+.3f} to {high:+.3f}){p}")
    return "\n".join(lines)
