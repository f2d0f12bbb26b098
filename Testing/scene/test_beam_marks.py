"""Beams over the axial slices: where the arrows lie, and that there is one set of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import pelvis_case

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel (Linux, x86-64)")

from vtk.util.numpy_support import vtk_to_numpy

from DosePredictionLib.beams.arrangement import parse_beams
from DosePredictionLib.scene import clear_beam_marks, mark_beams

from .nodes import nodes_of, rotation, transform_node

SIZE, SPACING = (32, 32, 24), (12.0, 12.0, 8.0)


def ends(node: Any) -> np.ndarray:
    """Source and middle of each field, RAS `(field, 2, 3)`; heads of arrows left out."""
    points = vtk_to_numpy(node.GetPolyData().GetPoints().GetData())
    return points.reshape(-1, 6, 3)[:, :2]


def directions(text: str) -> list[tuple[float, float]]:
    beams = parse_beams(text)
    return [beams.source_direction(angle)[:2] for angle in beams.gantry_degrees]


def test_arrows_come_from_the_sources_to_the_middle_of_the_target(scene: Any) -> None:
    ct, segmentation, _plan = nodes_of(pelvis_case(SIZE, SPACING))
    node = mark_beams(ct, segmentation, ["PTV"], directions("0,90"))
    (front, middle), (left, other) = ends(node)
    id = segmentation.GetSegmentation().GetSegmentIdBySegmentName("PTV")
    np.testing.assert_allclose(middle, segmentation.GetSegmentCenterRAS(id), atol=1e-3)
    np.testing.assert_allclose(other, middle, atol=1e-3)
    reach = 0.45 * 32 * 12
    np.testing.assert_allclose(front - middle, [0, reach, 0], atol=1e-2)  # RAS: anterior
    np.testing.assert_allclose(left - middle, [-reach, 0, 0], atol=1e-2)
    assert node.GetSaveWithScene() == 0 and node.GetDisplayNode().GetVisibility2D()
    assert mark_beams(ct, segmentation, ["nothing"], directions("0")) is None
    stated = mark_beams(ct, segmentation, [], directions("0"), (10.0, -20.0, 30.0))
    np.testing.assert_allclose(ends(stated)[0, 1], [-10, 20, 30], atol=1e-3)
    arc = mark_beams(ct, segmentation, ["PTV"], directions("arc"))
    assert arc.GetPolyData().GetNumberOfLines() == 36
    assert scene.GetNumberOfNodesByClass("vtkMRMLModelNode") == 1
    clear_beam_marks()
    assert scene.GetNumberOfNodesByClass("vtkMRMLModelNode") == 0


def test_they_go_along_with_a_registered_ct(scene: Any) -> None:
    ct, segmentation, _plan = nodes_of(pelvis_case(SIZE, SPACING))
    turned = rotation(5.0)
    transform_node(turned, ct, segmentation)
    node = mark_beams(ct, segmentation, ["PTV"], directions("0"))
    front, middle = ends(node)[0]
    expected = turned[:3, :3] @ np.array([0.0, 1.0, 0.0])
    ray = (front - middle) / np.linalg.norm(front - middle)
    np.testing.assert_allclose(ray, expected, atol=1e-3)
