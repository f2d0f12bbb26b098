"""Clinical goals: their text, their files, and whether a dose meets them.

A goal is written as clinicians write it: `V40Gy <= 35 %`, `D0.1cc < 50 Gy`, `Dmean < 26 Gy`,
`D95% >= 95 %Rx`, `CI >= 0.8`. `Rx` is the prescription. Files are JSON; see `GoalSet.read`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from ..errors import DosePredictionError
from ..ranges import DoseGy
from ..schema import FieldError, FreeText, Length, Name, Range, from_json, read_json, validated
from .dvh import Dvh
from .indices import homogeneity_icru83, paddick_conformity, r50, rtog_conformity

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
    "read_json_object",
]

GoalStatus = Literal["met", "variation", "not_met", "not_evaluable"]
MetricKind = Literal[
    "mean", "min", "max", "dose_percent", "dose_cc", "volume", "geud", "CI", "RTOG_CI", "HI", "R50"
]
Resolve = Callable[[str], str | None]

_SCHEMA = "dose-prediction-goals/1"
_INDICES = ("CI", "RTOG_CI", "HI", "R50")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SIGNED = re.compile(r"[-+]?\d+(?:\.\d+)?")
_COMPARISONS = {"<=": "<=", "≤": "<=", ">=": ">=", "≥": ">=", "<": "<", ">": ">"}
_DOSE_UNITS = {"Gy": 1.0, "cGy": 0.01}


class GoalTextError(DosePredictionError):
    """A goal's text that cannot be read; the message shows the place."""

    def __init__(self, text: str, position: int, expected: str) -> None:
        self.text, self.position, self.expected = text, position, expected
        super().__init__(
            f"Goal {text!r} cannot be read at character {position + 1}: expected {expected}.\n"
            f"  {text}\n  {' ' * position}^"
        )


class NotEvaluable(DosePredictionError):
    """Why a metric has no value; the message is the reason."""


@dataclass(frozen=True)
class Metric:
    """What a goal measures.

    Args:
        kind: which measure.
        amount: percent or cc of D_x, dose of V_d, exponent of gEUD; None for the others.
        of_prescription: whether V_d's dose is a percentage of the prescription.
        unit: of the value: `Gy`, `%Rx`, `%`, `cc`, or empty for an index.
    """

    kind: MetricKind
    amount: float | None = None
    of_prescription: bool = False
    unit: str = ""

    @property
    def needs_body(self) -> bool:
        """Whether the value depends on the dose outside the structure."""
        return self.kind in ("CI", "RTOG_CI", "R50")

    def __str__(self) -> str:
        amount = "" if self.amount is None else f"{self.amount:g}"
        if self.kind in ("mean", "min", "max"):
            return f"D{self.kind}"
        if self.kind == "dose_percent":
            return f"D{amount}%"
        if self.kind == "dose_cc":
            return f"D{amount}cc"
        if self.kind == "volume":
            return f"V{amount}{'%Rx' if self.of_prescription else 'Gy'}"
        return f"gEUD(a={amount})" if self.kind == "geud" else self.kind

    def value(
        self,
        curve: Dvh,
        prescription_gy: float | None = None,
        body: Dvh | None = None,
        geud_a: float | None = None,
    ) -> float:
        """The metric of one structure in its own unit.

        Args:
            curve: the structure's DVH.
            prescription_gy: what `%Rx` and the indices refer to.
            body: DVH of the body, for conformity and R50.
            geud_a: exponent of gEUD where the text gives none.

        Raises:
            NotEvaluable: with the reason.
        """
        if curve.volume_cc <= 0:
            raise NotEvaluable("the structure is empty")
        needs_rx = self.of_prescription or self.unit == "%Rx" or self.needs_body
        if needs_rx and prescription_gy is None:
            raise NotEvaluable("it needs a prescription, and there is none")
        if self.kind in _INDICES:
            return self._index(curve, prescription_gy, body)
        if self.kind == "volume":
            return self._volume(curve, prescription_gy)
        dose_gy = self._dose_gy(curve, geud_a)
        return 100.0 * dose_gy / (prescription_gy or 1.0) if self.unit == "%Rx" else dose_gy

    def _dose_gy(self, curve: Dvh, geud_a: float | None) -> float:
        amount = 0.0 if self.amount is None else self.amount
        value: float | None
        if self.kind == "geud":
            exponent = geud_a if self.amount is None else self.amount
            if exponent is None:
                raise NotEvaluable("gEUD needs the structure's exponent: geud_a in the goals file")
            value = curve.geud(exponent)
        elif self.kind == "dose_percent":
            value = curve.dose_at_percent(amount)
        elif self.kind == "dose_cc":
            value = curve.dose_at_cc(amount)
            if value is None:
                raise NotEvaluable(
                    f"the structure has {curve.volume_cc:.3g} cc, less than {amount:g} cc"
                )
        else:
            value = {"mean": curve.mean_gy, "min": curve.min_gy, "max": curve.max_gy}[self.kind]
        return _defined(value)

    def _volume(self, curve: Dvh, prescription_gy: float | None) -> float:
        dose_gy = 0.0 if self.amount is None else self.amount
        if self.of_prescription:
            dose_gy *= (prescription_gy or 0.0) / 100.0
        if self.unit == "cc":
            return _defined(curve.volume_at_gy_cc(dose_gy))
        return _defined(curve.volume_at_gy(dose_gy))

    def _index(self, curve: Dvh, prescription_gy: float | None, body: Dvh | None) -> float:
        if self.kind == "HI":
            return _defined(homogeneity_icru83(curve))
        if body is None:
            raise NotEvaluable("it needs the body's contour, and there is none")
        rx_gy = prescription_gy or 0.0
        if self.kind == "CI":
            return _defined(paddick_conformity(curve, body, rx_gy))
        if self.kind == "RTOG_CI":
            return _defined(rtog_conformity(curve, body, rx_gy))
        return _defined(r50(curve, body, rx_gy))


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
        `variation`, `reason`, `priority`, `source`, `note`. What cannot be evaluated has no value
        and a reason; it never raises.
    """
    chosen = goals.goals if isinstance(goals, GoalSet) else tuple(goals)
    levels = dict(prescriptions_gy or {})
    return [_evaluated(goal, curves, resolve, levels, body) for goal in chosen]


def parse_metric(text: str) -> Metric:
    """Read a metric such as `D2cc`, `V40Gy`, `D95%`, `Dmean`, `CI`; its unit is the usual one.

    Raises:
        GoalTextError: shows the place.
    """
    scanner = _Scanner(text)
    metric = _scan_metric(scanner)
    scanner.skip_spaces()
    if not scanner.at_end:
        raise scanner.error("the end")
    return metric


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
    metric, comparison, limit = _scan_goal(text)
    variation = options.pop("variation", None)
    if isinstance(variation, str):
        other, other_comparison, looser = _scan_goal(variation)
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
    if bound is not None:
        try:
            rx_gy = _prescription(goal, bound, levels, resolve)
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
    }


def _prescription(
    goal: Goal, bound: str, levels: Mapping[str, float], resolve: Resolve | None
) -> float | None:
    """The dose that `%Rx` means for a goal, Gy."""
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


class _Scanner:
    """A position in a text."""

    def __init__(self, text: str) -> None:
        self.text, self.position = text, 0

    @property
    def at_end(self) -> bool:
        return self.position >= len(self.text)

    def skip_spaces(self) -> None:
        while not self.at_end and self.text[self.position].isspace():
            self.position += 1

    def take(self, *words: str) -> str | None:
        """The first of the words that comes next, without regard to case."""
        for word in words:
            if self.text[self.position : self.position + len(word)].lower() == word.lower():
                self.position += len(word)
                return word
        return None

    def number(self, expected: str = "a number", pattern: re.Pattern[str] = _NUMBER) -> float:
        match = pattern.match(self.text, self.position)
        if match is None:
            raise self.error(expected)
        self.position = match.end()
        return float(match[0])

    def error(self, expected: str) -> GoalTextError:
        return GoalTextError(self.text, self.position, expected)


def _scan_metric(scanner: _Scanner) -> Metric:
    scanner.skip_spaces()
    index = scanner.take("RTOG_CI", "RTOG CI", "CI", "HI", "R50")
    if index is not None:
        return Metric(index.replace(" ", "_"))  # type: ignore[arg-type]
    if scanner.take("gEUD"):
        return Metric("geud", _scan_exponent(scanner), unit="Gy")
    if scanner.take("D"):
        return _scan_dose_metric(scanner)
    if scanner.take("V"):
        return _scan_volume_metric(scanner)
    raise scanner.error("a metric: D…, V…, gEUD, CI, RTOG_CI, HI or R50")


def _scan_exponent(scanner: _Scanner) -> float | None:
    if not scanner.take("("):
        return None
    scanner.skip_spaces()
    scanner.take("a")
    scanner.skip_spaces()
    scanner.take("=")
    scanner.skip_spaces()
    exponent = scanner.number("an exponent", _SIGNED)
    if exponent == 0:
        raise scanner.error("an exponent other than 0")
    scanner.skip_spaces()
    if not scanner.take(")"):
        raise scanner.error("')'")
    return exponent


def _scan_dose_metric(scanner: _Scanner) -> Metric:
    word = scanner.take("mean", "min", "max")
    if word is not None:
        return Metric(word, unit="Gy")  # type: ignore[arg-type]
    amount = scanner.number("mean, min, max, or a volume")
    scanner.skip_spaces()
    if scanner.take("cc", "cm3", "cm³"):
        return Metric("dose_cc", amount, unit="Gy")
    scanner.take("%")
    if amount > 100:
        raise scanner.error("a volume of at most 100 %")
    return Metric("dose_percent", amount, unit="Gy")


def _scan_volume_metric(scanner: _Scanner) -> Metric:
    amount = scanner.number("a dose")
    scanner.skip_spaces()
    unit = scanner.take("cGy", "Gy", "%")
    if unit is None:
        raise scanner.error("Gy, cGy or % after the dose")
    if unit == "%":
        scanner.take("Rx")
        return Metric("volume", amount, of_prescription=True, unit="%")
    return Metric("volume", amount * _DOSE_UNITS[unit], unit="%")


def _scan_goal(text: str) -> tuple[Metric, str, float]:
    scanner = _Scanner(text)
    metric = _scan_metric(scanner)
    scanner.skip_spaces()
    comparison = scanner.take(*_COMPARISONS)
    if comparison is None:
        raise scanner.error("<, <=, > or >=")
    scanner.skip_spaces()
    limit = scanner.number("a limit")
    scanner.skip_spaces()
    metric, factor = _with_unit(metric, scanner)
    scanner.skip_spaces()
    if not scanner.at_end:
        raise scanner.error("the end")
    return metric, _COMPARISONS[comparison], limit * factor


def _with_unit(metric: Metric, scanner: _Scanner) -> tuple[Metric, float]:
    """The metric with its limit's unit, and what the limit is multiplied by."""
    if metric.kind in _INDICES:
        return metric, 1.0
    if metric.kind == "volume":
        if scanner.take("%"):
            return metric, 1.0
        if scanner.take("cc", "cm3", "cm³"):
            return Metric("volume", metric.amount, metric.of_prescription, "cc"), 1.0
        raise scanner.error("% or cc, the unit of a volume")
    if scanner.take("%"):
        scanner.take("Rx")
        return Metric(metric.kind, metric.amount, unit="%Rx"), 1.0
    unit = scanner.take("cGy", "Gy")
    if unit is None:
        raise scanner.error("Gy, cGy or %Rx, the unit of a dose")
    return metric, _DOSE_UNITS[unit]


def _defined(value: float | None) -> float:
    if value is None:
        raise NotEvaluable("it is not defined for this dose")
    return value
