"""A scene of 3D Slicer without its window: the real MRML, VTK and logics of `slicer-core`."""

from __future__ import annotations

import contextlib
import os
import types
from collections.abc import Iterator
from typing import Any

import pytest

# EGL draws without a display; asked for before the first window.
os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

with contextlib.suppress(ImportError):  # the tests are skipped then
    import slicer
    import vtk

_LOGICS = {
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
}


@pytest.fixture
def scene() -> Iterator[Any]:
    """An empty scene with the logics that Slicer's modules give it."""
    scene = slicer.vtkMRMLScene()
    slicer.mrmlScene = scene
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    colors = application.GetColorLogic()
    colors.SetMRMLScene(scene)
    colors.AddDefaultColorNodes()
    application.SetModuleLogic("Colors", colors)
    application.SetSliceLogics(vtk.vtkCollection())
    application.SetViewLogics(vtk.vtkCollection())
    logics = []
    for module, name in _LOGICS.items():
        logic = slicer_class(name)()
        logic.SetMRMLScene(scene)
        logic.SetMRMLApplicationLogic(application)
        application.SetModuleLogic(module, logic)
        logics.append(logic)
    scene.RegisterNodeClass(slicer_class("vtkMRMLColorLegendDisplayNode")())
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    scene.application = application  # kept alive, and at hand for slice views
    yield scene
    scene.Clear(True)
    slicer.mrmlScene = None


def slicer_class(name: str) -> Any:
    """A class of slicer-core, which puts some into a module of the same name."""
    found = getattr(slicer, name)
    return getattr(found, name) if isinstance(found, types.ModuleType) else found
