"""What is known of a dose: DVHs, scores against the plan, goals, gamma."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..structures.bound import NameResolver
from .dvh import Dvh
from .goals import Goal, GoalSet, evaluate_goals
from .widths import Widths

__all__ = ["ENDPOINTS", "Evaluation", "GoalResults"]

GoalResults = Sequence[Mapping[str, Any]]
"""One record a goal, as `evaluate_goals` gives them."""

ENDPOINTS = (
    "Dmean_gy",
    "Dmin_gy",
    "Dmax_gy",
    "D99_gy",
    "D98_gy",
    "D95_gy",
    "D50_gy",
    "D2_gy",
    "D1_gy",
    "D0.1cc_gy",
    "D0.03cc_gy",
    "V20Gy_percent",
    "V30Gy_percent",
    "V40Gy_percent",
    "V20Gy_cc",
    "V95percent_percent",
)
"""DVH endpoints that results list; see `dvh.parse_endpoint` for how they read."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The numbers of a dose and of the plan's. Made by `evaluate`; structures go by the names that
    results carry, in display order. Holds no voxels.

    Args:
        predicted: DVHs of the dose.
        planned: DVHs of the plan; None without one.
        body: DVH of the external contour in the dose and in the plan, for indices.
        targets: names of the targets.
        external: name of the external contour, if it was drawn.
        prescriptions_gy: target → Gy.
        names: from the structure that a goal names to its name here.
        scores: against the plan, by their JSON keys; None without one.
        errors: structure → `mae_gy` and `bias_gy` of its voxels.
        goal_set: id of the set that the goals are of.
        goals: of the dose, None where none were chosen.
        planned_goals: likewise of the plan.
        gamma: criterion → what `GammaMap.as_json` says.
        scorecard: what `score_plan` says.
        widths: how far the dose's expected error moves its endpoints; empty where nobody knows it.
    """

    predicted: Mapping[str, Dvh]
    planned: Mapping[str, Dvh] | None
    body: tuple[Dvh, Dvh | None]
    targets: tuple[str, ...]
    external: str | None
    prescriptions_gy: Mapping[str, float]
    names: NameResolver
    scores: Mapping[str, Any] | None = None
    errors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    goal_set: str | None = None
    goals: Sequence[Mapping[str, Any]] | None = None
    planned_goals: Sequence[Mapping[str, Any]] | None = None
    gamma: Mapping[str, Any] = field(default_factory=dict)
    scorecard: Mapping[str, Any] | None = None
    widths: Widths = field(default_factory=dict)

    @property
    def evaluation(self) -> dict[str, float | None] | None:
        """The scores that are one number each."""
        if self.scores is None:
            return None
        return {k: v for k, v in self.scores.items() if v is None or isinstance(v, float)}

    @property
    def goal_records(self) -> list[dict[str, Any]]:
        """A record per goal; with a plan its `reference` holds the plan's status, value, margin."""
        records = [dict(goal) for goal in self.goals or ()]
        for record, plan in zip(records, self.planned_goals or (), strict=False):
            record["reference"] = {key: plan[key] for key in ("status", "value", "margin")}
        return records

    def judged(self, goals: GoalSet | Iterable[Goal] | None) -> Evaluation:
        """The same numbers held against other goals; None: against none."""
        if goals is None:
            return replace(self, goal_set=None, goals=None, planned_goals=None)
        chosen = goals.goals if isinstance(goals, GoalSet) else tuple(goals)
        doses = ((self.predicted, self.body[0]), (self.planned, self.body[1]))
        judged = [
            None
            if curves is None
            else evaluate_goals(
                chosen,
                curves,
                resolve=self.names,
                prescriptions_gy=self.prescriptions_gy,
                body=body,
            )
            for curves, body in doses
        ]
        goal_set = goals.id if isinstance(goals, GoalSet) else None
        return replace(self, goal_set=goal_set, goals=judged[0], planned_goals=judged[1])

    def endpoints(self) -> dict[str, dict[str, Any]]:
        """Structure → `volume_cc` and the endpoints of the dose."""
        return {
            name: {"volume_cc": curve.volume_cc, "endpoints": self._endpoints_of(name, curve)}
            for name, curve in self.predicted.items()
        }

    def structures(self) -> dict[str, dict[str, Any]]:
        """Structure → `volume_cc`, its errors, and each endpoint of the dose and of the plan."""
        result = {}
        for name, curve in self.predicted.items():
            ours = self._endpoints_of(name, curve)
            plan = self.planned.get(name) if self.planned is not None else None
            theirs = {} if plan is None else self._endpoints_of(name, plan)
            pairs = {k: {"prediction": v, "reference": theirs.get(k)} for k, v in ours.items()}
            errors = self.errors.get(name, {})
            result[name] = {"volume_cc": curve.volume_cc, **errors, "endpoints": pairs}
        return result

    def as_json(self) -> dict[str, Any]:
        """The JSON object of `evaluate` for one case, without `case` and what was noticed."""
        protocol = self.names.protocol
        record = {
            "protocol": None if protocol is None else protocol.id,
            **(self.scores or {}),
            "structures": self.structures(),
            "goals": self.goal_records,
            "goal_set": self.goal_set,
            "gamma": dict(self.gamma),
        }
        return record if self.scorecard is None else {**record, "scorecard": self.scorecard}

    def _endpoints_of(self, name: str, curve: Dvh) -> dict[str, float | None]:
        """Percentages refer to the structure's own prescription, else to the highest."""
        highest = max(self.prescriptions_gy.values(), default=None)
        return curve.endpoints(ENDPOINTS, self.prescriptions_gy.get(name, highest))
