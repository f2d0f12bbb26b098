"""What the report's tiles and tables hold, ready for the template: text, not numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..evaluation.goal_probability import probability_words
from ..evaluation.plan_review import VERDICTS, review_summary
from ..findings import Finding, worst_first
from .content import BAND_LEVEL, ReportInput
from .dvh_chart import StructureDvh
from .planes import target_order
from .wording import (
    MISSING,
    clean,
    endpoint_label,
    endpoint_unit,
    number,
    signed,
    status_words,
    when,
)

__all__ = [
    "EndpointGroup",
    "EndpointRow",
    "GoalRow",
    "ReviewRow",
    "Row",
    "Tile",
    "bands_note",
    "endpoint_groups",
    "goal_rows",
    "goal_sources",
    "headline_tiles",
    "model_rows",
    "review_note",
    "review_rows",
    "run_rows",
    "score_rows",
    "sorted_findings",
]

_TARGET_KEYS = ("D99_gy", "D95_gy", "D1_gy", "Dmean_gy", "V95percent_percent")
_ORGAN_KEYS = ("Dmean_gy", "D0.1cc_gy", "V20Gy_percent", "V30Gy_percent", "V40Gy_percent")
_SHORT = 6  # a list up to this long needs no choice
_BAR_GY = 10.0  # differences beyond this fill the bar in the endpoint table


@dataclass(frozen=True)
class Tile:
    """A headline number."""

    label: str
    value: str
    unit: str
    note: str


@dataclass(frozen=True)
class Row:
    """A name, what it is, and a remark."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class EndpointRow:
    """One endpoint; `bar` is the difference as a share of a full bar, -1…1, or None.

    `band` is where the plan's is to be expected; empty where that was not calibrated.
    """

    label: str
    unit: str
    prediction: str
    reference: str
    difference: str
    bar: float | None
    band: str = ""


@dataclass(frozen=True)
class EndpointGroup:
    """The endpoints of one structure; `index` is its place in the report's list.

    `rows` are those that one looks for first, `more` the others.
    """

    label: str
    index: int
    detail: str
    rows: tuple[EndpointRow, ...]
    more: tuple[EndpointRow, ...]


@dataclass(frozen=True)
class GoalRow:
    """One clinical goal and whether it is met; `source` is its number in `goal_sources`."""

    structure: str
    goal: str
    symbol: str
    words: str
    status: str
    value: str
    margin: str
    plan: str
    note: str
    source: int | None
    probability: str = ""


@dataclass(frozen=True)
class ReviewRow:
    """Where a plan lies outside of the band of one endpoint or curve."""

    structure: str
    endpoint: str
    plan: str
    band: str
    outside: str
    unit: str
    verdict: str
    gains: bool


def headline_tiles(report: ReportInput, curves: Sequence[StructureDvh]) -> list[Tile]:
    """The few numbers to see first. One that is unknown has no tile."""
    scores = (
        ("dose_score_gy", "Dose score", "mean |difference|; lower is better"),
        ("dvh_score_gy", "DVH score", "mean |difference| of DVH endpoints; lower is better"),
        ("mae_body_gy", "MAE in body", "against the plan"),
    )
    tiles = [
        Tile(label, text, "Gy", note)
        for key, label, note in scores
        if (text := number(report.evaluation.get(key), 2)) != MISSING
    ]
    tiles += _coverage_tiles(report, curves, 1 if tiles else 3)
    if not tiles or len(tiles) < 3:
        tiles += [_hottest(curves)] if curves else []
    return tiles


def _coverage_tiles(report: ReportInput, curves: Sequence[StructureDvh], most: int) -> list[Tile]:
    by_key = {curve.structure.key: curve for curve in curves}
    tiles = []
    for target in target_order(report):
        curve, dose_gy = by_key[target.key], report.prescribed_to(target)
        coverage = curve.prediction.endpoint("V95percent_percent", dose_gy)
        if coverage is None or dose_gy is None:
            continue
        note = f"of {clean(target.label)} gets ≥ {number(0.95 * dose_gy)} Gy"
        if curve.reference is not None:
            note += (
                f"; plan {number(curve.reference.endpoint('V95percent_percent', dose_gy))}\u00a0%"
            )
        tiles.append(Tile("Coverage V95%", number(coverage), "%", note))
    return tiles[:most]


def _hottest(curves: Sequence[StructureDvh]) -> Tile:
    """The highest near-maximum dose of all structures."""
    doses = [(c.prediction.dose_at_percent(2), c.structure.label) for c in curves]
    known = [(dose, label) for dose, label in doses if dose is not None]
    dose, label = max(known, default=(None, "no structure"))
    return Tile("Near-maximum D2%", number(dose), "Gy", f"in {clean(label)}, the highest")


def endpoint_groups(report: ReportInput, curves: Sequence[StructureDvh]) -> list[EndpointGroup]:
    """Endpoints by structure: as evaluated, or else from the curves."""
    groups = []
    for curve in curves:
        evaluated = report.evaluated(curve.structure)
        endpoints = evaluated.get("endpoints") or _own_endpoints(report, curve)
        volume = evaluated.get("volume_cc", curve.prediction.volume_cc)
        detail = f"{number(volume)} cc" if curve.prediction.volume_cc else "empty"
        if number(evaluated.get("mae_gy")) != MISSING:
            detail += f", MAE {number(evaluated['mae_gy'])} Gy"
        first = _keys(curve)
        if len(endpoints) <= _SHORT:
            first = tuple(endpoints)
        more = [key for key in endpoints if key not in first]
        bands = report.banded(curve.structure).get("endpoints", {})
        groups.append(
            EndpointGroup(
                label=clean(curve.structure.label),
                index=curve.index,
                detail=detail,
                rows=tuple(_endpoint_row(k, endpoints[k], bands) for k in first if k in endpoints),
                more=tuple(_endpoint_row(k, endpoints[k], bands) for k in more),
            )
        )
    return groups


def _keys(curve: StructureDvh) -> tuple[str, ...]:
    return _TARGET_KEYS if curve.structure.role == "target" else _ORGAN_KEYS


def _own_endpoints(report: ReportInput, curve: StructureDvh) -> dict[str, dict[str, float | None]]:
    dose_gy = report.prescribed_to(curve.structure)
    reference = curve.reference
    return {
        key: {
            "prediction": curve.prediction.endpoint(key, dose_gy),
            "reference": reference.endpoint(key, dose_gy) if reference else None,
        }
        for key in _keys(curve)
    }


def _endpoint_row(
    key: str, values: Mapping[str, Any] | None, bands: Mapping[str, Any]
) -> EndpointRow:
    prediction, reference = (values or {}).get("prediction"), (values or {}).get("reference")
    unit, difference = endpoint_unit(key), None
    if MISSING not in (number(prediction), number(reference)):
        difference = float(prediction) - float(reference)  # type: ignore[arg-type]
    bar = None
    if difference is not None and unit == "Gy":
        bar = max(-1.0, min(1.0, difference / _BAR_GY))
    band = ""
    if key in bands:
        ends = bands[key][BAND_LEVEL]
        band = f"{number(ends['low'])} to {number(ends['high'])}"
    numbers = number(prediction), number(reference), signed(difference)
    return EndpointRow(endpoint_label(key), unit, *numbers, bar, band)


def bands_note(report: ReportInput) -> str:
    """From whom the bands come, and what they held there; empty without bands."""
    calibration = report.bands.get("calibration")
    if not calibration:
        return ""
    cohort = clean(calibration["cohort"])
    note = (
        f"{BAND_LEVEL} % bands from {calibration['patients']} calibration patients"
        f"{f' ({cohort})' if cohort else ''}: where a plan like theirs is to be expected."
    )
    measured = calibration["coverage"].get(BAND_LEVEL)
    if measured is None:
        return f"{note} Too few to measure what the bands hold."
    return (
        f"{note} In random halves of these patients they held "
        f"{number(measured['endpoints_percent'])} % of endpoints and "
        f"{number(measured['curves_percent'])} % of whole curves."
    )


def goal_rows(report: ReportInput) -> list[GoalRow]:
    """Clinical goals in the order of the evaluation."""
    sources = goal_sources(report)
    rows = []
    for goal in report.evaluation.get("goals") or ():
        symbol, words = status_words(goal.get("status"))
        unit, source = goal.get("unit"), clean(goal.get("source") or "")
        rows.append(
            GoalRow(
                structure=clean(goal.get("structure") or MISSING),
                goal=clean(goal.get("goal") or MISSING).replace("<=", "≤").replace(">=", "≥"),
                symbol=symbol,
                words=words,
                status=str(goal.get("status") or "not_evaluable"),
                value=_with_unit(number(goal.get("value")), unit),
                margin=_with_unit(signed(goal.get("margin")), unit),
                plan=_plan_cell(goal.get("reference") or {}, unit),
                note=clean(goal.get("reason") or goal.get("note") or ""),
                source=sources.index(source) + 1 if source else None,
                probability=_probability_cell(goal),
            )
        )
    return rows


def goal_sources(report: ReportInput) -> list[str]:
    """Where the goals' limits are published, each source once."""
    named = (clean(goal.get("source") or "") for goal in report.evaluation.get("goals") or ())
    return list(dict.fromkeys(source for source in named if source))


def review_rows(report: ReportInput) -> list[ReviewRow]:
    """Where the plan lies outside its bands, in the order of the review."""
    labels = {structure.key: structure.label for structure in report.structures}
    rows = []
    for row in (report.evaluation.get("review") or {}).get("rows", ()):
        key = row["endpoint"]
        what = f"curve, at D{row['volume_percent']}%" if key is None else endpoint_label(key)
        rows.append(
            ReviewRow(
                structure=clean(labels.get(row["structure"], row["structure"])),
                endpoint=what,
                plan=number(row["plan"]),
                band=f"{number(row['low'])} to {number(row['high'])}",
                outside=signed(row["outside"]),
                unit=row["unit"],
                verdict=VERDICTS[row["verdict"]],
                gains=row["verdict"] == "likely_to_gain",
            )
        )
    return rows


def review_note(report: ReportInput) -> str:
    """How much of the plan lies outside, beside what would by chance; empty without a review."""
    review = report.evaluation.get("review")
    if not review or not review["reviewed"]:
        return ""
    text = review_summary(review)
    return text[0].upper() + text[1:] + "."


def _probability_cell(goal: Mapping[str, Any]) -> str:
    """How likely a plan meets the goal, or why nobody knows; empty without a calibration."""
    return clean(probability_words(goal))


def _plan_cell(plan: Mapping[str, Any], unit: Any) -> str:
    """The plan's value with the symbol of its status; empty without a plan."""
    if not plan or plan.get("value") is None:
        return ""
    return f"{status_words(plan.get('status'))[0]} {_with_unit(number(plan['value']), unit)}"


def _with_unit(text: str, unit: Any) -> str:
    return text if text == MISSING or not unit else f"{text} {clean(unit)}"


def score_rows(report: ReportInput) -> list[Row]:
    """Scores against the plan, gamma included; unknown ones are left out."""
    region = clean(report.evaluation.get("dose_score_region") or "").replace("_", " ")
    over = f"OpenKBP, over {region}" if region else "OpenKBP"
    named = (
        ("dose_score_gy", "Dose score", 2, " Gy", f"{over}; lower is better"),
        ("dvh_score_gy", "DVH score", 2, " Gy", "OpenKBP; lower is better"),
        ("mae_body_gy", "Mean absolute error in body", 2, " Gy", ""),
        (
            "mae_above_5gy_gy",
            "Mean absolute error above 5 Gy",
            2,
            " Gy",
            "where the plan exceeds 5 Gy",
        ),
        ("ssim", "Structural similarity (SSIM)", 3, "", "1 is equal"),
    )
    rows = [
        Row(label, text + unit, note)
        for key, label, digits, unit, note in named
        if (text := number(report.evaluation.get(key), digits)) != MISSING
    ]
    for criterion, result in (report.evaluation.get("gamma") or {}).items():
        rate = result.get("pass_rate_percent") if isinstance(result, Mapping) else result
        name = clean(criterion).replace("%", " %").replace("mm", " mm")
        rows.append(Row(f"Gamma {name}", _with_unit(number(rate), "%"), "points that pass, γ ≤ 1"))
    return rows


def sorted_findings(report: ReportInput) -> list[Finding]:
    """Findings, worst first."""
    return worst_first(list(report.metadata.get("findings") or ()))


def model_rows(report: ReportInput) -> list[Row]:
    """What is known of the model."""
    metadata = report.metadata
    card: Mapping[str, Any] = metadata.get("card") or {}
    named = (
        ("Model", metadata.get("title") or metadata.get("model")),
        ("Name", metadata.get("model")),
        ("Protocol", metadata.get("protocol")),
        ("Trained on", card.get("trained_on")),
        ("Measured", card.get("figures")),
        ("Made for", card.get("prescription")),
        ("Intended use", card.get("intended_use")),
        ("License", card.get("licence")),
        ("Cite", card.get("citation")),
        ("SHA-256 of weights", metadata.get("weights_sha256")),
    )
    return _known(named)


def run_rows(report: ReportInput) -> list[Row]:
    """How this dose was computed."""
    metadata = report.metadata
    prescription = {clean(k): f"{v:g} Gy" for k, v in report.prescription_gy.items()}
    fractions = metadata.get("fractions")
    named = (
        ("Prescription", _text(prescription) + (f" in {fractions} fractions" if fractions else "")),
        ("Beams", metadata.get("beams")),
        ("Wishes", "; ".join(metadata.get("wishes") or ())),
        ("Device", metadata.get("device")),
        ("Precision", metadata.get("precision")),
        ("Time", _seconds(metadata.get("seconds"))),
        ("Fallbacks", "; ".join(metadata.get("fallbacks") or ()) or "none"),
        ("Grid", str(report.case.grid)),
        ("Generated", when(metadata.get("generated"))),
        ("Software", metadata.get("version") and f"DosePrediction {metadata['version']}"),
    )
    return _known(named)


def _known(named: Iterable[tuple[str, Any]]) -> list[Row]:
    return [Row(label, text) for label, value in named if value and (text := _text(value))]


def _seconds(seconds: Any) -> str:
    if isinstance(seconds, Mapping):
        steps = {step: f"{number(value, 2)} s" for step, value in seconds.items()}
        return _text(steps)
    text = number(seconds, 2)
    return "" if text == MISSING else f"{text} s"


def _text(value: Any) -> str:
    """Text, a number, a list or a mapping as one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{clean(k).replace('_', ' ')} {_text(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, float):
        digits = 3 if abs(value) < 10 else 1
        return number(value, digits)
    return clean(value)
