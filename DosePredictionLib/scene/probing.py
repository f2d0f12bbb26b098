"""The dose at a place of the scene, and what it is there; a cursor on the DVH chart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from ..evaluation.places import dose_at
from .geometry import array_of_image, index_to_ras, inverse, linear_to_world, matrix_of
from .hierarchy import place_below
from .results import SceneResult
from .runs import Draft, enter_scene, inputs_of, result_nodes
from .tables import set_table

__all__ = ["Probed", "move_cursor", "prepare_cursor", "probe"]

_LABELMAP = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
_TABLE, _SERIES = "cursor-table", "cursor"
_HIDDEN_GY = -1.0  # left of the dose axis


@dataclass(frozen=True)
class Probed:
    """A place of a dose.

    Args:
        dose_gy: interpolated as slices draw it.
        structures: name → percent of its volume that receives more; in the result's order.
    """

    dose_gy: float
    structures: Mapping[str, float]


def probe(result: SceneResult, ras: tuple[float, float, float]) -> Probed | None:
    """What lies at a place, RAS of the world; None outside the dose. Quick: reads single voxels."""
    dose = result.dose
    to_world = linear_to_world(dose)
    if to_world is None or dose.GetImageData() is None:
        return None
    place = np.append(np.asarray(ras, dtype=float), 1.0)
    index = inverse(to_world @ index_to_ras(dose)) @ place
    gray = dose_at(array_of_image(dose.GetImageData()), index[:3])
    if gray is None:
        return None
    structures = {}
    for key, info in result.segments.items():
        curve = result.measures.predicted.get(key)
        if curve is not None and key != result.measures.external and _holds(result, info.id, place):
            rank = curve.volume_at_gy(gray)
            if rank is not None:
                structures[info.name] = rank
    return Probed(gray, structures)


def _holds(result: SceneResult, segment_id: str, place: Any) -> bool:
    """Whether a segment's labelmap has the voxel at a place."""
    _, segmentation = inputs_of(result.dose)
    if segmentation is None:
        return False
    segment, to_world = (
        segmentation.GetSegmentation().GetSegment(segment_id),
        linear_to_world(segmentation),
    )
    image = None if segment is None else segment.GetRepresentation(_LABELMAP)
    if image is None or to_world is None or image.GetPointData().GetScalars() is None:
        return False
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    x, y, z = np.round((inverse(to_world @ matrix_of(matrix)) @ place)[:3]).astype(int)
    low_x, high_x, low_y, high_y, low_z, high_z = image.GetExtent()
    inside = low_x <= x <= high_x and low_y <= y <= high_y and low_z <= z <= high_z
    if not inside:
        return False
    value = image.GetScalarComponentAsDouble(int(x), int(y), int(z), 0)
    return bool(value == segment.GetLabelValue())


def prepare_cursor(result: SceneResult) -> None:
    """Put the line on the result's DVH chart, hidden: later the chart need not be built anew."""
    nodes = result_nodes(result.run)
    chart = nodes.get("chart")
    if chart is None:
        return
    if _TABLE not in nodes or _SERIES not in nodes:
        _add_cursor(result, chart)
    elif not chart.HasPlotSeriesNodeID(nodes[_SERIES].GetID()):
        chart.AddAndObservePlotSeriesNodeID(nodes[_SERIES].GetID())


def move_cursor(result: SceneResult, dose_gy: float | None) -> None:
    """Move the line on the result's DVH chart to a dose; None hides it."""
    nodes = result_nodes(result.run)
    chart = nodes.get("chart")
    if chart is None:
        return
    if _TABLE not in nodes:
        if dose_gy is None:
            return
        nodes |= _add_cursor(result, chart)
    at = _HIDDEN_GY if dose_gy is None else dose_gy
    columns = {"Dose": np.array([at, at]), "Volume": np.array([0.0, 105.0])}
    set_table(nodes[_TABLE], columns)


def _add_cursor(result: SceneResult, chart: Any) -> dict[str, Any]:
    def fill_table(node: Any, made: Mapping[str, Any]) -> None:
        set_table(node, {"Dose": np.full(2, _HIDDEN_GY), "Volume": np.zeros(2)})

    def fill_series(node: Any, made: Mapping[str, Any]) -> None:
        kinds = slicer.vtkMRMLPlotSeriesNode
        node.SetAndObserveTableNodeID(made[_TABLE].GetID())
        node.SetXColumnName("Dose")
        node.SetYColumnName("Volume")
        node.SetPlotType(kinds.PlotTypeScatter)
        node.SetMarkerStyle(kinds.MarkerStyleNone)
        node.SetLineStyle(kinds.LineStyleDot)
        node.SetColor(0.4, 0.4, 0.4)

    drafts = [
        Draft(_TABLE, "vtkMRMLTableNode", f"{result.dose.GetName()}: cursor", fill_table),
        Draft(_SERIES, "vtkMRMLPlotSeriesNode", "dose here", fill_series),
    ]
    scene = chart.GetScene()
    made = enter_scene(scene, drafts, result.run, {})
    chart.AddAndObservePlotSeriesNodeID(made[_SERIES].GetID())
    for node in made.values():
        place_below(scene, chart, node)
    return made
