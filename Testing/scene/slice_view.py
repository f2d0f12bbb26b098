"""A slice view without a window: layers, models, segments and legend, rendered to pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import vtk_to_numpy

from .conftest import slicer_class

_MANAGERS = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLColorLegendDisplayableManager",
)


class SliceView:
    """One slice view of the scene.

    Args:
        scene: of the fixture.
        name: "Red", "Green" or "Yellow".
        orientation: "Axial", "Coronal" or "Sagittal".
    """

    def __init__(
        self, scene: Any, name: str = "Red", orientation: str = "Axial", size: tuple = (640, 560)
    ) -> None:
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(True)
        self.window.SetSize(*size)
        self._background = vtk.vtkRenderer()
        self._background.SetLayer(0)
        self._renderer = vtk.vtkRenderer()
        self._renderer.SetLayer(1)
        self._renderer.GetActiveCamera().ParallelProjectionOn()
        self.window.SetNumberOfLayers(2)
        self.window.AddRenderer(self._background)
        self.window.AddRenderer(self._renderer)
        interactor = vtk.vtkRenderWindowInteractor()
        interactor.SetRenderWindow(self.window)
        self.logic = slicer_class("vtkMRMLSliceLogic")()
        self.logic.SetMRMLApplicationLogic(scene.application)
        self.logic.SetMRMLScene(scene)
        self.node = self.logic.AddSliceNode(name)
        self.node.SetOrientation(orientation)
        scene.application.GetSliceLogics().AddItem(self.logic)
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(self._mapper)
        self._background.AddViewProp(self._actor)
        self._group = slicer_class("vtkMRMLDisplayableManagerGroup")()
        self._group.SetRenderer(self._renderer)
        self._managers = []
        for kind in _MANAGERS:
            manager = slicer_class(kind)()
            manager.SetMRMLApplicationLogic(scene.application)
            self._group.AddDisplayableManager(manager)
            self._managers.append(manager)
        self._group.SetMRMLDisplayableNode(self.node)
        self._size = size

    def show(self, volume: Any) -> None:
        """Fit the view to a volume."""
        self.logic.ResizeSliceNode(*self._size)
        self.logic.FitSliceToBackground(*self._size)
        self.logic.SnapSliceOffsetToIJK()

    def pixels(self) -> NDArray[np.uint8]:
        """RGB `(row, column, 3)`, first row on top."""
        self.logic.UpdatePipeline()
        self._mapper.SetInputConnection(self.logic.GetImageDataConnection())
        self.window.Render()
        self.window.Render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        columns, rows, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)[
            ::-1, :, :3
        ]

    def save(self, path: Path) -> None:
        """The picture as PNG."""
        from matplotlib.image import imsave

        imsave(path, np.ascontiguousarray(self.pixels()))
