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
        CaseError: as the scene's reading; no body is contoured.
        GeometryError: slices lie more than 5° off the axial plane.
    """
    import numpy as np

    from DosePredictionLib.encoding.strips import tangent_strips
    from DosePredictionLib.external import derive_external
    from DosePredictionLib.scene import case_from_nodes
    from DosePredictionLib.structures.protocol import StructureProtocol

    case = case_from_nodes(ct, segmentation).case
    protocol = StructureProtocol.load(mapping.protocol)
    names = [mapping.structure(channel.name) for channel in protocol.targets]
    masks = [case.structures[name].majority() for name in names if name is not None]
    target = case.ct.with_array(np.logical_or.reduce(masks))
    external = mapping.structure(protocol.external.name) if protocol.external else None
    body = case.structures[external] if external else derive_external(case.ct)
    strips = tangent_strips(target, body, margin_mm=margin_mm)
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
