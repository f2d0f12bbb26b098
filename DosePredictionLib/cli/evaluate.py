"""`evaluate`: how far a dose lies from a plan's, for one case or a cohort."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..app.choices import BeamsChoice, MappingChoice, chosen_goals
from ..app.codes import EXIT_SOME_FAILED
from ..app.evaluate import (
    CohortRequest,
    EvaluateRequest,
    EvaluationSettings,
    evaluate_case_files,
    evaluate_cohort,
    write_evaluation_report,
)
from ..app.options import DELIVERABLE_OPTION, GOALS_OPTION, MAPPING_OPTIONS
from ..app.output import Output, goals_in_words
from ..errors import DosePredictionError
from ..evaluation.cohort import SCORE_LABELS, describe_cohort, write_csv
from ..evaluation.coverage import describe_coverage
from ..evaluation.gamma import MAX_GAMMA
from ..evaluation.goal_probability import probability_words
from ..evaluation.plan_review import review_line, review_summary
from .options import add_json_option, add_options
from .several import note_failure

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
    parser.add_argument(
        "--max-gamma",
        type=float,
        default=MAX_GAMMA,
        help="where the search ends (default %(default)s)",
    )
    add_options(parser, GOALS_OPTION)
    parser.add_argument("--scorecard", type=Path, help="a Varian plan scorecard (JSON) to score")
    add_options(parser, DELIVERABLE_OPTION)
    parser.add_argument(
        "--beams",
        metavar="NAME|ANGLES",
        help="that --deliverable asks of (default: the case's own, else the protocol's)",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="of one case: an HTML report")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every number as a table")
    parser.add_argument(
        "--compare", type=Path, metavar="DIR", help="of a cohort: another model's predictions"
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="the model's calibration.json: of a case, hold its plan against the bands; of a "
        "cohort, measure what they hold",
    )
    parser.add_argument("--no-resample", action="store_true", help="refuse a dose on another grid")
    parser.add_argument("--protocol", help="id of the protocol (default: the one that fits)")
    parser.add_argument("--workers", type=int, help="for a cohort (default: one a core)")
    add_options(parser, MAPPING_OPTIONS)
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(call: argparse.Namespace, output: Output) -> int:
    """Evaluate one case, or a cohort."""
    one, cohort = (call.case, call.prediction), (call.cohort, call.predictions)
    settings = EvaluationSettings(
        protocol=call.protocol,
        mapping=MappingChoice.parse(call.map, call.mapping),
        resample=not call.no_resample,
        gamma=tuple(call.gamma),
        max_gamma=call.max_gamma,
        goals=chosen_goals(call.goals),
        scorecard=call.scorecard,
        deliverable=call.deliverable,
        beams=BeamsChoice.parse(call.beams),
    )
    if all(one) and not any((*cohort, call.compare)):
        doses = (call.prediction, call.reference)
        subject = EvaluateRequest(call.case, *doses, settings, call.calibration)
        return _run_case(subject, call.csv, call.report, output)
    if all(cohort) and not any((*one, call.report, call.reference)):
        folders = (call.cohort, call.predictions, call.compare)
        request = CohortRequest(*folders, settings, call.workers, call.calibration)
        return _run_cohort(request, call.csv, output)
    raise DosePredictionError(
        "evaluate takes --case CASE --prediction FILE [--reference FILE] [--report FILE] "
        "[--calibration FILE], or "
        "--cohort DIR --predictions DIR [--compare DIR] [--calibration FILE]."
    )


def _run_case(
    request: EvaluateRequest, csv: Path | None, report: Path | None, output: Output
) -> int:
    evaluated = evaluate_case_files(request)
    output.findings(evaluated.findings)
    record = evaluated.as_json()
    if csv:
        write_csv(csv, [record])
    if report:
        write_evaluation_report(evaluated, report)
    output.result(record, _describe(record))
    return 0


def _run_cohort(request: CohortRequest, csv: Path | None, output: Output) -> int:
    cohort = evaluate_cohort(request)
    text = describe_cohort(cohort.records, cohort.summary)
    if request.compare is not None:
        text += "\n" + _describe_comparison(cohort.comparison, request.compare)
    if cohort.bands is not None:
        text += "\n" + describe_coverage(cohort.bands)
    for failure in cohort.failed:
        note_failure(output)(failure)
    if cohort.unpaired:
        output.note(f"not paired: {', '.join(cohort.unpaired)}")
    if csv:
        write_csv(csv, cohort.records)
    output.result(cohort.as_json(), text)
    return EXIT_SOME_FAILED if cohort.failed else 0


def _describe(record: dict[str, Any]) -> str:
    lines = [f"{record['case']} ({record['protocol'] or 'no protocol'})"]
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
    if record.get("review"):
        lines += _review_lines(record["review"])
    if "scorecard" in record:
        lines += _scorecard_lines(record["scorecard"])
    return "\n".join(lines)


def _goal_line(goal: dict[str, Any]) -> str:
    plan = goal.get("reference", {}).get("value")
    beside = "" if plan is None else f"   plan {plan:.2f}"
    unit, status = goal["unit"], goals_in_words([goal])[2:]
    text = f"    {goal['structure']:<22}{goal['goal']:<20}{goal['value']:8.2f} {unit:<4}"
    return f"{text}{status:<18}{beside:<15}   {probability_words(goal)}".rstrip()


def _review_lines(review: Mapping[str, Any]) -> list[str]:
    """What of a plan lies outside its bands, a line each."""
    return [f"  {review_summary(review)}", *(f"    {review_line(row)}" for row in review["rows"])]


def _scorecard_lines(card: dict[str, Any]) -> list[str]:
    if card["score"] is None:
        return [f"  scorecard {card['title']}: no line could be scored"]
    left_out = sum(line["score"] is None for line in card["lines"])
    note = f", {left_out} lines not evaluable" if left_out else ""
    return [f"  scorecard {card['title']}: {card['score']:.2f} of {card['highest']:g}{note}"]


def _describe_comparison(comparison: Sequence[Mapping[str, Any]], other: Path) -> str:
    lines = [f"{other} minus these, paired by patient (Wilcoxon signed-rank, two-sided):"]
    for entry in comparison:
        low, high = entry["ci95"]
        p = "" if entry["p_value"] is None else f"  p = {entry['p_value']:.3g}"
        text = f"{entry['key']:<24}{entry['mean_difference']:>+9.3f}"
        lines.append(f"{text}  (95 % {low:+.3f} to {high:+.3f}){p}")
    return "\n".join(lines)
