"""The tables of a result, to show and to copy: goals, DVH metrics, scores, what changed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from DosePredictionLib.tables import csv_text

from .flow.state import Verdict, VerdictLine
from .i18n import _

if TYPE_CHECKING:
    from DosePredictionLib.evaluation.dvh import Dvh

__all__ = [
    "STATUS_COLORS",
    "Cell",
    "Table",
    "change_table",
    "dvh_table",
    "goals_table",
    "scores_table",
    "verdict_of",
]

# Legible on light and on dark backgrounds; a symbol always stands beside the color.
STATUS_COLORS = {
    "met": "#2e9e5b",
    "ok": "#2e9e5b",
    "by_hand": "#2e86c1",
    "variation": "#c77d00",
    "warning": "#c77d00",
    "not_met": "#e2574f",
    "blocking": "#e2574f",
}

Bands = Mapping[str, Mapping[str, Any]]
"""Structure → its bands, as `prediction.json` has them."""

_MISSED = ("not_met", "variation")

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
    """A table to show and to copy.

    Args:
        places: for each row the key of its structure and `hot` or `cold`, where a click leads to;
            empty where it leads nowhere.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    places: tuple[tuple[str, str], ...] = ()

    def as_text(self, delimiter: str = "\t") -> str:
        """Tab- or comma-separated values with a header line, as spreadsheets take them."""
        return csv_text(
            [self.headers, *([cell.text for cell in row] for row in self.rows)], delimiter
        )


def goals_table(
    predicted: Sequence[Mapping[str, Any]],
    planned: Sequence[Mapping[str, Any]] | None = None,
    other: Sequence[Mapping[str, Any]] | None = None,
    bands: Bands = MappingProxyType({}),
    title: str = "",
) -> Table:
    """Goals of the prediction beside those of another result, with Δ, and of the plan.

    Args:
        predicted, planned, other: as `evaluate_goals` returns them, of one template; the first with
            probabilities, or why there are none, which adds a column of them.
        bands: of the prediction; with some there is a column of the 90 % bands.
        title: of the first doses' column, if they are no prediction's.
    """
    from DosePredictionLib.evaluation.goal_probability import probability_words

    first = _("A") if other is not None else title or _("Predicted")
    columns = {first: predicted, _("B"): other, _("Plan"): planned}
    shown = {title: goals for title, goals in columns.items() if goals is not None}
    is_likely = any(probability_words(goal) for goal in predicted)
    rows = []
    for goals in zip(*shown.values(), strict=True):
        cells = _goal_cells(goals[0], goals)
        if other is not None:
            cells = (*cells[:4], _delta(goals[0], goals[1]), *cells[4:])
        last = (_likely(goals[0]),) if is_likely else ()
        rows.append((*cells, *((_goal_band(goals[0], bands),) if bands else ()), *last))
    titles = list(shown)
    if other is not None:
        titles.insert(2, "Δ")
    if bands:
        titles.append(_("90 %"))
    if is_likely:
        titles.append(_("Likely"))
    places = tuple(_place(goal) for goal in predicted)
    return Table((_("Structure"), _("Goal"), *titles), tuple(rows), places)


def _place(goal: Mapping[str, Any]) -> tuple[str, str]:
    """What decides a goal: the cold spot where much is wanted, else the hot spot."""
    sense = "cold" if ">" in str(goal["goal"]) else "hot"
    return str(goal["bound_to"] or ""), sense if goal["bound_to"] else ""


def _delta(goal: Mapping[str, Any], other: Mapping[str, Any]) -> Cell:
    from DosePredictionLib.report.wording import signed

    if goal["value"] is None or other["value"] is None:
        return Cell("")
    return Cell(signed(goal["value"] - other["value"], 1 if goal["unit"] else 2))


def verdict_of(goals: Sequence[Mapping[str, Any]] | None) -> Verdict:
    """How many goals are met, and those that are not, in the order of their priority."""
    from DosePredictionLib.report.wording import number

    judged = [goal for goal in goals or () if goal["status"] != "not_evaluable"]
    missed = [(row, goal) for row, goal in enumerate(goals or ()) if goal["status"] in _MISSED]
    missed.sort(key=lambda each: (_MISSED.index(each[1]["status"]), each[1]["priority"] or 100))
    lines = []
    for row, goal in missed:
        digits = 1 if goal["unit"] else 2
        metric, limit = _metric_and_limit(_readable(goal))
        text = _("{structure} {metric} {value} {unit} (goal {limit})").format(
            structure=goal["structure"],
            metric=metric,
            value=number(goal["value"], digits),
            unit=goal["unit"],
            limit=limit,
        )
        lines.append(VerdictLine(" ".join(text.split()), str(goal["status"]), row))
    met = sum(goal["status"] == "met" for goal in judged)
    return Verdict(met, len(judged), tuple(lines))


def _metric_and_limit(goal: str) -> tuple[str, str]:
    """ "V40Gy" and "≤ 35 %" of "V40Gy ≤ 35 %"."""
    match = re.fullmatch(r"(.*?)\s*([<>≤≥].*)", goal)
    return (match[1], match[2]) if match is not None else ("", goal)


def _readable(goal: Mapping[str, Any]) -> str:
    return str(goal["goal"]).replace("<=", "≤").replace(">=", "≥").replace(" %", "%")


def dvh_table(
    predicted: Mapping[str, Dvh],
    planned: Mapping[str, Dvh] | None = None,
    other: Mapping[str, Dvh] | None = None,
    names: Mapping[str, str] | None = None,
    bands: Bands = MappingProxyType({}),
    title: str = "",
) -> Table:
    """DVH metrics by structure: a row for the prediction, below it those of B and of the plan.

    Args:
        names: key → what the person calls it.
        bands: of the prediction; its values say them when they are hovered over.
        title: of the first doses, if they are no prediction's.
    """
    from DosePredictionLib.report.wording import endpoint_label

    headers = (_("Structure"), _("Dose"), "cc", *(f"{endpoint_label(key)}" for key in _METRICS))
    first = _("A") if other is not None else title or _("predicted")
    doses = ((first, predicted), (_("B"), other), (_("plan"), planned))
    rows, places = [], []
    for name in predicted:
        label = (names or {}).get(name, name)
        for which, curves in doses:
            if curves is not None and name in curves:
                mine = bands.get(name, {}) if curves is predicted else {}
                rows.append(_metric_cells(label, which, curves[name], mine))
                places.append((name, ""))
                label = ""
    return Table(headers, tuple(rows), tuple(places))


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


def change_table(
    before: Mapping[str, Dvh], after: Mapping[str, Dvh], names: Mapping[str, str] | None = None
) -> Table:
    """A minus B of the DVH metrics; the structures that differ most come first."""
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
        label = (names or {}).get(name, name)
        rows.append((largest, (Cell(label), Cell(volume), *cells), (name, "")))
    rows.sort(key=lambda row: -row[0])
    return Table(headers, tuple(row[1] for row in rows), tuple(row[2] for row in rows))


def _goal_cells(goal: Mapping[str, Any], judged: Sequence[Mapping[str, Any]]) -> tuple[Cell, ...]:
    source = str(goal["source"] or "")
    return (
        Cell(str(goal["structure"])),
        Cell(_readable(goal), source),
        *map(_judged, judged),
    )


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


def _metric_cells(name: str, dose: str, curve: Dvh, bands: Mapping[str, Any]) -> tuple[Cell, ...]:
    from DosePredictionLib.report.wording import number

    values = curve.endpoints(_METRICS)
    notes = "\n".join(finding.message for finding in curve.findings)
    known = bands.get("endpoints", {})
    numbers = (Cell(number(values[key]), _band_tip(known.get(key), "Gy")) for key in _METRICS)
    return (Cell(name, notes), Cell(dose), Cell(number(curve.volume_cc)), *numbers)


def _goal_band(goal: Mapping[str, Any], bands: Bands) -> Cell:
    """Where the plan's value is to be expected, in the goal's unit; empty where not calibrated."""
    endpoint = goal.get("endpoint")
    if endpoint is None or goal["value"] is None:
        return Cell("")
    known = bands.get(str(goal["bound_to"] or ""), {}).get("endpoints", {})
    band = known.get(endpoint["key"])
    if band is None:
        return Cell("")
    in_unit = {
        level: {end: value / endpoint["factor"] for end, value in ends.items()}
        for level, ends in band.items()
    }
    return Cell(_from_low_to_high(in_unit["90"]), _band_tip(in_unit, str(goal["unit"])))


def _likely(goal: Mapping[str, Any]) -> Cell:
    """How likely a plan meets the goal; in the tooltip with its interval, or why nobody knows."""
    from DosePredictionLib.evaluation.goal_probability import probability_words

    words = probability_words(goal)
    if not goal.get("probability"):
        return Cell("–" if words else "", words)
    tip = _("A plan like those of the calibration meets this goal with {words}")
    return Cell(words.partition(" (")[0], tip.format(words=words))


def _band_tip(band: Mapping[str, Any] | None, unit: str) -> str:
    if band is None:
        return ""
    text = _("A plan like those of the calibration: {wide} {unit} (90 %), {narrow} {unit} (50 %)")
    wide, narrow = (_from_low_to_high(band[level]) for level in ("90", "50"))
    return text.format(wide=wide, narrow=narrow, unit=unit)


def _from_low_to_high(ends: Mapping[str, float]) -> str:
    from DosePredictionLib.report.wording import number

    return _("{low} – {high}").format(low=number(ends["low"]), high=number(ends["high"]))


def _difference(new: float | None, old: float | None) -> float | None:
    return None if new is None or old is None else new - old


def _from_to(old: float | None, new: float | None) -> str:
    from DosePredictionLib.report.wording import number

    return _("from {old} to {new} Gy").format(old=number(old), new=number(new))
