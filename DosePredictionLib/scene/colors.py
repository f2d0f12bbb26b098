"""Color tables for doses and differences.

Planners read a dose by its isodose colors, cold to hot; Slicer's own Rainbow runs the other way.
The levels are percentages of the highest prescription, near the prescription closer together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVELS", "fill_difference_table", "fill_dose_table", "fill_level_table"]

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

# Blue and orange stay apart in all common color vision deficiencies. Zero is transparent.
_DIFFERENCE = (
    (0.0, "#b5dcff", 1.0),
    (0.2, "#4da3f5", 1.0),
    (0.42, "#1b5fa8", 0.85),
    (0.5, "#777777", 0.0),
    (0.58, "#a8540c", 0.85),
    (0.8, "#f08a24", 1.0),
    (1.0, "#ffdfae", 1.0),
)
_COLORS = 256


def fill_dose_table(table: Any) -> None:
    """256 colors from the first to the last level; each level has its own color exactly."""
    percent = np.array([level for level, _ in LEVELS])
    share = (percent - percent[0]) / (percent[-1] - percent[0])
    rgb = np.array([_rgb(color) for _, color in LEVELS])
    _fill(table, share, np.column_stack([rgb, np.ones(len(rgb))]))


def fill_difference_table(table: Any) -> None:
    """256 colors from less to more dose; zero in the middle is transparent."""
    share = np.array([place for place, _, _ in _DIFFERENCE])
    rgba = np.array([(*_rgb(color), alpha) for _, color, alpha in _DIFFERENCE])
    _fill(table, share, rgba)


def fill_level_table(table: Any, prescription_gy: float) -> None:
    """One color a level, named by its dose in Gy, as SlicerRT's isodose tables are."""
    was = table.StartModify()
    table.SetTypeToUser()
    table.SetNumberOfColors(len(LEVELS))
    for index, (percent, color) in enumerate(LEVELS):
        table.SetColor(index, f"{percent * prescription_gy / 100:g}", *_rgb(color), 1.0)
    table.EndModify(was)


def _fill(table: Any, places: NDArray[np.float64], rgba: NDArray[np.float64]) -> None:
    was = table.StartModify()
    table.SetTypeToUser()
    table.SetNumberOfColors(_COLORS)
    position = np.linspace(0, 1, _COLORS)
    channels = [np.interp(position, places, rgba[:, channel]) for channel in range(4)]
    for index, color in enumerate(zip(*channels, strict=True)):
        table.SetColor(index, f"{index}", *map(float, color))
    table.EndModify(was)


def _rgb(color: str) -> tuple[float, float, float]:
    """Shares of red, green and blue of "#rrggbb"."""
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue
