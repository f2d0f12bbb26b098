"""Which structures of a result are shown in slices, 3D and DVH, and which one stands out."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .bands import BAND_OPACITY, BAND_ROLES, SAMPLES_OPACITY, SAMPLES_ROLE
from .results import SceneResult
from .runs import inputs_of, result_nodes

__all__ = ["highlight_structure", "show_structures"]

_DIMMED = 0.25
_WIDER = 2
_CURVES = {"series": 2, "series-plan": 2, "series-other": 3}  # role → width of its lines
_BANDS = {**dict.fromkeys(BAND_ROLES.values(), BAND_OPACITY), SAMPLES_ROLE: SAMPLES_OPACITY}
"""Role → opacity."""
_FAINT, _CLEAR = 0.3, 2.5  # of that opacity, where one structure stands out


def show_structures(
    result: SceneResult, hidden: Collection[str], *, with_bands: bool = True
) -> None:
    """Show all structures but some, everywhere at once.

    Args:
        hidden: keys of the result.
        with_bands: whether the chart has the bands and samples of those that are shown.
    """
    _, segmentation = inputs_of(result.dose)
    nodes = result_nodes(result.run)
    chart = nodes.get("chart")
    display = None if segmentation is None else segmentation.GetDisplayNode()
    for key, info in result.segments.items():
        is_shown = key not in hidden
        if display is not None and segmentation.GetSegmentation().GetSegment(info.id) is not None:
            display.SetSegmentVisibility(info.id, is_shown)
        for role in (*_CURVES, *_BANDS):
            series = nodes.get(f"{role}:{key}")
            if chart is None or series is None:
                continue
            is_in = chart.HasPlotSeriesNodeID(series.GetID())
            is_wanted = is_shown and (with_bands or role in _CURVES)
            if is_wanted and not is_in:
                chart.AddAndObservePlotSeriesNodeID(series.GetID())
            elif is_in and not is_wanted:
                chart.RemovePlotSeriesNodeID(series.GetID())


def highlight_structure(result: SceneResult, structure: str) -> None:
    """Let one structure stand out on slices and chart; empty: none.

    The other outlines are dimmed, which tells it from a neighbor of nearly the same color.
    """
    _, segmentation = inputs_of(result.dose)
    display = None if segmentation is None else segmentation.GetDisplayNode()
    nodes = result_nodes(result.run)
    for key, info in result.segments.items():
        is_out = key == structure
        if display is not None and segmentation.GetSegmentation().GetSegment(info.id) is not None:
            dimmed = bool(structure) and not is_out
            display.SetSegmentOpacity2DOutline(info.id, _DIMMED if dimmed else 1.0)
        for role, width in _CURVES.items():
            series: Any = nodes.get(f"{role}:{key}")
            if series is not None:
                series.SetLineWidth(width + (_WIDER if is_out else 0))
        for role, opacity in _BANDS.items():
            series = nodes.get(f"{role}:{key}")
            if series is not None:
                share = 1.0 if not structure else _CLEAR if is_out else _FAINT
                series.SetOpacity(min(share * opacity, 1.0))
