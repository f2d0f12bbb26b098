"""Voxels of a result as volume and segmentation nodes; prepared outside the scene."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import numpy_to_vtk

from ..errors import CaseError
from ..mask import majority
from ..volume import Grid, slabs
from .geometry import LPS_FROM_RAS, array_of_image, index_to_ras, vtk_matrix
from .runs import Draft

__all__ = [
    "Appearance",
    "Placement",
    "empty_image",
    "filled_in_slabs",
    "follows_dose",
    "labelmap_of",
    "segmentation_draft",
    "volume_drafts",
    "voxels_at",
]

_FOLLOWS_DOSE = "DosePrediction.FollowsDose"
_SEGMENT_COLORS = ((0.35, 0.7, 0.9), (0.9, 0.6, 0.0), (0.0, 0.6, 0.5), (0.8, 0.5, 0.7))


@dataclass(frozen=True)
class Placement:
    """Where the voxels of a result lie: the CT's own place, whatever that is.

    Args:
        index_to_ras: 4×4, index (x, y, z) → RAS before the transform.
        transform_id: node ID of the CT's parent transform; None without one.
    """

    index_to_ras: NDArray[np.float64]
    transform_id: str | None

    @classmethod
    def in_world(cls, grid: Grid) -> Placement:
        """A grid in LPS mm of the world."""
        return cls(LPS_FROM_RAS @ grid.index_to_world, None)


def follows_dose(display: Any) -> bool:
    """Whether a display takes the range that is chosen for the dose's colors."""
    return display.GetAttribute(_FOLLOWS_DOSE) is not None


def empty_image(shape: tuple[int, ...]) -> Any:
    """vtkImageData of the shape (z, y, x), float32, not filled."""
    image = vtk.vtkImageData()
    image.SetDimensions(*shape[::-1])
    image.AllocateScalars(vtk.VTK_FLOAT, 1)
    return image


def voxels_at(dose: Any, placement: Placement) -> NDArray:
    """The voxels `(z, y, x)` of an earlier dose that lies at the same place.

    Raises:
        CaseError: it has gone, or lies elsewhere.
    """
    if dose.GetScene() is None or dose.GetImageData() is None:
        raise CaseError("The earlier result has been removed: there is nothing to compare with.")
    if not np.allclose(index_to_ras(dose), placement.index_to_ras, atol=1e-4):
        raise CaseError("The earlier result lies on another CT grid: the two cannot be compared.")
    return array_of_image(dose.GetImageData())


def filled_in_slabs(image: Any, array: NDArray, minus: NDArray | None = None) -> Iterator[None]:
    """Copy an array `(z, y, x)`, or a difference, into an image, some planes a turn."""
    voxels = array_of_image(image)
    for part in slabs(voxels.shape):
        if minus is None:
            np.copyto(voxels[part], array[part], casting="same_kind")
        else:
            np.subtract(array[part], minus[part], out=voxels[part], casting="same_kind")
        yield


@dataclass(frozen=True)
class Appearance:
    """How a volume is drawn.

    Args:
        window: values of the first and the last color; a dose is not drawn below the first.
        colors: role of the color table.
        is_dose: whether SlicerRT may take it for a dose: Gy and never negative.
        is_in_gray: whether its values are in Gy.
        follows_dose: whether its colors take the range that is chosen for the dose's.
    """

    window: tuple[float, float]
    colors: str = "colors"
    is_dose: bool = False
    is_in_gray: bool = True
    follows_dose: bool = False


def volume_drafts(
    role: str, name: str, image: Any, placement: Placement, appearance: Appearance
) -> list[Draft]:
    """A volume and its display."""
    window = appearance.window

    def fill_display(node: Any, nodes: Mapping[str, Any]) -> None:
        node.SetAutoWindowLevel(False)
        node.SetAndObserveColorNodeID(nodes[appearance.colors].GetID())
        node.SetWindowLevelMinMax(*window)
        node.SetAutoThreshold(False)
        node.SetLowerThreshold(window[0])
        node.SetUpperThreshold(float(np.finfo(np.float32).max))
        node.SetApplyThreshold(appearance.colors == "colors")
        if appearance.follows_dose:
            node.SetAttribute(_FOLLOWS_DOSE, "1")

    def fill_volume(node: Any, nodes: Mapping[str, Any]) -> None:
        node.SetIJKToRASMatrix(vtk_matrix(placement.index_to_ras))
        node.SetAndObserveTransformNodeID(placement.transform_id)
        node.SetAndObserveImageData(image)
        node.SetAndObserveDisplayNodeID(nodes[f"{role}-display"].GetID())
        if appearance.is_dose:
            node.SetAttribute("DicomRtImport.DoseVolume", "1")
        if appearance.is_in_gray:
            units = slicer.vtkCodedEntry()
            units.SetValueSchemeMeaning("Gy", "UCUM", "Gray")
            node.SetVoxelValueUnits(units)

    return [
        Draft(f"{role}-display", "vtkMRMLScalarVolumeDisplayNode", f"{name} display", fill_display),
        Draft(role, "vtkMRMLScalarVolumeNode", name, fill_volume),
    ]


def labelmap_of(mask: NDArray, placement: Placement) -> Any:
    """A mask `(z, y, x)` as a labelmap."""
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*mask.shape[::-1])
    values = majority(mask).astype(np.uint8).ravel()
    image.GetPointData().SetScalars(numpy_to_vtk(values, deep=True))
    image.SetImageToWorldMatrix(vtk_matrix(placement.index_to_ras))
    return image


def segmentation_draft(
    role: str,
    name: str,
    labelmaps: Mapping[tuple[str, str], Any],
    placement: Placement,
    ct: Any,
) -> Draft:
    """Masks as a segmentation, hidden until it is looked at.

    Args:
        labelmaps: ID and name of a segment → its labelmap.
    """

    def fill(node: Any, nodes: Mapping[str, Any]) -> None:
        is_new = node.GetDisplayNode() is None
        node.SetReferenceImageGeometryParameterFromVolumeNode(ct)
        node.SetAndObserveTransformNodeID(placement.transform_id)
        node.GetSegmentation().RemoveAllSegments()
        if is_new:
            node.CreateDefaultDisplayNodes()
            node.GetDisplayNode().SetVisibility(False)
        colors = itertools.cycle(_SEGMENT_COLORS)
        for ((segment_id, label), labelmap), color in zip(labelmaps.items(), colors, strict=False):
            node.AddSegmentFromBinaryLabelmapRepresentation(labelmap, label, color, segment_id)

    return Draft(role, "vtkMRMLSegmentationNode", name, fill)
