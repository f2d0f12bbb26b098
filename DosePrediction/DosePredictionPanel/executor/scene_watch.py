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
        self._segmentation = None
        self.removeObservers()

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
