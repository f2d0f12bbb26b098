"""Varian plan scorecards: points for each metric along a piecewise-linear function.

Reads the JSON files of Varian's PlanScoreCard (https://github.com/
Varian-MedicalAffairsAppliedSolutions/MAAS-PlanScoreCard): `ScoreTemplates` with a structure, a
metric, its units and `ScorePoints`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from ..errors import DosePredictionError
from ..schema import FreeText, Length, Name, Pattern, Range, from_json, validated
from .dvh import Dvh
from .goals import Metric, NotEvaluable, bind_structure, read_json_object

__all__ = [
    "CardFile",
    "CardLine",
    "CardPoint",
    "CardStructure",
    "Scorecard",
    "ScorecardLine",
    "score_plan",
]

_PLAIN = {"MinDose": "min", "MaxDose": "max", "MeanDose": "mean"}
_CENTIGRAY = "cGy"


_Amount = Annotated[float, Range(0, 100_000)]
_AmountText = Annotated[
    str, Pattern(r"|\s*\d{1,5}(\.\d{1,15})?\s*", "a number of at most five digits")
]


@dataclass(frozen=True)
@validated
class CardStructure:
    """Whose dose a line judges. Fields here and below are called as the card calls them."""

    TemplateStructureId: FreeText | None = None
    StructureId: FreeText | None = None


@dataclass(frozen=True)
@validated
class CardPoint:
    """A corner of a line's function."""

    PointX: Annotated[float, Range(-1e6, 1e6)]
    Score: Annotated[float, Range(-1e6, 1e6)]


@dataclass(frozen=True)
@validated
class CardLine:
    """A line of the card."""

    Structure: CardStructure
    MetricType: Name
    ScorePoints: Annotated[tuple[CardPoint, ...], Length(0, 1000)]
    InputValue: _AmountText | _Amount | None = None
    InputUnit: FreeText | None = None
    OutputUnit: FreeText | None = None
    MetricComment: FreeText | None = None


@dataclass(frozen=True)
@validated
class CardFile:
    """What this library reads of a card; it may hold more."""

    ScoreTemplates: Annotated[tuple[CardLine, ...], Length(1, 1000)]
    TemplateName: FreeText | None = None
    DosePerFraction: _AmountText | _Amount | None = None
    NumberOfFractions: _AmountText | _Amount | None = None


@dataclass(frozen=True)
class ScorecardLine:
    """One metric of a scorecard.

    Args:
        structure: as the card names it.
        name: the metric as the card states it.
        metric: what is measured; None where this library does not know the kind.
        points: (value, score) in rising order of value; values in the metric's unit.
        comment: the card's note or source.
    """

    structure: str
    name: str
    metric: Metric | None
    points: tuple[tuple[float, float], ...]
    comment: str = ""

    @property
    def highest(self) -> float:
        """The most points that the line can give."""
        return max(score for _, score in self.points)

    def score(self, value: float) -> float:
        """Points for a value: linear between the card's points, constant beyond them."""
        values, scores = zip(*self.points, strict=True)
        return float(np.interp(value, values, scores))


@dataclass(frozen=True)
class Scorecard:
    """A scorecard: its title, prescription and lines."""

    title: str
    prescription_gy: float | None
    lines: tuple[ScorecardLine, ...]

    @classmethod
    def read(cls, path: str | Path) -> Scorecard:
        """Read a PlanScoreCard JSON file.

        Raises:
            DosePredictionError: it is no such file, or a line has no points; names the line.
        """
        path = Path(path)
        content = read_json_object(path)
        if not content.get("ScoreTemplates"):
            raise DosePredictionError(f"{path} is no plan scorecard: it has no ScoreTemplates.")
        card = from_json(CardFile, content, str(path), ignored=[])
        lines = []
        for number, template in enumerate(card.ScoreTemplates, start=1):
            try:
                lines.append(_line(template))
            except DosePredictionError as error:
                raise DosePredictionError(
                    f"{path}, line {number} of the scorecard cannot be read: {error}"
                ) from error
        total_gy = _number(card.DosePerFraction) * _number(card.NumberOfFractions)
        return cls(card.TemplateName or path.stem, total_gy or None, tuple(lines))


def score_plan(
    card: Scorecard,
    curves: Mapping[str, Dvh],
    *,
    resolve: Callable[[str], str | None] | None = None,
    prescription_gy: float | None = None,
    body: Dvh | None = None,
) -> dict[str, Any]:
    """Points of a dose on a scorecard.

    Args:
        card: the scorecard.
        curves: DVHs by structure.
        resolve: the card's structure → the name of a curve, or None.
        prescription_gy: instead of the card's.
        body: DVH of the body, for conformity.

    Returns:
        `title`, `score` and `highest` over the lines that could be evaluated, and `lines`, each
        with `structure`, `metric`, `value`, `unit`, `score`, `highest` and `reason`.
    """
    rx_gy = card.prescription_gy if prescription_gy is None else prescription_gy
    lines = [_scored(line, curves, resolve, rx_gy, body) for line in card.lines]
    evaluated = [line for line in lines if line["score"] is not None]
    return {
        "title": card.title,
        "score": float(sum(line["score"] for line in evaluated)) if evaluated else None,
        "highest": float(sum(line["highest"] for line in evaluated)) if evaluated else None,
        "lines": lines,
    }


def _scored(
    line: ScorecardLine,
    curves: Mapping[str, Dvh],
    resolve: Callable[[str], str | None] | None,
    prescription_gy: float | None,
    body: Dvh | None,
) -> dict[str, Any]:
    bound, reason = bind_structure(line.structure, curves, resolve)
    value: float | None = None
    if line.metric is None:
        reason = f"the metric {line.name} is not known here"
    elif bound is not None:
        try:
            value = line.metric.value(curves[bound], prescription_gy, body)
        except NotEvaluable as error:
            reason = str(error)
    return {
        "structure": line.structure,
        "bound_to": bound,
        "metric": line.name,
        "value": value,
        "unit": line.metric.unit if line.metric else "",
        "score": None if value is None else line.score(value),
        "highest": line.highest,
        "reason": reason or None,
        "source": line.comment or None,
    }


def _line(template: CardLine) -> ScorecardLine:
    name = template.Structure.TemplateStructureId or template.Structure.StructureId
    if not name:
        raise DosePredictionError("its structure has no name.")
    metric, factor = _metric(template)
    if not template.ScorePoints:
        raise DosePredictionError("it has no score points.")
    points = sorted((point.PointX * factor, point.Score) for point in template.ScorePoints)
    label = str(metric) if metric is not None else template.MetricType
    return ScorecardLine(name, label, metric, tuple(points), template.MetricComment or "")


def _number(text: float | str | None) -> float:
    """A number that a card may hold as a text; 0 where it holds none."""
    return float(text) if text else 0.0


def _metric(template: CardLine) -> tuple[Metric | None, float]:
    """The metric, and what the card's values are multiplied by to be in its unit."""
    kind, amount = template.MetricType, _number(template.InputValue)
    given, wanted = template.InputUnit or "", template.OutputUnit or ""
    unit = "%Rx" if wanted == "%" else "Gy"
    factor = 0.01 if wanted == _CENTIGRAY else 1.0
    if kind in _PLAIN:
        return Metric(_PLAIN[kind], unit=unit), factor  # type: ignore[arg-type]
    if kind == "DoseAtVolume":
        return Metric(
            "dose_cc" if given.lower() == "cc" else "dose_percent", amount, unit=unit
        ), factor
    if kind == "VolumeAtDose":
        volume = "cc" if wanted.lower() == "cc" else "%"
        if given == "%":
            return Metric("volume", amount, of_prescription=True, unit=volume), 1.0
        return Metric("volume", amount * (0.01 if given == _CENTIGRAY else 1.0), unit=volume), 1.0
    return None, 1.0
