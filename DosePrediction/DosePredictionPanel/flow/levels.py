"""Isodose levels as a person types them."""

from __future__ import annotations

import re

from ..i18n import _
from .state import Levels

__all__ = ["levels_text", "parse_levels"]

_MOST = 20
_HIGHEST = {"%": 200.0, "Gy": 200.0}
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")


def parse_levels(text: str) -> Levels | None:
    """Levels from "50 95 107 %" or "20; 45 Gy"; without a unit percent; None for no text at all.

    Raises:
        ValueError: it holds something else, none, too many or impossible levels.
    """
    if not text.strip():
        return None
    match = re.fullmatch(r"(?P<values>[\d\s.,;]+)(?P<unit>%|Gy)?", text.strip(), re.IGNORECASE)
    unit = "Gy" if match is not None and (match["unit"] or "").lower() == "gy" else "%"
    # A comma between digits is a decimal one, unless a space follows.
    found = _NUMBER.findall(match["values"]) if match is not None else []
    values = tuple(sorted({float(value.replace(",", ".")) for value in found}))
    if not values or len(values) > _MOST or values[0] <= 0 or values[-1] > _HIGHEST[unit]:
        message = _(
            "{text} are no isodose levels. Type numbers above 0, up to 200, and a unit: "
            "50 95 107 % or 20 45 Gy; nothing for the usual ones."
        )
        raise ValueError(message.format(text=text.strip()))
    return Levels(values, unit)


def levels_text(levels: Levels | None) -> str:
    """As `parse_levels` reads them; empty for the usual ones."""
    if levels is None:
        return ""
    return " ".join(f"{value:g}" for value in (*levels.values,)) + f" {levels.unit}"
