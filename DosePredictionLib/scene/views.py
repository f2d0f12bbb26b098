"""Layouts, and centering the slices on a place. Sets nodes only; the window follows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .results import SceneResult

__all__ = ["jump_to", "show_result_layout", "slices_and_chart_layout"]


def slices_and_chart_layout() -> int:
    """Id of the layout with three slices and the plot; defined in the layout node on first use.

    Without a layout node (no window) the id alone is returned.
    """
    raise NotImplementedError


def show_result_layout(result: SceneResult) -> None:
    """Switch to slices and plot, and put the DVH chart into the plot."""
    raise NotImplementedError


def jump_to(position_mm: Sequence[float], ct: Any) -> None:
    """Center all slice views on a finding's position (LPS mm of the case read from `ct`)."""
    raise NotImplementedError
