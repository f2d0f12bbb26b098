"""A result of the scene as the panel's texts and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .i18n import _
from .result_tables import Table, change_table, dvh_table, goals_table, scores_table

if TYPE_CHECKING:
    from DosePredictionLib.scene import SceneResult

__all__ = ["default_goals", "goal_titles", "result_summary", "result_tables"]

_DEFAULT_GOALS = {"openkbp": "head_neck_70_35", "pelvis": "pelvis_nodal_45_50"}


def goal_titles() -> dict[str, str]:
    """Id → title of the shipped goal templates, and "" for none."""
    from DosePredictionLib.evaluation.goals import GoalSet

    titles = {name: GoalSet.load(name).title for name in GoalSet.available()}
    return {"": _("None"), **titles}


def default_goals(protocol: str) -> str:
    """The template that a protocol's models go with; empty when there is none."""
    return _DEFAULT_GOALS.get(protocol, "")


def result_summary(result: SceneResult) -> str:
    """A line on what is shown."""
    from DosePredictionLib.report.wording import number

    body, _plan = result.measures.body
    text = _("{name}: highest dose {highest} Gy, {count} structures.").format(
        name=result.name, highest=number(body.max_gy), count=len(result.measures.predicted)
    )
    if result.measures.evaluation is None:
        return text
    error = number(result.measures.evaluation.get("mae_body_gy"), 2)
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
