"""Where beams come from, drawn over the axial slices: an arrow a field to the isocenter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from .geometry import case_frame
from .reading import list_segments

__all__ = ["clear_beam_marks", "mark_beams"]

_MARK = "DosePrediction.BeamMarks"
_REACH = 0.45  # of the CT's smaller side in the axial plane
_HEAD, _HEAD_TURN = 0.12, 0.4  # of an arrow's length; radians
_MOST_ARROWS = 16  # more are an arc, whose heads would run together
_COLOR = (0.25, 0.65, 1.0)

Vector = NDArray[np.float64]


def mark_beams(
    ct: Any,
    segmentation: Any,
    targets: Sequence[str],
    directions: Sequence[tuple[float, float]],
    isocenter_mm: tuple[float, float, float] | None = None,
) -> Any:
    """Draw beams in place of those drawn before; they are not saved with the scene.

    Args:
        targets: names of the segments in whose middle the beams meet, where no isocenter is given.
        directions: to the sources, as on an axial slice: x to the patient's left, y posterior.
        isocenter_mm: LPS of the case.

    Returns:
        The model node; None where there is no target.
    """
    clear_beam_marks()
    to_world = case_frame(ct).to_world
    if isocenter_mm is not None:
        middle = (to_world @ np.append(isocenter_mm, 1.0))[:3]
    else:
        ids = [each.id for each in list_segments(segmentation) if each.name in targets]
        centers = [segmentation.GetSegmentCenterRAS(id) for id in ids]
        found = [np.asarray(center, dtype=float) for center in centers if center is not None]
        if not found:
            return None
        middle = np.mean(found, axis=0)
    across = (to_world[:3, 0], to_world[:3, 1])
    rays = [x * across[0] + y * across[1] for x, y in directions]
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode", "Beams")
    node.SetAttribute(_MARK, "1")
    node.SetSaveWithScene(False)
    node.SetHideFromEditors(True)
    normal = np.cross(across[0], across[1])
    node.SetAndObservePolyData(_arrows(middle, rays, normal, _reach_mm(ct)))
    _show(node)
    return node


def clear_beam_marks() -> None:
    """Remove what was drawn."""
    for node in slicer.util.getNodesByClass("vtkMRMLModelNode"):
        if node.GetAttribute(_MARK) is not None:
            slicer.mrmlScene.RemoveNode(node)


def _reach_mm(ct: Any) -> float:
    bounds = [0.0] * 6
    ct.GetRASBounds(bounds)
    return _REACH * min(bounds[1] - bounds[0], bounds[3] - bounds[2])


def _arrows(middle: Vector, rays: Sequence[Vector], normal: Vector, reach_mm: float) -> Any:
    """Lines from a circle to the middle, with heads on the way unless there are many."""
    points, lines = vtk.vtkPoints(), vtk.vtkCellArray()

    def draw(start: Vector, end: Vector) -> None:
        lines.InsertNextCell(2)
        for place in (start, end):
            lines.InsertCellPoint(points.InsertNextPoint(*place))

    for ray in rays:
        draw(middle + reach_mm * ray, middle)
        if len(rays) > _MOST_ARROWS:
            continue
        tip, side = middle + 0.6 * reach_mm * ray, np.cross(normal, ray)
        for sense in (-1.0, 1.0):
            back = np.cos(_HEAD_TURN) * ray + sense * np.sin(_HEAD_TURN) * side
            draw(tip, tip + _HEAD * reach_mm * back)
    data = vtk.vtkPolyData()
    data.SetPoints(points)
    data.SetLines(lines)
    return data


def _show(node: Any) -> None:
    """On all axial slices, not only on that of the isocenter; in no other view."""
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetColor(*_COLOR)
    display.SetLineWidth(2)
    display.SetSliceIntersectionThickness(2)
    display.SetSliceDisplayModeToProjection()
    display.SetVisibility2D(True)
    axial = [
        view.GetID()
        for view in slicer.util.getNodesByClass("vtkMRMLSliceNode")
        if view.GetOrientation() == "Axial"
    ]
    display.SetViewNodeIDs(axial or ["vtkMRMLSliceNodeRed"])
