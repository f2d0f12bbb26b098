"""Isodose surfaces, which the slice views show as closed lines; named as SlicerRT names them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from .geometry import array_of_image, index_to_ras, vtk_matrix
from .runs import DERIVED_FROM

__all__ = ["isodose_steps", "level_steps", "set_up_isodose_model", "stored_levels"]

_LEVEL_GY, _LEVEL = "isolevels", "level"
_FINE_MM = 3.0  # as clinics compute doses; closer voxels move no line to be seen, and cost time


def stored_levels(model: Any) -> str:
    """The levels whose surfaces a model has, as text; empty without any."""
    return str(model.GetAttribute(DERIVED_FROM) or "")


def isodose_steps(dose: Any, levels_gy: Sequence[float]) -> Generator[None, None, Any]:
    """The surfaces of all levels, in the dose's RAS before its transform; a level a step.

    Point data: `isolevels` (Gy, as SlicerRT's) and `level`, the number of the level.
    """
    every = [max(1, int(_FINE_MM / spacing)) for spacing in dose.GetSpacing()]
    padded = _padded_block(dose.GetImageData(), min(levels_gy), every)
    together = vtk.vtkAppendPolyData()
    together.AddInputData(vtk.vtkPolyData())
    if padded is not None:
        for number, level_gy in enumerate(levels_gy):
            together.AddInputData(_surface(padded, level_gy, number))
            yield
    to_ras = vtk.vtkTransform()
    to_ras.SetMatrix(vtk_matrix(index_to_ras(dose)))
    placed = vtk.vtkTransformPolyDataFilter()
    placed.SetInputConnection(together.GetOutputPort())
    placed.SetTransform(to_ras)
    placed.Update()
    return placed.GetOutput()


def _padded_block(image: Any, lowest_gy: float, every: Sequence[int]) -> Any:
    """The block above the lowest level with a border of zeros, so that surfaces close at its edge.

    Args:
        every: along x, y and z, which voxels are taken.
    """
    picked = tuple(slice(None, None, step) for step in every[::-1])
    array = np.ascontiguousarray(array_of_image(image)[picked])
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        reached = np.flatnonzero(array.max(axis=others) >= lowest_gy)
        if reached.size == 0:
            return None
        # With the voxels beyond: a surface lies between them and those that reach the level.
        box.append(slice(max(int(reached[0]) - 1, 0), int(reached[-1]) + 2))
    block = np.pad(array[tuple(box)], 1)
    padded = vtk.vtkImageData()
    padded.SetDimensions(*block.shape[::-1])
    padded.SetSpacing(*every)
    origin = ((each.start - 1) * step for each, step in zip(box[::-1], every, strict=True))
    padded.SetOrigin(*origin)
    padded.GetPointData().SetScalars(numpy_to_vtk(block.ravel(), deep=True))
    return padded


def _surface(image: Any, level_gy: float, number: int) -> Any:
    edges = vtk.vtkFlyingEdges3D()
    edges.SetInputData(image)
    edges.SetValue(0, level_gy)
    edges.ComputeScalarsOff()
    edges.ComputeGradientsOff()
    edges.ComputeNormalsOff()
    edges.Update()
    surface = edges.GetOutput()
    for name, value in ((_LEVEL_GY, level_gy), (_LEVEL, number)):
        values = np.full(surface.GetNumberOfPoints(), value, np.float32)
        array = numpy_to_vtk(values, deep=True)
        array.SetName(name)
        surface.GetPointData().AddArray(array)
    return surface


def set_up_isodose_model(model: Any, display: Any, dose: Any, colors: Any) -> None:
    """Set a model node up for surfaces that are yet to come; drawn as lines on slices.

    The display itself stays visible, for the color legend follows it; the opacity of slice
    intersections shows and hides the lines.
    """
    model.SetAttribute("DicomRtImport.IsodoseModel", "1")
    model.SetAndObserveTransformNodeID(dose.GetTransformNodeID())
    model.SetAndObservePolyData(vtk.vtkPolyData())
    display.SetAndObserveColorNodeID(colors.GetID())
    display.SetActiveScalarName(_LEVEL)
    display.SetScalarVisibility(True)
    display.SetScalarRangeFlag(display.UseManualScalarRange)
    display.SetBackfaceCulling(False)
    display.SetVisibility(True)
    display.SetVisibility2D(True)
    display.SetSliceIntersectionOpacity(0.0)
    display.SetVisibility3D(False)
    display.SetSliceIntersectionThickness(2)
    display.SetOpacity(0.4)
    model.SetAndObserveDisplayNodeID(display.GetID())


def level_steps(
    model: Any, display: Any, dose: Any, levels_gy: Sequence[float]
) -> Generator[None, None, None]:
    """Give a model the surfaces of these levels, unless it has them; a level a step."""
    text = " ".join(f"{level_gy:.4f}" for level_gy in levels_gy)
    if stored_levels(model) == text:
        return
    surfaces = yield from isodose_steps(dose, levels_gy)
    if model.GetScene() is None:
        return  # removed meanwhile
    # The surfaces last: with each change of what is shown, views cut them anew.
    display.SetScalarRange(0, max(len(levels_gy) - 1, 1))
    model.SetAttribute(DERIVED_FROM, text)
    model.SetAndObservePolyData(surfaces)
