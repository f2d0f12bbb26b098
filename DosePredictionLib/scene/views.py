"""The layout, and centering the slices on a place. Sets nodes only; the window follows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer

from .geometry import case_frame
from .results import SceneResult
from .runs import result_nodes

__all__ = ["jump_to", "jump_to_world", "show_chart", "show_result_layout"]


def show_result_layout(result: SceneResult) -> None:
    """Switch to slices and plot, and put the DVH chart into the plot.

    The layout is one of Slicer's own: a scene saved with another one opens without any view where
    nobody has defined it.
    """
    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if node is not None:
        node.SetViewArrangement(node.SlicerLayoutFourUpPlotView)
    show_chart(result)


def show_chart(result: SceneResult) -> None:
    """Put the DVH chart into the plots that there are; without one, as when it was deleted, none.

    The layout stays as the person has it.
    """
    chart = result_nodes(result.run).get("chart")
    id = None if chart is None else chart.GetID()
    for plot in slicer.util.getNodesByClass("vtkMRMLPlotViewNode"):
        if plot.GetPlotChartNodeID() != id:
            plot.SetPlotChartNodeID(id)


def jump_to(position_mm: Sequence[float], ct: Any) -> None:
    """Center all slice views on a finding's position (LPS mm of the case read from `ct`)."""
    ras = (case_frame(ct).to_world @ np.append(np.asarray(position_mm, dtype=float), 1.0))[:3]
    jump_to_world(ras)


def jump_to_world(ras: Sequence[float]) -> None:
    """Center all slice views on a place, RAS mm of the world."""
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        node.JumpSliceByCentering(*map(float, ras))
