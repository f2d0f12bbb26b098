"""What the section of the plan shows: a pure function of the state."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field

from .flow.plan import PLAN_BEAMS, asked_beams, why_not_check
from .flow.state import PanelState
from .i18n import _
from .result_tables import STATUS_COLORS

__all__ = ["PlanView", "plan_view"]


@dataclass(frozen=True)
class PlanView:
    """Whether a plan could give the shown dose.

    Args:
        items: choices of beams → as a person reads them.
        chosen: the one that is.
        can_check, tip: whether it can be asked, and what that does or why not.
        answer: rich text; what is awaited, or what was found of this dose on these beams.
    """

    items: Mapping[str, str] = field(default_factory=dict)
    chosen: str = ""
    can_check: bool = False
    tip: str = ""
    answer: str = ""


def plan_view(state: PanelState) -> PlanView:
    """Beams to choose, and the answer of the shown result."""
    reason = why_not_check(state)
    tip = _(
        "Some seconds: the nearest dose that these beams can give, by a ray model without leaves."
    )
    return PlanView(
        items={choice: _name(choice) for choice in PLAN_BEAMS},
        chosen=asked_beams(state),
        can_check=not reason,
        tip=reason or tip,
        answer=_answer(state),
    )


def _name(choice: str) -> str:
    if not choice:
        return _("The plan's or the model's own")
    return _("{count}, equally spaced").format(count=choice)


def _answer(state: PanelState) -> str:
    asked, result = state.plan_check, state.result
    if (
        asked is None
        or result is None
        or (asked.run, asked.beams)
        != (
            result.run,
            asked_beams(state),
        )
    ):
        return ""
    if not asked.text:
        return _("Asking the beams…")
    text = html.escape(asked.text)
    if asked.severity in STATUS_COLORS:
        return f'<span style="color: {STATUS_COLORS[asked.severity]}">⚠ {text}</span>'
    return text
