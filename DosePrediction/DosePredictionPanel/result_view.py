"""A result of the scene as the panel's texts and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .flow.state import TemplateFacts
from .i18n import _
from .result_tables import Table, change_table, dvh_table, goals_table, scores_table

if TYPE_CHECKING:
    from DosePredictionLib.scene import SceneResult

__all__ = ["result_summary", "result_tables", "template_facts"]


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
    text = _("{name}: highest dose {highest} Gy, {count} structures.").format(
        name=result.name, highest=number(body.max_gy), count=len(result.measures.predicted)
    )
    if result.measures.scores is None:
        return text
    error = number(result.measures.scores.get("mae_body_gy"), 2)
    against = _("Against the plan: {error} Gy mean error in the body.")
    return f"{text} {against.format(error=error)}"


def result_tables(result: SceneResult, before: SceneResult | None = None) -> dict[str, Table]:
    """Tables by tab; those without content have no rows.

    Args:
        before: the result that this one replaced, for what changed.
    """
    labels = {channel.name: channel.label for channel in result.protocol.channels}
    empty = Table((), ())
    goals = empty
    if result.goals:
        of_before = before.goals if before and _same_goals(before, result) else None
        goals = goals_table(result.goals, result.planned_goals, of_before)
    return {
        "goals": goals,
        "dvh": dvh_table(result.measures.predicted, result.measures.planned, labels),
        "scores": scores_table(result.measures.scores),
        "change": change_table(before.measures.predicted, result.measures.predicted)
        if before
        else empty,
    }


def _same_goals(one: SceneResult, other: SceneResult) -> bool:
    """Whether both were held against one template."""
    return [goal["goal"] for goal in one.goals or ()] == [
        goal["goal"] for goal in other.goals or ()
    ]
