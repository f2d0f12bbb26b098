"""Tangent strips as a segmentation, to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import slicer

from .i18n import _

if TYPE_CHECKING:
    from DosePredictionLib.structures.mapping import StructureMapping

__all__ = ["strips_node"]

_COLORS = {0: (0.9, 0.5, 0.1), 45: (0.2, 0.6, 0.9), 90: (0.6, 0.3, 0.8), 135: (0.3, 0.7, 0.3)}


def strips_node(ct: Any, segmentation: Any, mapping: StructureMapping, margin_mm: float) -> Any:
    """A new segmentation with one segment for each angle.

    Raises:
        CaseError: as the scene's reading; no target is mapped, no body is found.
        GeometryError: slices lie more than 5° off the axial plane.
    """
    import numpy as np

    from DosePredictionLib.encoding.strips import case_strips
    from DosePredictionLib.scene import case_from_nodes
    from DosePredictionLib.structures.bound import bind
    from DosePredictionLib.structures.protocol import StructureProtocol

    case = case_from_nodes(ct, segmentation).case
    protocol = StructureProtocol.load(mapping.protocol)
    chosen = {match.channel: match.structure for match in mapping.matches}
    strips = case_strips(bind(case, protocol, chosen), margin_mm)
    node = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLSegmentationNode", _("{name} tangent strips").format(name=ct.GetName())
    )
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(ct)
    for angle, mask in strips.items():
        name = _("Strip {angle}°").format(angle=angle)
        id = node.GetSegmentation().AddEmptySegment("", name, _COLORS.get(angle, (0.6,) * 3))
        array = mask.resampled_to(case.grid, "nearest").array.astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, id, ct)
    node.SetAndObserveTransformNodeID(ct.GetTransformNodeID())
    return node
