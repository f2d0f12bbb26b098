"""The tables of a result, to show and to copy: goals, DVH metrics, scores, what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from DosePredictionLib.tables import csv_text

from .i18n import _

if TYPE_CHECKING:
    from DosePredictionLib.evaluation.dvh import Dvh

__all__ = ["Cell", "Table", "change_table", "dvh_table", "goals_table", "scores_table"]

_METRICS = ("Dmean_gy", "D98_gy", "D95_gy", "D50_gy", "D2_gy", "D0.03cc_gy")
_SCORES = (
    ("mae_body_gy", "Mean absolute error in the body, Gy"),
    ("bias_body_gy", "Mean difference in the body, Gy"),
    ("mae_above_5gy_gy", "Mean absolute error above 5 Gy, Gy"),
    ("dose_score_gy", "OpenKBP dose score, Gy"),
    ("dvh_score_gy", "OpenKBP DVH score, Gy"),
    ("ssim", "Structural similarity"),
)


@dataclass(frozen=True)
class Cell:
    """A cell: text, what hovering shows, and a goal's status if it is one."""

    text: str
    tool_tip: str = ""
    status: str = ""


@dataclass(frozen=True)
class Table:
    """A table to show and to copy."""

    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def as_text(self, delimiter: str = "\t") -> str:
        """Tab- or comma-separated values with a header line, as spreadsheets take them."""
        return csv_text(
            [self.headers, *([cell.text for cell in row] for row in self.rows)], delimiter
        )


def goals_table(
    predicted: Sequence[Mapping[str, Any]],
    planned: Sequence[Mapping[str, Any]] | None = None,
    before: Sequence[Mapping[str, Any]] | None = None,
) -> Table:
    """Goals of the prediction beside those of the result before and of the plan.

    Args:
        predicted, planned, before: as `evaluate_goals` returns them, of one template.
    """
    columns = {_("Predicted"): predicted, _("Before"): before, _("Plan"): planned}
    shown = {title: goals for title, goals in columns.items() if goals is not None}
    rows = tuple(_goal_cells(goals[0], goals) for goals in zip(*shown.values(), strict=True))
    return Table((_("Structure"), _("Goal"), *shown), rows)


def dvh_table(
    predicted: Mapping[str, Dvh],
    planned: Mapping[str, Dvh] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Table:
    """DVH metrics by structure: a row for the prediction and, below it, one for the plan."""
    from DosePredictionLib.report.wording import endpoint_label

    headers = (_("Structure"), _("Dose"), "cc", *(f"{endpoint_label(key)}" for key in _METRICS))
    rows = []
    for name, curve in predicted.items():
        label = (labels or {}).get(name, name)
        rows.append(_metric_cells(label, _("predicted"), curve))
        if planned is not None and name in planned:
            rows.append(_metric_cells("", _("plan"), planned[name]))
    return Table(headers, tuple(rows))


def scores_table(evaluation: Mapping[str, Any] | None) -> Table:
    """How far the prediction is from the plan; empty without a plan dose.

    The dose score is named with the region that it is over.
    """
    from DosePredictionLib.report.wording import number

    headers = (_("Score"), _("Value"))
    scores = evaluation or {}
    region = str(scores.get("dose_score_region") or "").replace("_", " ")
    rows = []
    for key, label in _SCORES:
        if scores.get(key) is None:
            continue
        is_over = region and key == "dose_score_gy"
        over = _(" (over {region})").format(region=region) if is_over else ""
        digits = 3 if key == "ssim" else 2
        rows.append((Cell(_(label) + over), Cell(number(scores[key], digits))))
    return Table(headers, tuple(rows))


def change_table(before: Mapping[str, Dvh], after: Mapping[str, Dvh]) -> Table:
    """New minus old of the DVH metrics; the structures that changed most come first."""
    from DosePredictionLib.report.wording import endpoint_label, signed

    headers = (_("Structure"), _("Δ cc"), *(f"Δ {endpoint_label(key)}" for key in _METRICS))
    rows = []
    for name in after:
        if name not in before:
            continue
        new, old = after[name].endpoints(_METRICS), before[name].endpoints(_METRICS)
        deltas = [_difference(new[key], old[key]) for key in _METRICS]
        volume = signed(after[name].volume_cc - before[name].volume_cc)
        tips = [_from_to(old[key], new[key]) for key in _METRICS]
        cells = (Cell(signed(delta), tip) for delta, tip in zip(deltas, tips, strict=True))
        largest = max((abs(delta) for delta in deltas if delta is not None), default=0.0)
        rows.append((largest, (Cell(name), Cell(volume), *cells)))
    rows.sort(key=lambda row: -row[0])
    return Table(headers, tuple(cells for _largest, cells in rows))


def _goal_cells(goal: Mapping[str, Any], judged: Sequence[Mapping[str, Any]]) -> tuple[Cell, ...]:
    source = str(goal["source"] or "")
    text = str(goal["goal"]).replace("<=", "≤").replace(">=", "≥")
    return (Cell(str(goal["structure"])), Cell(text, source), *map(_judged, judged))


def _judged(goal: Mapping[str, Any]) -> Cell:
    """Symbol and value; the words, the margin or the reason in the tooltip."""
    from DosePredictionLib.report.wording import number, signed, status_words

    symbol, words = status_words(goal["status"])
    if goal["value"] is None:
        return Cell(f"{symbol} –", str(goal["reason"] or words), "not_evaluable")
    unit = str(goal["unit"])
    digits = 1 if unit else 2
    value = number(goal["value"], digits)  # the unit stands in the goal beside it
    margin = f"{signed(goal['margin'], digits)} {unit}".strip()
    tip = _("{value} {unit}: {words}, margin {margin}").format(
        value=value, unit=unit, words=words, margin=margin
    )
    return Cell(f"{symbol} {value}", tip, str(goal["status"]))


def _metric_cells(name: str, dose: str, curve: Dvh) -> tuple[Cell, ...]:
    from DosePredictionLib.report.wording import number

    values = curve.endpoints(_METRICS)
    notes = "\n".join(finding.message for finding in curve.findings)
    numbers = (Cell(number(values[key])) for key in _METRICS)
    return (Cell(name, notes), Cell(dose), Cell(number(curve.volume_cc)), *numbers)


def _difference(new: float | None, old: float | None) -> float | None:
    return None if new is None or old is None else new - old


def _from_to(old: float | None, new: float | None) -> str:
    from DosePredictionLib.report.wording import number

    return _("from {old} to {new} Gy").format(old=number(old), new=number(new))
