"""The layout, and centering the slices on a place. Sets nodes only; the window follows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer

from .geometry import case_frame
from .results import SceneResult
from .runs import result_nodes

__all__ = [
    "jump_to",
    "jump_to_world",
    "make_room_for_legend",
    "show_chart",
    "show_result_layout",
]


_AXIS_ROOM = 1.05
_SHARE_OF_CT = 0.72  # of an axial view's width; the legend lies in what is left on one side


def show_result_layout(result: SceneResult, *, is_legend_beside: bool = False) -> None:
    """Switch to slices and plot, and put the DVH chart into the plot; see `show_chart`.

    The layout is one of Slicer's own: a scene saved with another one opens without any view where
    nobody has defined it.
    """
    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if node is not None:
        node.SetViewArrangement(node.SlicerLayoutFourUpPlotView)
    show_chart(result, is_legend_beside=is_legend_beside)


def show_chart(result: SceneResult, *, is_legend_beside: bool = False) -> None:
    """Put the DVH chart into the plots that there are; without one, as when it was deleted, none.

    The layout stays as the person has it.

    Args:
        is_legend_beside: whether the view puts the legend beside the curves, so that the dose axis
            need not leave room for it.
    """
    chart = result_nodes(result.run).get("chart")
    highest_gy = max((c.max_gy or 0.0 for c in result.measures.predicted.values()), default=0.0)
    if chart is not None and is_legend_beside and highest_gy > 0:
        chart.SetXAxisRange(0, highest_gy * _AXIS_ROOM)
    id = None if chart is None else chart.GetID()
    for plot in slicer.util.getNodesByClass("vtkMRMLPlotViewNode"):
        if plot.GetPlotChartNodeID() != id:
            plot.SetPlotChartNodeID(id)


def make_room_for_legend(ct: Any) -> None:
    """Zoom axial views out as far as the color legend would lie over the patient."""
    bounds = [0.0] * 6
    ct.GetRASBounds(bounds)
    needed_mm = (bounds[1] - bounds[0]) / _SHARE_OF_CT
    for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        wide, high, deep = view.GetFieldOfView()
        if view.GetOrientation() == "Axial" and 0 < wide < needed_mm:
            view.SetFieldOfView(needed_mm, high * needed_mm / wide, deep)


def jump_to(position_mm: Sequence[float], ct: Any) -> None:
    """Center all slice views on a finding's position (LPS mm of the case read from `ct`)."""
    ras = (case_frame(ct).to_world @ np.append(np.asarray(position_mm, dtype=float), 1.0))[:3]
    jump_to_world(ras)


def jump_to_world(ras: Sequence[float]) -> None:
    """Center all slice views on a place, RAS mm of the world."""
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        node.JumpSliceByCentering(*map(float, ras))
