"""Events and effects of plans that a machine could deliver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .effects import Effect
from .events import Event
from .facts import PlanFacts, PlanOrder, Verdict

if TYPE_CHECKING:
    from ..result_tables import Table

__all__ = [
    "CancelPlanning",
    "InstallPlanner",
    "InstallPlannerPressed",
    "MakePlan",
    "MakePlanPressed",
    "PlanCancelPressed",
    "PlanFailed",
    "PlanFinished",
    "PlanProgress",
    "PlannerAbsent",
    "PlannerInstalled",
    "PrioritySet",
]

# --- What a person does -------------------------------------------------------------------------


@dataclass(frozen=True)
class MakePlanPressed(Event):
    """The shown prediction is to be made deliverable."""


@dataclass(frozen=True)
class InstallPlannerPressed(Event):
    """The planner is to be installed."""


@dataclass(frozen=True)
class PlanCancelPressed(Event):
    """Planning, or installing, is to stop."""


@dataclass(frozen=True)
class PrioritySet(Event):
    """How much a goal, as plans are asked for it, counts: 0 (not asked for) to 4."""

    goal: str
    priority: int


# --- Answers ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlannerAbsent(Event):
    """There is no planner to make a plan with."""

    token: int


@dataclass(frozen=True)
class PlannerInstalled(Event):
    """There is one now."""

    token: int


@dataclass(frozen=True)
class PlanProgress(Event):
    """How far planning, or installing, is; a share below 0 is unknown."""

    token: int
    share: float
    stage: str


@dataclass(frozen=True)
class PlanFinished(Event):
    """A plan's dose is in the scene; as `RunFinished`.

    Args:
        picture: file with its beams.
    """

    token: int
    run: str
    dose: str
    name: str
    summary: str
    tables: Mapping[str, Table]
    verdict: Verdict
    bands: str
    ranges: Mapping[str, tuple[float, float]]
    plan: PlanFacts
    picture: str


@dataclass(frozen=True)
class PlanFailed(Event):
    """Planning, or installing, ended without success; as in `RunFailed`."""

    token: int
    message: str
    details: str = ""
    cancelled: bool = False


# --- Effects ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MakePlan(Effect):
    """`PlanProgress`, then `PlanFinished`, `PlanFailed` or `PlannerAbsent`."""

    token: int
    order: PlanOrder


@dataclass(frozen=True)
class InstallPlanner(Effect):
    """`PlanProgress`, then `PlannerInstalled` or `PlanFailed`."""

    token: int


@dataclass(frozen=True)
class CancelPlanning(Effect):
    """Stop planning, or installing: `PlanFailed`."""

    token: int
