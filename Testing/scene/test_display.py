"""What a person sees: pixels of slice views, colors, legend, layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel (Linux, x86-64)")
import vtk
from support import pelvis_case
from vtk.util.numpy_support import vtk_to_numpy

from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.scene import (
    DisplaySettings,
    add_result,
    apply_display,
    case_from_nodes,
    jump_to,
    remove_result,
    result_nodes,
    show_result_layout,
)
from DosePredictionLib.scene.isodoses import isodose_steps

from .nodes import nodes_of, rotation, transform_node
from .predictions import prediction_of
from .slice_view import SliceView


@pytest.fixture
def shown(scene: Any, pelvis_model: DoseModel) -> tuple[Any, SliceView]:
    inputs = nodes_of(pelvis_case((40, 32, 24), (9.0, 9.0, 9.0)))
    source = case_from_nodes(*inputs)
    result = add_result(prediction_of(source.case, pelvis_model), source)
    view = SliceView(scene, size=(320, 280))
    apply_display(result, DisplaySettings())  # outlines from here on
    apply_display(result, DisplaySettings(layer="nothing", legend=False))
    view.show(inputs[0])
    jump_to((0, 0, 0), inputs[0])
    view.pixels()  # the first picture only sets the view up
    return result, view


def changed(one: np.ndarray, other: np.ndarray) -> float:
    """Share of pixels that differ visibly."""
    return float((np.abs(one.astype(int) - other).max(axis=-1) > 12).mean())


def test_layers_lines_and_legend_appear_and_go(shown: Any) -> None:
    result, view = shown
    nothing = view.pixels().copy()

    def share(**settings: Any) -> float:
        apply_display(result, DisplaySettings(**{"legend": False, **settings}))
        return changed(view.pixels(), nothing)

    wash = share(layer="prediction")
    assert 0.03 < wash < 0.3
    assert share(layer="prediction", low=40) < wash
    assert 0.003 < share(layer="nothing", isodoses=True) < 0.1
    assert share(layer="nothing") < 0.001
    assert 0.001 < share(layer="difference", opacity=1.0) <= wash + 0.05
    assert share(layer="plan") == pytest.approx(wash, abs=0.1)
    without, with_legend = share(layer="prediction"), share(layer="prediction", legend=True)
    assert with_legend > without + 0.005


def test_more_dose_is_hotter(shown: Any) -> None:
    result, view = shown
    apply_display(result, DisplaySettings(opacity=1.0, legend=False))
    pixels = view.pixels().astype(int)
    rows, columns, _ = pixels.shape
    red, _, blue = pixels[rows // 2, columns // 2]
    assert red > blue + 60  # the target
    dose = slicer.util.arrayFromVolume(result.dose)
    low = (dose > 0.2 * 45) & (dose < 0.35 * 45)
    assert low.any()
    cold = (pixels[..., 2] > pixels[..., 0] + 60).mean()
    assert cold > 0.005


def test_levels_carry_the_unit_and_the_colors_of_the_wash(shown: Any) -> None:
    result, _ = shown
    table = result.nodes["level-colors"]

    def names() -> list[str]:
        return [table.GetColorName(index) for index in range(table.GetNumberOfColors())]

    apply_display(result, DisplaySettings(unit="%"))
    assert names() == ["20", "40", "60", "80", "90", "95", "100", "105", "110"]
    apply_display(result, DisplaySettings(unit="Gy"))
    assert names()[0] == "9.0" and names()[6] == "45.0"
    color = [0.0] * 4
    table.GetColor(5, color)
    assert color[:3] == pytest.approx((1.0, 225 / 255, 26 / 255), abs=0.01)
    apply_display(result, DisplaySettings(low=42.75, high=45))  # the 95 % level is the coldest
    table.GetColor(5, color)
    assert color[:3] == pytest.approx((59 / 255, 63 / 255, 158 / 255), abs=0.01)


def test_isodoses_are_closed_where_the_dose_leaves_the_grid(shown: Any) -> None:
    import vtk

    result, _ = shown
    array = slicer.util.arrayFromVolume(result.dose)
    array[:, :8] = 45
    result.dose.GetImageData().Modified()
    apply_display(result, DisplaySettings(isodoses=True))
    surfaces = result_nodes(result.run)["isodoses"].GetPolyData()
    edges = vtk.vtkFeatureEdges()
    edges.SetInputData(surfaces)
    edges.BoundaryEdgesOn()
    edges.FeatureEdgesOff()
    edges.NonManifoldEdgesOff()
    edges.ManifoldEdgesOff()
    edges.Update()
    assert surfaces.GetNumberOfPoints() > 100
    assert edges.GetOutput().GetNumberOfCells() == 0
    assert surfaces.GetPointData().GetArray("isolevels").GetRange()[0] == pytest.approx(9.0)


def test_isodoses_of_a_fine_dose_are_those_of_every_third_voxel(shown: Any) -> None:
    """Voxels of 0.9 mm: a ball of dose whose surfaces keep their place within 0.15 mm."""
    result, _ = shown
    dose = result.dose
    z, y, x = np.mgrid[0:81, 0:81, 0:81].astype(np.float32)
    distance = np.sqrt((x - 40) ** 2 + (y - 40) ** 2 + (z - 40) ** 2)
    slicer.util.updateVolumeFromArray(dose, np.clip(60 - distance, 0, None))
    dose.SetSpacing(0.9, 0.9, 0.9)
    radii = {}
    for spacing in (0.9, 1.7):  # every third voxel, and each
        dose.SetSpacing(spacing, spacing, spacing)
        steps = isodose_steps(dose, [36.0])
        with pytest.raises(StopIteration) as end:
            while True:
                next(steps)
        points = vtk_to_numpy(end.value.value.GetPoints().GetData())
        center = np.array(dose_center(dose, 40))
        radii[spacing] = np.linalg.norm(points - center, axis=1) / spacing
    for radius in radii.values():
        assert radius.mean() == pytest.approx(24.0, abs=0.06)
        assert abs(radius - 24.0).max() < 0.15
    assert len(radii[0.9]) < 0.4 * len(radii[1.7])


def dose_center(dose: Any, index: int) -> tuple[float, ...]:
    matrix = vtk.vtkMatrix4x4()
    dose.GetIJKToRASMatrix(matrix)
    return matrix.MultiplyPoint((index, index, index, 1))[:3]


def test_a_place_is_centered_in_the_slices(shown: Any) -> None:
    result, view = shown
    ct = result.dose.GetNodeReference("ctRef")
    jump_to((10, -20, 30), ct)
    matrix = view.node.GetSliceToRAS()
    assert [matrix.GetElement(i, 3) for i in range(3)] == pytest.approx((-10, 20, 30))
    transform_node(rotation(0, shift=(5, 0, 0)), ct)
    jump_to((10, -20, 30), ct)
    assert matrix.GetElement(0, 3) == pytest.approx(-5)


def test_the_layout_is_slicers_own_and_shows_the_chart(shown: Any) -> None:
    """A scene saved with a layout of ours would open without views in a Slicer that lacks it."""
    result, _ = shown
    layout = slicer.vtkMRMLLayoutNode()
    slicer.mrmlScene.AddNode(layout)
    plot = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotViewNode", "Plot")
    show_result_layout(result)
    assert layout.GetViewArrangement() == layout.SlicerLayoutFourUpPlotView
    assert plot.GetPlotChartNodeID() == result.nodes["chart"].GetID()


def test_a_removed_result_takes_its_legends_before_their_colors(shown: Any) -> None:
    result, _ = shown
    apply_display(result, DisplaySettings(layer="prediction", isodoses=True, legend=True))
    scene, gone = slicer.mrmlScene, []

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def note(_scene: Any, _event: Any, node: Any) -> None:
        gone.append(node.GetClassName())

    tag = scene.AddObserver(slicer.vtkMRMLScene.NodeRemovedEvent, note)
    remove_result(result.run)
    scene.RemoveObserver(tag)
    legends = gone.count("vtkMRMLColorLegendDisplayNode")
    assert legends > 0
    assert gone[:legends] == ["vtkMRMLColorLegendDisplayNode"] * legends
