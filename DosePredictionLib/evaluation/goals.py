"""Clinical goals: their text, their files, and whether a dose meets them.

A goal is written as clinicians write it: `V40Gy <= 35 %`, `D0.1cc < 50 Gy`, `Dmean < 26 Gy`,
`D95% >= 95 %Rx`, `CI >= 0.8`. `Rx` is the prescription. Files are JSON; see `GoalSet.read`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from ..errors import DosePredictionError
from ..ranges import DoseGy
from ..schema import FieldError, FreeText, Length, Name, Range, from_json, read_json, validated
from .dvh import Dvh
from .goal_metrics import Metric, NotEvaluable
from .goal_text import GoalTextError, parse_metric, read_goal_text

__all__ = [
    "Goal",
    "GoalEntry",
    "GoalFile",
    "GoalSet",
    "GoalStatus",
    "GoalTextError",
    "Metric",
    "NotEvaluable",
    "bind_structure",
    "evaluate_goals",
    "parse_goal",
    "parse_metric",
    "prescription_of",
    "read_json_object",
]

GoalStatus = Literal["met", "variation", "not_met", "not_evaluable"]
Resolve = Callable[[str], str | None]

_SCHEMA = "dose-prediction-goals/1"


@dataclass(frozen=True)
class Goal:
    """A metric, how it must compare, and where the limit comes from.

    Args:
        structure: as the goal names it; bound to a case's structure when evaluated.
        text: the goal as written.
        metric: read from the text.
        comparison: `<`, `<=`, `>` or `>=`.
        limit: in the metric's unit.
        variation: a looser limit that is still acceptable.
        priority: 1 is the most important.
        source: where the limit is published.
        note: what else there is to say of the limit.
        prescription: target whose dose `%Rx` means; by default the structure's own, else the
            highest.
        geud_a: exponent of gEUD.
    """

    structure: str
    text: str
    metric: Metric
    comparison: str
    limit: float
    variation: float | None = None
    priority: int | None = None
    source: str | None = None
    note: str | None = None
    prescription: str | None = None
    geud_a: float | None = None

    def judge(self, value: float) -> tuple[GoalStatus, float]:
        """Status, and the margin to the goal in the metric's unit: positive when it is met."""
        upper = self.comparison in ("<", "<=")
        margin = self.limit - value if upper else value - self.limit
        if margin > 0 or (margin == 0 and self.comparison in ("<=", ">=")):
            return "met", margin
        if self.variation is not None:
            spare = self.variation - value if upper else value - self.variation
            if spare >= 0:
                return "variation", margin
        return "not_met", margin


@dataclass(frozen=True)
@validated
class GoalEntry:
    """A goal as a file has it; see `GoalSet.read`."""

    structure: Name
    goal: Name
    variation: Name | None = None
    priority: Annotated[int, Range(1, 100)] | None = None
    source: FreeText | None = None
    note: FreeText | None = None
    prescription: Name | None = None
    geud_a: Annotated[float, Range(-100, 100)] | None = None

    def __post_init__(self) -> None:
        if self.geud_a == 0:
            raise FieldError("geud_a", "must not be 0: the mean of powers is not defined there.")


@dataclass(frozen=True)
@validated
class GoalFile:
    """A file of goals; see `GoalSet.read`."""

    schema: Literal["dose-prediction-goals/1"]
    goals: Annotated[tuple[GoalEntry, ...], Length(1, 1000)]
    id: Name | None = None
    title: Name | None = None
    description: FreeText = ""
    sources: dict[Name, FreeText] = field(default_factory=dict)
    protocol: Name | None = None
    prescription_gy: tuple[DoseGy, DoseGy] | None = None

    def __post_init__(self) -> None:
        if self.prescription_gy is not None and self.prescription_gy[0] > self.prescription_gy[1]:
            raise FieldError(
                "prescription_gy",
                "must be the lowest and the highest dose, as in [44, 52]; got "
                f"{list(self.prescription_gy)}.",
            )


@dataclass(frozen=True)
class GoalSet:
    """The goals of one treatment.

    Args:
        id: name of the file without its suffix, or as the file says.
        title: for people.
        goals: in the file's order.
        sources: key → full citation.
        description: what the set is for, and what it is not.
        protocol: id of the structure protocol that it is written for.
        prescription_gy: lowest and highest prescription (of the highest target) that it is for.
    """

    id: str
    title: str
    goals: tuple[Goal, ...]
    sources: Mapping[str, str]
    description: str = ""
    protocol: str | None = None
    prescription_gy: tuple[float, float] | None = None

    def applies(self, protocol: str, prescriptions_gy: Mapping[str, float]) -> bool:
        """Whether the set is written for a case: its protocol and its highest prescription."""
        if self.protocol != protocol or self.prescription_gy is None or not prescriptions_gy:
            return False
        lowest_gy, highest_gy = self.prescription_gy
        return lowest_gy <= max(prescriptions_gy.values()) <= highest_gy

    @classmethod
    def read(cls, path: str | Path) -> GoalSet:
        """Read a JSON file of goals.

        The object has `schema`, `id`, `title`, `description`, `sources` (key → citation) and
        `goals`: objects with `structure` and `goal`, and optionally `variation` (a looser goal of
        the same metric), `priority`, `source` (a key of `sources`, or a text), `prescription` (a
        target) and `geud_a`. With `protocol` and `prescription_gy` (lowest, highest) the set says
        which cases it is for.

        Raises:
            DosePredictionError: the file is missing, is no such JSON, or a goal cannot be read;
                names the file and the goal.
        """
        path = Path(path)
        content = read_json_object(path)
        if content.get("schema") != _SCHEMA:
            raise DosePredictionError(
                f"{path} has the schema {content.get('schema')!r}; goals files have {_SCHEMA!r}."
            )
        file = from_json(GoalFile, content, str(path))
        goals = []
        for number, entry in enumerate(file.goals, start=1):
            try:
                goals.append(_goal_of_entry(entry, file.sources))
            except DosePredictionError as error:
                raise DosePredictionError(f"{path}, goal {number}: {error}") from error
        return cls(
            id=file.id or path.stem,
            title=file.title or path.stem,
            goals=tuple(goals),
            sources=file.sources,
            description=file.description,
            protocol=file.protocol,
            prescription_gy=file.prescription_gy,
        )

    @classmethod
    def load(cls, name: str) -> GoalSet:
        """Read a shipped set by its id, such as `pelvis_nodal_45_50`, or a file by its path.

        Raises:
            DosePredictionError: there is no such set; lists those that there are.
        """
        from ..resources import resource_path

        if name.endswith(".json"):
            return cls.read(name)
        path = resource_path("Goals", f"{name}.json")
        if not path.is_file():
            raise DosePredictionError(
                f"There are no goals {name!r}; there are {', '.join(cls.available())}."
            )
        return _shipped(path)

    @classmethod
    def default(cls, protocol: str, prescriptions_gy: Mapping[str, float]) -> GoalSet | None:
        """The shipped set that is written for a protocol and prescription, or None."""
        sets = (cls.load(name) for name in cls.available())
        return next((goals for goals in sets if goals.applies(protocol, prescriptions_gy)), None)

    @staticmethod
    def available() -> list[str]:
        """Ids of the shipped sets."""
        from ..resources import resource_path

        return sorted(path.stem for path in resource_path("Goals").glob("*.json"))


@cache
def _shipped(path: Path) -> GoalSet:
    """A shipped set, which does not change while the program runs."""
    return GoalSet.read(path)


def evaluate_goals(
    goals: GoalSet | Iterable[Goal],
    curves: Mapping[str, Dvh],
    *,
    resolve: Resolve | None = None,
    prescriptions_gy: Mapping[str, float] | None = None,
    body: Dvh | None = None,
) -> list[dict[str, Any]]:
    """Whether a dose meets each goal.

    Args:
        goals: a set, or goals.
        curves: DVHs by structure.
        resolve: a goal's structure → the name of a curve, or None; the protocol's synonyms. By
            default names must be equal.
        prescriptions_gy: target → Gy, by the names of curves or of goals.
        body: DVH of the body, for conformity and R50.

    Returns:
        For each goal `structure`, `bound_to`, `goal`, `status`, `value`, `unit`, `margin`,
        `variation`, `reason`, `priority`, `source`, `note`; `comparison`, `limit`, and, for
        goals on a DVH endpoint, `endpoint`: its `key`, the `limit` in its unit, and the `factor` by
        which the goal's values become the endpoint's. What cannot be evaluated has no value and a
        reason; it never raises.
    """
    chosen = goals.goals if isinstance(goals, GoalSet) else tuple(goals)
    levels = dict(prescriptions_gy or {})
    return [_evaluated(goal, curves, resolve, levels, body) for goal in chosen]


def parse_goal(structure: str, text: str, **options: Any) -> Goal:
    """Read a goal such as `V40Gy <= 35 %`.

    Args:
        structure: that it is about.
        text: metric, comparison, limit and its unit.
        options: the other fields of `Goal`; `variation` may be a goal's text.

    Raises:
        GoalTextError: shows the place.
        DosePredictionError: the variation is of another metric, or stricter than the goal.
    """
    metric, comparison, limit = read_goal_text(text)
    variation = options.pop("variation", None)
    if isinstance(variation, str):
        other, other_comparison, looser = read_goal_text(variation)
        if other != metric or other_comparison[0] != comparison[0]:
            raise DosePredictionError(
                f"The variation {variation!r} must be of the same metric, unit and direction as "
                f"{text!r}."
            )
        if (looser < limit) if comparison[0] == "<" else (looser > limit):
            raise DosePredictionError(f"The variation {variation!r} is stricter than {text!r}.")
        variation = looser
    return Goal(structure, text, metric, comparison, limit, variation, **options)


def read_json_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
        DosePredictionError: it cannot be read, or is none; says where.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DosePredictionError(f"{path} holds no JSON object.")
    return content


def bind_structure(
    name: str, curves: Mapping[str, Dvh], resolve: Resolve | None
) -> tuple[str | None, str]:
    """The curve that a goal's structure means, or None and a reason with the nearest names."""
    found = resolve(name) if resolve is not None else name
    if found is not None and found in curves:
        return found, ""
    near = difflib.get_close_matches(name, list(curves), n=3, cutoff=0.4)
    hint = f"; the nearest names are {', '.join(near)}" if near else ""
    return None, f"there is no structure {name}{hint}"


def _evaluated(
    goal: Goal,
    curves: Mapping[str, Dvh],
    resolve: Resolve | None,
    levels: Mapping[str, float],
    body: Dvh | None,
) -> dict[str, Any]:
    bound, reason = bind_structure(goal.structure, curves, resolve)
    value: float | None = None
    margin: float | None = None
    status: GoalStatus = "not_evaluable"
    rx_gy: float | None = None
    highest_gy = max(levels.values(), default=None)
    if bound is not None:
        try:
            rx_gy = prescription_of(goal, bound, levels, resolve)
            value = goal.metric.value(curves[bound], rx_gy, body, goal.geud_a)
            status, margin = goal.judge(value)
        except NotEvaluable as error:
            reason = str(error)
    return {
        "structure": goal.structure,
        "bound_to": bound,
        "goal": goal.text,
        "status": status,
        "value": value,
        "unit": goal.metric.unit,
        "margin": margin,
        "variation": goal.variation,
        "reason": reason or None,
        "priority": goal.priority,
        "source": goal.source,
        "note": goal.note,
        "comparison": goal.comparison,
        "limit": goal.limit,
        "endpoint": _endpoint(goal, rx_gy, levels.get(bound or "", highest_gy)),
    }


def _endpoint(goal: Goal, rx_gy: float | None, own_gy: float | None) -> dict[str, Any] | None:
    """The DVH endpoint that a goal is about, as `evaluate_goals` says; None: it is about none.

    Args:
        rx_gy: what `%Rx` means for the goal.
        own_gy: what endpoints of the structure in percent of a prescription refer to.
    """
    key = goal.metric.endpoint
    if key is None or (goal.metric.of_prescription and (rx_gy is None or rx_gy != own_gy)):
        return None
    if goal.metric.unit != "%Rx":
        return {"key": key, "limit": goal.limit, "factor": 1.0}
    factor = None if rx_gy is None else rx_gy / 100.0
    if factor is None:
        return None
    return {"key": key, "limit": goal.limit * factor, "factor": factor}


def prescription_of(
    goal: Goal, bound: str, levels: Mapping[str, float], resolve: Resolve | None
) -> float | None:
    """The dose that `%Rx` means for a goal, Gy; None: nothing is prescribed.

    Args:
        bound: the structure that the goal's means.
        levels: target → Gy.

    Raises:
        NotEvaluable: the goal names a prescription that is not there.
    """
    if goal.prescription is not None:
        named = resolve(goal.prescription) if resolve is not None else goal.prescription
        for name in (goal.prescription, named):
            if name is not None and name in levels:
                return levels[name]
        raise NotEvaluable(f"there is no prescription for {goal.prescription}")
    for name in (bound, goal.structure):
        if name in levels:
            return levels[name]
    return max(levels.values(), default=None)


def _goal_of_entry(entry: GoalEntry, sources: Mapping[str, str]) -> Goal:
    source = entry.source
    return parse_goal(
        entry.structure,
        entry.goal,
        variation=entry.variation,
        priority=entry.priority,
        source=sources.get(source, source) if source is not None else None,
        note=entry.note,
        prescription=entry.prescription,
        geud_a=entry.geud_a,
    )
