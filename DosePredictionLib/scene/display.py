"""How a dose lies over the CT: colors, range, isodose lines, legend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .results import SceneResult

__all__ = ["DisplaySettings", "Layer", "Unit", "apply_display", "default_range"]

Layer = Literal["prediction", "plan", "difference", "change", "nothing"]
Unit = Literal["Gy", "%"]


@dataclass(frozen=True)
class DisplaySettings:
    """How a result is shown.

    Args:
        layer: what lies over the CT.
        opacity: of the overlay, 0…1.
        low, high: range of the colors in `unit`; below `low` nothing is drawn. None: the default.
        unit: Gy, or percent of the highest prescription.
        isodoses: whether isodose lines are drawn.
        legend: whether the color legend is shown.
    """

    layer: Layer = "prediction"
    opacity: float = 0.5
    low: float | None = None
    high: float | None = None
    unit: Unit = "Gy"
    isodoses: bool = False
    legend: bool = True


def default_range(result: SceneResult, unit: Unit = "Gy") -> tuple[float, float]:
    """First and last isodose level, in `unit`."""
    raise NotImplementedError


def apply_display(result: SceneResult, settings: DisplaySettings) -> None:
    """Show a result in all slice views; quick enough to follow a slider."""
    raise NotImplementedError
