"""What the section of the plan shows of plans that are made: a pure function of the state."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import lru_cache

from .flow.facts import PlanFacts
from .flow.making import planned_result, shown_plan, why_not_make
from .flow.state import PanelState, ResultState
from .i18n import _
from .result_tables import STATUS_COLORS, Cell, Table

__all__ = ["MakingView", "WishRow", "making_view", "priority_name"]

_NOTHING = Table((), ())


@dataclass(frozen=True)
class WishRow:
    """A goal that a plan can be asked for.

    Args:
        goal: with its structure, as plans are asked.
        label: as a person reads it, the structure and below it the goal.
        predicted, replanned: the prediction's value, and the shown plan's.
        priority: 0 (not asked for) to 4.
    """

    goal: str
    label: str
    predicted: Cell
    replanned: Cell
    priority: int


@dataclass(frozen=True)
class MakingView:
    """Goals and priorities, the button, what is under way, and the plan that there is.

    Args:
        can_make, tip: whether a plan can be made, and what that does or why not.
        is_absent: whether the planner is to be installed first.
        share, stage: of what is under way; None: nothing; a share below 0 is unknown.
        summary: rich text on the plan.
        picture: file with its beams; empty: none in this session.
    """

    wishes: tuple[WishRow, ...] = ()
    can_make: bool = False
    tip: str = ""
    is_absent: bool = False
    share: float | None = None
    stage: str = ""
    is_cancelling: bool = False
    summary: str = ""
    limits: Table = _NOTHING
    picture: str = ""
    can_save: bool = False


def making_view(state: PanelState) -> MakingView:
    """What can be asked for, how far it is, and what came of it."""
    making, run = state.making, state.making.run
    reason = why_not_make(state)
    plan = shown_plan(state)
    facts = None if plan is None else plan.plan
    tip = _(
        "Minutes, in a process of its own: leaf positions and monitor units whose dose comes "
        "nearest to the prediction. Research only: no commissioned beam."
    )
    pictures = dict(making.pictures)
    picture = pictures.get(plan.run, "") if plan is not None else ""
    return MakingView(
        wishes=_wishes(planned_result(state), facts, dict(making.priorities)),
        can_make=not reason,
        tip=reason or tip,
        is_absent=making.is_absent,
        share=None if run is None else run.share,
        stage="" if run is None else run.stage,
        is_cancelling=run is not None and run.is_cancelling,
        summary="" if plan is None or facts is None else _summary(plan, facts),
        limits=_NOTHING if facts is None else _limits(facts),
        picture=picture,
        can_save=bool(picture),
    )


def priority_name(priority: int) -> str:
    """Of a slider's position."""
    return (_("off"), _("low"), _("medium"), _("high"), _("highest"))[priority]


def _wishes(
    base: ResultState | None, facts: PlanFacts | None, priorities: dict[str, int]
) -> tuple[WishRow, ...]:
    """Goals of the prediction's template that can be judged on it, and that plans can be asked."""
    table = None if base is None else base.tables.get("goals")
    if base is None or table is None:
        return ()
    kept = {} if facts is None else {goal.text: goal for goal in facts.goals}
    rows = []
    for text, cells, (structure, _sense) in zip(
        _asked_goals(base.goals), table.rows, table.places, strict=False
    ):
        if not text or not structure:
            continue
        plan = kept.get(text)
        replanned = Cell("") if plan is None else Cell(plan.value, "", plan.status)
        label = "\n".join(cell.text for cell in cells[:2])
        rows.append(WishRow(text, label, cells[2], replanned, priorities.get(text, 0)))
    return tuple(rows)


@lru_cache(maxsize=8)
def _asked_goals(template: str) -> tuple[str, ...]:
    """A template's goals, as plans are asked for them; empty texts for what they cannot be."""
    from DosePredictionLib.evaluation.goals import GoalSet
    from DosePredictionLib.planning.wishes import can_be_asked

    if not template:
        return ()
    try:
        goals = GoalSet.load(template).goals
    except (OSError, ValueError):  # a file that has gone
        return ()
    return tuple(f"{g.structure} {g.text}" if can_be_asked(g) else "" for g in goals)


def _summary(plan: ResultState, facts: PlanFacts) -> str:
    """A line for what each says; the label stands first."""
    broken = any(not limit.passed for limit in facts.limits)
    lines = [f"<b>{html.escape(plan.label)}</b>", *map(html.escape, facts.lines)]
    if broken:
        lines[-1] = f'<span style="color: {STATUS_COLORS["not_met"]}">✗ {lines[-1]}</span>'
    if facts.asked:
        text = _("Asked for beside the dose: {goals}.").format(goals="; ".join(facts.asked))
        lines.append(html.escape(text))
    lines.append(_("No commissioned beam, no real machine. Not for clinical use."))
    return "<br>".join(lines)


def _limits(facts: PlanFacts) -> Table:
    rows = []
    for limit in facts.limits:
        status, sign = ("met", "✓") if limit.passed else ("not_met", "✗")
        rows.append(
            (
                Cell(limit.label, limit.place),
                Cell(f"{sign} {limit.value}", limit.place, status),
                Cell(limit.allowed, limit.place),
            )
        )
    return Table((_("Limit of the machine"), _("Worst"), _("Allowed")), tuple(rows))
