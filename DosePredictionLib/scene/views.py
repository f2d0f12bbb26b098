"""Layouts, and centering the slices on a place. Sets nodes only; the window follows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer

from .geometry import case_frame
from .results import SceneResult

__all__ = ["jump_to", "show_result_layout", "slices_and_chart_layout"]

_LAYOUT = 7402  # above Slicer's own layouts; no other extension known to use it
_SLICE = """<item{size}><view class="vtkMRMLSliceNode" singletontag="{name}">
  <property name="orientation" action="default">{orientation}</property>
  <property name="viewlabel" action="default">{label}</property>
  <property name="viewcolor" action="default">{color}</property></view></item>"""
_PLOT = """<item splitSize="400"><view class="vtkMRMLPlotViewNode" singletontag="PlotView1">
  <property name="viewlabel" action="default">P</property></view></item>"""


def slices_and_chart_layout() -> int:
    """Id of the layout with three slices and the plot; defined in the layout node on first use.

    Without a layout node (no window) the id alone is returned.
    """
    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if node is not None and not node.IsLayoutDescription(_LAYOUT):
        node.AddLayoutDescription(_LAYOUT, _description())
    return _LAYOUT


def show_result_layout(result: SceneResult) -> None:
    """Switch to slices and plot, and put the DVH chart into the plot."""
    layout = slices_and_chart_layout()
    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if node is not None:
        node.SetViewArrangement(layout)
    for plot in slicer.util.getNodesByClass("vtkMRMLPlotViewNode"):
        plot.SetPlotChartNodeID(result.nodes["chart"].GetID())


def jump_to(position_mm: Sequence[float], ct: Any) -> None:
    """Center all slice views on a finding's position (LPS mm of the case read from `ct`)."""
    ras = (case_frame(ct).to_world @ np.append(np.asarray(position_mm, dtype=float), 1.0))[:3]
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        node.JumpSliceByCentering(*map(float, ras))


def _description() -> str:
    """An axial slice beside a coronal and a sagittal one; the plot below."""
    big = _SLICE.format(
        size=' splitSize="500"', name="Red", orientation="Axial", label="R", color="#F34A33"
    )
    small = "".join(
        _SLICE.format(size="", name=name, orientation=orientation, label=name[0], color=color)
        for name, orientation, color in (
            ("Green", "Coronal", "#6EB04B"),
            ("Yellow", "Sagittal", "#EDD54C"),
        )
    )
    slices = f"""<item splitSize="600"><layout type="horizontal" split="true">{big}
  <item splitSize="500"><layout type="vertical">{small}</layout></item></layout></item>"""
    return f'<layout type="vertical" split="true">{slices}{_PLOT}</layout>'
