"""The review of a plan as a table: where it lies outside the bands of what such plans reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .i18n import _
from .result_tables import Cell, Table

__all__ = ["review_table"]

_STATUS = {"likely_to_gain": "variation", "better": "met", "differs": ""}
_SIGNS = {"likely_to_gain": "!", "better": "✓", "differs": "≠"}


def review_table(review: Mapping[str, Any] | None, names: Mapping[str, str]) -> Table:
    """What is likely to gain first; empty without a plan, a calibration or anything outside.

    Args:
        review: as `prediction.json` has it.
        names: key → what the person calls the structure.
    """
    if review is None:
        return Table((), ())
    band = _("{level} % band").format(level=review["level_percent"])
    headers = (_("Structure"), _("Endpoint"), _("Plan"), band, _("Outside"))
    rows = tuple(_cells(row, names) for row in review["rows"])
    return Table(headers, rows, tuple(_place(row) for row in review["rows"]))


def _cells(row: Mapping[str, Any], names: Mapping[str, str]) -> tuple[Cell, ...]:
    from DosePredictionLib.report.wording import number, reviewed_label, signed

    verdict = row["verdict"]
    band = _("{low} – {high}").format(low=number(row["low"]), high=number(row["high"]))
    tip = _("{words}: {plan} {unit} in the plan, {predicted} predicted, such plans reach {band}")
    tip = tip.format(
        words=_words(verdict),
        plan=number(row["plan"]),
        predicted=number(row["predicted"]),
        unit=row["unit"],
        band=band,
    )
    outside = f"{_SIGNS[verdict]} {signed(row['outside'])} {row['unit']}"
    return (
        Cell(names.get(row["structure"], row["structure"])),
        Cell(reviewed_label(row), tip),
        Cell(number(row["plan"]), tip),
        Cell(band, tip),
        Cell(outside, tip, _STATUS[verdict]),
    )


def _words(verdict: str) -> str:
    return {
        "likely_to_gain": _("Likely to gain"),
        "better": _("Better than such plans reach"),
        "differs": _("Unlike such plans"),
    }[verdict]


def _place(row: Mapping[str, Any]) -> tuple[str, str]:
    """A click leads to the hottest voxel of what gets too much, to the coldest of the rest."""
    return row["structure"], "hot" if row["outside"] > 0 else "cold"
