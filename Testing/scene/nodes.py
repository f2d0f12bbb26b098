"""Nodes made of volumes and masks, without the code under test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from DosePredictionLib.case import Case
from DosePredictionLib.volume import Grid, Volume

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def vtk_matrix(matrix: np.ndarray) -> Any:
    result = vtk.vtkMatrix4x4()
    result.DeepCopy(np.asarray(matrix, dtype=float).ravel())
    return result


def volume_node(volume: Volume, name: str, kind: str = "vtkMRMLScalarVolumeNode") -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
    slicer.util.updateVolumeFromArray(node, volume.array)
    node.SetIJKToRASMatrix(vtk_matrix(RAS @ volume.grid.index_to_world))
    node.CreateDefaultDisplayNodes()
    return node


def oriented_image(mask: np.ndarray, grid: Grid, start: tuple = (0, 0, 0), value: int = 1) -> Any:
    """A labelmap whose extent begins at index `start`."""
    image = slicer.vtkOrientedImageData()
    z, y, x = mask.shape
    low = np.array(start)
    image.SetExtent(
        *(v for pair in zip(low, low + np.array((x - 1, y - 1, z - 1)), strict=True) for v in pair)
    )
    image.GetPointData().SetScalars(
        numpy_to_vtk((mask * value).astype(np.uint8).ravel(), deep=True)
    )
    matrix = RAS @ grid.index_to_world
    matrix[:3, 3] -= matrix[:3, :3] @ low
    image.SetImageToWorldMatrix(vtk_matrix(matrix))
    return image


def segmentation_node(
    structures: Mapping[str, Volume], name: str = "structures", start: tuple = (0, 0, 0)
) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    for index, (segment, mask) in enumerate(structures.items()):
        image = oriented_image(mask.array > 0, mask.grid, start)
        color = ((index * 53 % 256) / 255, (index * 97 % 256) / 255, 0.6)
        node.AddSegmentFromBinaryLabelmapRepresentation(image, segment, color, f"id_{index}")
    return node


def nodes_of(case: Case) -> tuple[Any, Any, Any]:
    """CT, segmentation and plan dose (or None)."""
    dose = None if case.plan_dose is None else volume_node(case.plan_dose, "plan")
    return volume_node(case.ct, "CT 1"), segmentation_node(case.structures), dose


def sphere_surface(center_mm: tuple, radius_mm: float) -> Any:
    """A finely tessellated sphere, RAS mm."""
    source = vtk.vtkSphereSource()
    source.SetCenter(*center_mm)
    source.SetRadius(radius_mm)
    source.SetThetaResolution(96)
    source.SetPhiResolution(96)
    source.Update()
    return source.GetOutput()


def transform_node(matrix: np.ndarray, *nodes: Any) -> Any:
    """A linear transform, RAS, put above nodes."""
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    transform.SetMatrixTransformToParent(vtk_matrix(matrix))
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def rotation(degrees: float, axis: int = 2, shift: tuple = (0, 0, 0)) -> np.ndarray:
    angle = np.radians(degrees)
    i, j = [a for a in range(3) if a != axis]
    matrix = np.eye(4)
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    matrix[:3, 3] = shift
    return matrix
