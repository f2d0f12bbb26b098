"""A case → nodes: CT, segmentation and plan dose, as if a person had loaded them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from ..case import DOSE_MASK, Case
from ..mask import to_binary
from ..schema import to_json
from ..volume import Volume
from .geometry import LPS_FROM_RAS, vtk_matrix

__all__ = ["BEAMS", "load_case"]

BEAMS = "DosePrediction.Beams"
"""Attribute of a CT: how the beams of the plan stand that came with it, a `BeamArrangement`."""


def load_case(case: Case, colors: Mapping[str, str] | None = None) -> tuple[Any, Any, Any]:
    """Add a case to the scene: CT, segmentation, and the plan's dose or None.

    The dose mask becomes a hidden segment, by whose name reading finds it again; the beams of the
    plan an attribute of the CT.

    Args:
        colors: structure → "#rrggbb"; the others get Slicer's own.
    """
    ct = _add_volume(case.ct, f"{case.name} CT")
    if case.beams is not None:
        ct.SetAttribute(BEAMS, json.dumps(to_json(case.beams)))
    segmentation = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLSegmentationNode", f"{case.name} structures"
    )
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(ct)
    for name, mask in case.structures.items():
        segment_id = segmentation.AddSegmentFromBinaryLabelmapRepresentation(_labelmap(mask), name)
        color = (colors or {}).get(name, "").removeprefix("#")
        if color:
            rgb = (int(color[i : i + 2], 16) / 255 for i in (0, 2, 4))
            segmentation.GetSegmentation().GetSegment(segment_id).SetColor(*rgb)
    if case.dose_mask is not None:
        labelmap = _labelmap(case.dose_mask)
        id = segmentation.AddSegmentFromBinaryLabelmapRepresentation(labelmap, DOSE_MASK)
        segmentation.GetDisplayNode().SetSegmentVisibility(id, False)
    if case.plan_dose is None:
        return ct, segmentation, None
    plan = _add_volume(case.plan_dose, f"{case.name} plan dose")
    plan.SetAttribute("DicomRtImport.DoseVolume", "1")
    return ct, segmentation, plan


def _add_volume(volume: Volume, name: str) -> Any:
    """A scalar volume node with its default display; the voxels' type stays."""
    image = vtk.vtkImageData()
    image.SetDimensions(*volume.grid.size)
    image.GetPointData().SetScalars(numpy_to_vtk(_flat(volume.array), deep=True))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetIJKToRASMatrix(_index_to_ras(volume))
    node.SetAndObserveImageData(image)
    node.CreateDefaultDisplayNodes()
    return node


def _labelmap(mask: Volume) -> Any:
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*mask.grid.size)
    inside = to_binary(mask.array)
    image.GetPointData().SetScalars(numpy_to_vtk(_flat(inside.astype(np.uint8)), deep=True))
    image.SetImageToWorldMatrix(_index_to_ras(mask))
    return image


def _flat(array: Any) -> Any:
    return np.ascontiguousarray(array).ravel()


def _index_to_ras(volume: Volume) -> Any:
    return vtk_matrix(LPS_FROM_RAS @ volume.grid.index_to_world)
