"""A plan's record (`plan.json`) as the panel knows plans."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .flow.facts import PlanFacts, PlanGoal, PlanLimit
from .i18n import _

__all__ = ["PLAN_OPTION", "facts_from_text", "facts_of_plan", "text_of_facts"]

PLAN_OPTION = "plan"
"""Under which name a scene keeps the facts with the result's options."""


def facts_of_plan(record: Mapping[str, Any], of: str) -> PlanFacts:
    """What people are told of a plan.

    Args:
        of: run of the prediction that it was made for.
    """
    return PlanFacts(of, _lines(record), _goals(record), _limits(record["checks"]), _asked(record))


def text_of_facts(facts: PlanFacts) -> str:
    """As a scene keeps them."""
    from DosePredictionLib.schema import to_json

    return json.dumps(to_json(facts))


def facts_from_text(text: str) -> PlanFacts | None:
    """What `text_of_facts` gave; None for what it did not."""
    from DosePredictionLib.errors import DosePredictionError
    from DosePredictionLib.schema import from_json, parse_json

    try:
        facts: PlanFacts = from_json(PlanFacts, parse_json(text), "plan", DosePredictionError)
    except ValueError:
        return None
    return facts


def _lines(record: Mapping[str, Any]) -> tuple[str, ...]:
    from DosePredictionLib.report.wording import number, signed

    figures, rates = record["complexity"], record["gamma"]
    lost = [f"{goal['structure']} {goal['goal']}" for goal in record["goals_lost"]]
    lines = [
        _("{beams} beams, {segments} segments, {mu} MU a fraction on {machine}.").format(
            beams=figures["beams"],
            segments=figures["segments"],
            mu=number(figures["monitor_units"], 0),
            machine=record["machine"],
        ),
        _(
            "It gives the prediction to {plan} % (gamma 3 %/3 mm; {fluence} % without leaves), "
            "{mean} Gy on average in the body, {mae} Gy off."
        ).format(
            plan=number(rates["plan"]["3%/3mm"]),
            fluence=number(rates["fluence"]["3%/3mm"]),
            mean=signed(record["mean_difference_gy"], 2),
            mae=number(record["mae_body_gy"], 2),
        ),
    ]
    if lost:
        text = _("Met by the prediction and not by the plan: {goals}.")
        lines.append(text.format(goals="; ".join(lost)))
    broken = record["violations"]
    every = len(record["checks"])
    lines.append(
        _("{broken} of {count} limits of the machine are broken.").format(
            broken=broken, count=every
        )
        if broken
        else _("None of {count} limits of the machine is broken.").format(count=every)
    )
    return tuple(lines)


def _goals(record: Mapping[str, Any]) -> tuple[PlanGoal, ...]:
    """The plan's own values: in a record the wanted dose is judged, the plan is its reference."""
    from DosePredictionLib.report.wording import number

    return tuple(
        PlanGoal(
            f"{goal['structure']} {goal['goal']}",
            number(goal["reference"]["value"], 1 if goal["unit"] else 2),
            str(goal["reference"]["status"]),
        )
        for goal in record["goals"]
        if goal["reference"]["value"] is not None
    )


def _limits(rows: Sequence[Mapping[str, Any]]) -> tuple[PlanLimit, ...]:
    """One for each limit: its worst beam, the broken ones first."""
    from DosePredictionLib.planning.check import CheckRow

    worst: dict[str, CheckRow] = {}
    for each in rows:
        row = CheckRow(**each)
        known = worst.get(row.id)
        if known is None or (row.passed, row.margin) < (known.passed, known.margin):
            worst[row.id] = row
    return tuple(
        PlanLimit(
            row.label,
            _("not stated") if row.value is None else f"{row.value:.4g} {row.unit}".strip(),
            _allowed(row.lowest, row.highest),
            ", ".join(part for part in (row.beam or _("plan"), row.place, row.source) if part),
            row.passed,
        )
        for row in sorted(worst.values(), key=lambda row: row.passed)
    )


def _allowed(lowest: float | None, highest: float | None) -> str:
    if lowest is not None and highest is not None:
        return f"= {lowest:g}" if lowest == highest else f"{lowest:g} … {highest:g}"
    return f"≥ {lowest:g}" if lowest is not None else f"≤ {highest:g}"


def _asked(record: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{wish['structure']} {wish['goal']}" for wish in record["wishes"])
