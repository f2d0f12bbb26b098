"""Reading goals as clinicians write them: `V40Gy <= 35 %`, `D0.1cc < 50 Gy`, `D95% >= 95 %Rx`."""

from __future__ import annotations

import re

from ..errors import DosePredictionError
from .goal_metrics import INDICES, Metric

__all__ = ["GoalTextError", "parse_metric", "read_goal_text"]

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


def read_goal_text(text: str) -> tuple[Metric, str, float]:
    """Metric, comparison (`<`, `<=`, `>`, `>=`) and limit of a goal's text.

    Raises:
        GoalTextError: shows the place.
    """
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


def _with_unit(metric: Metric, scanner: _Scanner) -> tuple[Metric, float]:
    """The metric with its limit's unit, and what the limit is multiplied by."""
    if metric.kind in INDICES:
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
