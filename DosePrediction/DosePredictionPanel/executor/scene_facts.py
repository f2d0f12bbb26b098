"""Nodes of the scene as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import slicer

from ..flow.state import NodeFacts

if TYPE_CHECKING:
    from DosePredictionLib.scene import Fingerprint, SegmentInfo

__all__ = ["BEAMS", "WATCHED", "contents_by_name", "facts_of", "list_nodes", "organ_sources"]

WATCHED = ("vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode")
"""Classes of the nodes that a selector may offer, and of those below them."""

_LOWEST_DOSE_GY = -1.0  # what resampling may leave below 0
_ORGAN_SOURCES = {"totalsegmentator": "TotalSegmentator"}  # attribute of `slicer.modules`
BEAMS = "DosePrediction.Beams"
"""Attribute of a CT, as `scene.loading` writes it."""
_RUN, _ROLE, _DOSE = "DosePrediction.Run", "DosePrediction.Role", "DicomRtImport.DoseVolume"


def list_nodes() -> tuple[NodeFacts, ...]:
    """Volumes and segmentations, in the scene's order."""
    scene = slicer.mrmlScene
    nodes = (scene.GetNthNode(number) for number in range(scene.GetNumberOfNodes()))
    return tuple(facts_of(node) for node in nodes if any(map(node.IsA, WATCHED)))


def organ_sources() -> tuple[str, ...]:
    """Other extensions of this Slicer that find organs; they are named, never installed."""
    modules = getattr(slicer, "modules", None)
    return tuple(title for name, title in _ORGAN_SOURCES.items() if hasattr(modules, name))


def contents_by_name(
    fingerprint: Fingerprint, segments: Mapping[str, SegmentInfo]
) -> dict[str, int]:
    """Checksums by the segments' names, and of "CT" and "place of …"."""
    names = {f"segment:{info.id}": info.name for info in segments.values()}
    return {names.get(what, what): crc for what, (_, crc) in fingerprint.entries.items()}


def facts_of(node: Any) -> NodeFacts:
    """A volume or a segmentation as the reducer knows it."""
    from DosePredictionLib.scene import source_of_organs

    run, role = node.GetAttribute(_RUN) or "", node.GetAttribute(_ROLE) or ""
    is_volume = node.IsA(WATCHED[0]) and not node.IsA("vtkMRMLLabelMapVolumeNode")
    of_dose = is_volume and role == "dose"
    return NodeFacts(
        id=node.GetID(),
        name=node.GetName() or node.GetID(),
        kind="volume" if is_volume else _kind(node),
        is_dose=is_volume and node.GetAttribute(_DOSE) is not None,
        can_be_dose=not is_volume or bool(run) or _can_be_dose(node),
        run=run,
        role=role,
        ct=(node.GetNodeReferenceID("ctRef") or "") if of_dose else "",
        segmentation=(node.GetNodeReferenceID("segmentationRef") or "") if of_dose else "",
        reference=_drawn_on(node) if not run else "",
        study=_study(node) if not run else "",
        bounds=_bounds(node) if not run else (),
        is_background=is_volume and not run and _is_background(node),
        beams=(node.GetAttribute(BEAMS) or "") if is_volume else "",
        organs_of=source_of_organs(node) if node.IsA(WATCHED[1]) and not run else "",
    )


def _drawn_on(node: Any) -> str:
    """The volume whose geometry a segmentation has."""
    if not node.IsA(WATCHED[1]):
        return ""
    return node.GetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole()) or ""


def _study(node: Any) -> str:
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = tree.GetItemByDataNode(node) if tree is not None else 0
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelStudy()
    study = tree.GetItemAncestorAtLevel(item, level) if item else 0
    return str(study) if study else ""


def _bounds(node: Any) -> tuple[float, ...]:
    """Of what it holds, in the world; empty when that is nothing."""
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    return tuple(bounds) if bounds[0] <= bounds[1] else ()


def _is_background(node: Any) -> bool:
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return any(each.GetBackgroundVolumeID() == node.GetID() for each in composites)


def _kind(node: Any) -> str:
    return "segmentation" if node.IsA(WATCHED[1]) else "other"


def _can_be_dose(volume: Any) -> bool:
    """Whether no value is below 0 Gy; VTK keeps the range until the voxels change."""
    image = volume.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        return True
    return float(image.GetScalarRange()[0]) >= _LOWEST_DOSE_GY
