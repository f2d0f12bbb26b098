"""Which structures of a result are shown in slices, 3D and DVH, and which one stands out."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .results import SceneResult
from .runs import inputs_of, result_nodes

__all__ = ["highlight_structure", "show_structures"]

_DIMMED = 0.25
_WIDER = 2
_SERIES = {"series": 2, "series-plan": 2, "series-other": 3}  # role → width of its lines


def show_structures(result: SceneResult, hidden: Collection[str]) -> None:
    """Show all structures but some, everywhere at once.

    Args:
        hidden: keys of the result.
    """
    _, segmentation = inputs_of(result.dose)
    nodes = result_nodes(result.run)
    chart = nodes.get("chart")
    display = None if segmentation is None else segmentation.GetDisplayNode()
    for key, info in result.segments.items():
        is_shown = key not in hidden
        if display is not None and segmentation.GetSegmentation().GetSegment(info.id) is not None:
            display.SetSegmentVisibility(info.id, is_shown)
        for role in _SERIES:
            series = nodes.get(f"{role}:{key}")
            if chart is None or series is None:
                continue
            is_in = chart.HasPlotSeriesNodeID(series.GetID())
            if is_shown and not is_in:
                chart.AddAndObservePlotSeriesNodeID(series.GetID())
            elif is_in and not is_shown:
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
        for role, width in _SERIES.items():
            series: Any = nodes.get(f"{role}:{key}")
            if series is not None:
                series.SetLineWidth(width + (_WIDER if is_out else 0))
