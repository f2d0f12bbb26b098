"""The scene's events on their way to the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from slicer.util import VTKObservationMixin

from ..flow.events import (
    Event,
    NodeAdded,
    NodeRemoved,
    NodeRemoving,
    SceneClosed,
    SceneClosing,
    SceneLoaded,
    SegmentsEdited,
)
from .scene_facts import WATCHED

__all__ = ["SceneWatch"]

_BEFORE_SELECTORS = 1.0  # they take the next node when the row of the chosen one goes


class SceneWatch(VTKObservationMixin):
    """Observes the scene and one segmentation.

    Args:
        dispatch: where events go.
    """

    def __init__(self, dispatch: Callable[[Event], None]) -> None:
        VTKObservationMixin.__init__(self)
        self._dispatch = dispatch
        self._segmentation: Any = None
        self._on_cursor: Callable[[tuple[float, float, float] | None], None] | None = None
        self._crosshair: Any = None

    def start(self) -> None:
        """Observe the scene from now on."""
        scene = slicer.mrmlScene
        plain = {
            scene.StartCloseEvent: SceneClosing,
            scene.EndCloseEvent: SceneClosed,
            scene.EndImportEvent: SceneLoaded,
        }
        for event, kind in plain.items():
            self.addObserver(scene, event, self._telling(kind))
        self.addObserver(scene, scene.NodeAddedEvent, self._node_added)
        self.addObserver(
            scene,
            scene.NodeAboutToBeRemovedEvent,
            self._node_removing,
            priority=_BEFORE_SELECTORS,
        )
        self.addObserver(scene, scene.NodeRemovedEvent, self._node_removed)

    def stop(self) -> None:
        """Observe nothing any more."""
        self._segmentation = self._on_cursor = self._crosshair = None
        self.removeObservers()

    def observe_cursor(
        self, moved: Callable[[tuple[float, float, float] | None], None] | None
    ) -> None:
        """Tell where the mouse is over the slices, RAS; None where it left them. None: no more."""
        crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if crosshair is not self._crosshair or moved is None:
            if self._crosshair is not None:
                event = self._crosshair.CursorPositionModifiedEvent
                self.removeObserver(self._crosshair, event, self._cursor_moved)
            self._crosshair = None
        self._on_cursor = moved
        if moved is not None and crosshair is not None and self._crosshair is None:
            self._crosshair = crosshair
            event = crosshair.CursorPositionModifiedEvent
            self.addObserver(crosshair, event, self._cursor_moved)

    def _cursor_moved(self, crosshair: Any, _event: Any) -> None:
        if self._on_cursor is None:
            return
        ras = [0.0] * 3
        is_inside = crosshair.GetCursorPositionRAS(ras)
        self._on_cursor((ras[0], ras[1], ras[2]) if is_inside else None)

    def observe_segmentation(self, node: Any) -> None:
        """Tell of edits of this segmentation, and of no other."""
        events = (
            slicer.vtkSegmentation.SegmentAdded,
            slicer.vtkSegmentation.SegmentRemoved,
            slicer.vtkSegmentation.SegmentModified,
            slicer.vtkSegmentation.SourceRepresentationModified,
        )
        if self._segmentation is not None:
            for event in events:
                self.removeObserver(self._segmentation, event, self._segments_edited)
        self._segmentation = node.GetSegmentation() if node is not None else None
        if self._segmentation is not None:
            for event in events:
                self.addObserver(self._segmentation, event, self._segments_edited)

    def _telling(self, kind: type[Event]) -> Callable[[Any, Any], None]:
        def state(_caller: Any, _event: Any) -> None:
            self._dispatch(kind())

        return state

    def _segments_edited(self, _caller: Any, _event: Any) -> None:
        self._dispatch(SegmentsEdited())

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _node_added(self, _scene: Any, _event: Any, node: Any) -> None:
        if _is_watched(node):
            self._dispatch(NodeAdded())

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _node_removing(self, _scene: Any, _event: Any, node: Any) -> None:
        if _is_watched(node):
            self._dispatch(NodeRemoving(node.GetID(), node.GetName() or node.GetID()))

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _node_removed(self, _scene: Any, _event: Any, node: Any) -> None:
        if _is_watched(node):
            self._dispatch(NodeRemoved(node.GetID()))


def _is_watched(node: Any) -> bool:
    return node is not None and any(map(node.IsA, WATCHED))
