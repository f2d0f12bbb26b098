"""A result of the scene as the panel's texts and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .flow.state import TemplateFacts
from .i18n import _
from .plan_facts import PLAN_OPTION
from .result_tables import Table, change_table, dvh_table, goals_table, scores_table
from .review_table import review_table

if TYPE_CHECKING:
    from DosePredictionLib.evaluation.result import GoalResults
    from DosePredictionLib.findings import Finding
    from DosePredictionLib.scene import SceneResult

__all__ = [
    "bands_note",
    "further_outputs",
    "has_bands",
    "result_findings",
    "result_summary",
    "result_tables",
    "template_facts",
]


def template_facts() -> tuple[TemplateFacts, ...]:
    """The shipped goal templates, and what each is written for."""
    from DosePredictionLib.evaluation.goals import GoalSet

    facts = []
    for name in GoalSet.available():
        goals = GoalSet.load(name)
        low_gy, high_gy = goals.prescription_gy or (None, None)
        facts.append(TemplateFacts(name, goals.title, goals.protocol, low_gy, high_gy))
    return tuple(facts)


def result_summary(result: SceneResult) -> str:
    """A line on what is shown."""
    from DosePredictionLib.report.wording import number

    body, _plan = result.measures.body
    text = _("Highest dose {highest} Gy, {count} structures.").format(
        highest=number(body.max_gy), count=len(result.measures.predicted)
    )
    if result.measures.scores is None:
        return text
    error = number(result.measures.scores.get("mae_body_gy"), 2)
    against = _("Against the plan: {error} Gy mean error in the body.")
    return f"{text} {against.format(error=error)}"


def has_bands(result: SceneResult) -> bool:
    """Whether its chart has bands or samples, to be switched."""
    return result.bands.content is not None or result.bands.samples is not None


def bands_note(result: SceneResult) -> str:
    """On whom bands and probabilities are calibrated, and how the plan lies, or why there are
    none; and how many samples were drawn."""
    drawn = result.bands.samples
    if drawn is None:
        return _calibration_note(result)
    text = _("Thin curves: {count} samples, seeds {first} to {last}.")
    last = drawn["seed"] + drawn["count"] - 1
    said = text.format(count=drawn["count"], first=drawn["seed"], last=last)
    return f"{_calibration_note(result)} {said}"


def _calibration_note(result: SceneResult) -> str:
    from DosePredictionLib.evaluation.plan_review import review_summary
    from DosePredictionLib.report.wording import clean

    bands = result.bands
    if bands.content is None:
        missing = _("No bands and no probabilities of goals: the model was not calibrated.")
        return bands.missing or missing
    calibration = bands.content["calibration"]
    text = _("90 % and 50 % bands, calibrated on {count} patients{cohort}.")
    cohort = clean(calibration["cohort"])
    lines = [text.format(count=calibration["patients"], cohort=f" ({cohort})" if cohort else "")]
    if bands.structures is None:
        lines.append(_("No probabilities of goals: this scene does not hold them. Predict again."))
    if bands.review is not None and bands.review["reviewed"]:
        summary = review_summary(bands.review)
        lines.append(f"{summary[0].upper()}{summary[1:]}.")
    return " ".join(lines)


def result_findings(result: SceneResult) -> tuple[Finding, ...]:
    """What was noticed of the dose, and which parts of the case look foreign to the model."""
    from DosePredictionLib.checks.registry import OF_THE_RESULT

    return tuple(each for each in result.record.findings if each.id in OF_THE_RESULT)


def result_tables(result: SceneResult, other: SceneResult | None = None) -> dict[str, Table]:
    """Tables by tab; those without content have no rows.

    Args:
        other: the result that it is compared with.
    """
    names = {key: info.name for key, info in result.segments.items()}
    empty = Table((), ())
    bands = (result.bands.content or {}).get("structures", {})
    ours, theirs = result.measures, None if other is None else other.measures
    title = _("Deliverable") if PLAN_OPTION in result.record.options else ""
    goals = empty
    if ours.goals:
        others = _other_goals(result, other)
        likely = result.bands.likely(ours.goals)
        goals = goals_table(likely, ours.planned_goals, others, bands, title)
    curves = None if theirs is None else theirs.predicted
    return {
        "goals": goals,
        "dvh": dvh_table(ours.predicted, ours.planned, curves, names, bands, title),
        "review": review_table(result.bands.review, names),
        "scores": scores_table(ours.scores),
        "change": empty if curves is None else change_table(curves, ours.predicted, names),
    }


def _other_goals(result: SceneResult, other: SceneResult | None) -> GoalResults | None:
    """The other result's, if both were held against one template."""
    if other is None:
        return None
    one, two = ([goal["goal"] for goal in each.goals or ()] for each in (result, other))
    return other.goals if one == two else None


def further_outputs(result: SceneResult) -> tuple[tuple[str, str], ...]:
    """Role and label of the volumes beside the dose, as the scene has them."""
    from DosePredictionLib.scene import is_further_output

    found = []
    for role, node in result.nodes.items():
        if is_further_output(role, node):
            label = str(node.GetName()).rpartition(": ")[2]
            found.append((role, label[:1].upper() + label[1:]))
    return tuple(found)
