"""Color tables for doses and differences.

Planners read a dose by its isodose colors, cold to hot; Slicer's own Rainbow runs the other way.
The levels are percentages of the highest prescription, near the prescription closer together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DEFAULT_LEVELS",
    "LEVELS",
    "IsodoseLevels",
    "fill_difference_table",
    "fill_dose_table",
    "fill_level_table",
]

LEVELS: tuple[tuple[float, str], ...] = (
    (20.0, "#3b3f9e"),
    (40.0, "#2a6fdb"),
    (60.0, "#19b3d9"),
    (80.0, "#2fc46c"),
    (90.0, "#b6dd2a"),
    (95.0, "#ffe11a"),
    (100.0, "#ff9d0a"),
    (105.0, "#f4431f"),
    (110.0, "#c3127a"),
)
"""Isodose levels, percent of the highest prescription, and their colors."""


@dataclass(frozen=True)
class IsodoseLevels:
    """Which isodoses are drawn: rising values in Gy, or in percent of the highest prescription."""

    values: tuple[float, ...]
    unit: Literal["Gy", "%"] = "%"

    def in_gy(self, prescription_gy: float) -> tuple[float, ...]:
        """The same in Gy."""
        factor = prescription_gy / 100 if self.unit == "%" else 1.0
        return tuple(value * factor for value in self.values)


DEFAULT_LEVELS = IsodoseLevels(tuple(percent for percent, _ in LEVELS))

# Blue and orange stay apart in all common color vision deficiencies.
_DIFFERENCE = (
    (0.0, "#b5dcff"),
    (0.2, "#4da3f5"),
    (0.45, "#16508f"),
    (0.55, "#8f4a0a"),
    (0.8, "#f08a24"),
    (1.0, "#ffdfae"),
)
_HIDDEN = 0.05  # around the middle; slice views draw a color fully unless its opacity is 0
_COLORS = 256


def fill_dose_table(table: Any) -> None:
    """256 colors from the first to the last level; each level has its own color exactly."""
    _fill(table, _dose_colors(np.linspace(0, 1, _COLORS)), np.ones(_COLORS))


def fill_difference_table(table: Any) -> None:
    """256 colors from less to more dose; a tenth of the range around zero is not drawn."""
    place = np.linspace(0, 1, _COLORS)
    places = [each for each, _ in _DIFFERENCE]
    rgb = _interpolated(place, places, [color for _, color in _DIFFERENCE])
    _fill(table, rgb, np.where(np.abs(place - 0.5) > _HIDDEN, 1.0, 0.0))


def fill_level_table(
    table: Any, names: Sequence[str], shares: Sequence[float] | None = None
) -> None:
    """One named color a level.

    Args:
        names: of the levels.
        shares: place of each level in the range of colors that the dose is drawn with, 0…1; None:
            the range from the first to the last level.
    """
    places = np.array(_shares() if shares is None else shares)
    _fill(table, _dose_colors(places), np.ones(len(names)), names)


def _shares() -> list[float]:
    """Place of each level between the first and the last."""
    first, last = LEVELS[0][0], LEVELS[-1][0]
    return [(percent - first) / (last - first) for percent, _ in LEVELS]


def _dose_colors(place: NDArray[np.float64]) -> NDArray[np.float64]:
    return _interpolated(place, _shares(), [color for _, color in LEVELS])


def _interpolated(
    place: NDArray[np.float64], places: Sequence[float], colors: Sequence[str]
) -> NDArray[np.float64]:
    """Colors `(place, rgb)` between the given ones."""
    rgb = np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in colors])
    return np.stack([np.interp(place, places, rgb[:, channel]) for channel in range(3)], axis=1)


def _fill(
    table: Any,
    rgb: NDArray[np.float64],
    opacity: NDArray[np.float64],
    names: Sequence[str] | None = None,
) -> None:
    was = table.StartModify()
    table.SetTypeToUser()
    table.SetNumberOfColors(len(rgb))
    for index, (color, alpha) in enumerate(zip(rgb, opacity, strict=True)):
        name = f"{index}" if names is None else names[index]
        table.SetColor(index, name, *map(float, color), float(alpha))
    table.EndModify(was)
