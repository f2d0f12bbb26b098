"""Organs that a model found → a segmentation beside the user's; what a contour costs in dose.

The user's segmentation is never written to: its segments are copied, the found ones come after
them, under the names of AAPM TG-263 and with the name of the model as a tag.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from ..app.contours import dose_on_both
from ..errors import CaseError
from ..mask import Mask
from ..prediction import Prediction
from ..structures.bound import BoundCase
from ..structures.protocol import Channel, StructureProtocol
from ..volume import Volume
from .geometry import array_of_image, index_to_ras, inverse, is_rigid, linear_to_world
from .images import Placement, labelmap_of
from .reading import SceneCase, list_segments
from .runs import batch
from .steps import Step, Steps

__all__ = [
    "FOUND_BY",
    "ContourCost",
    "FoundOrgans",
    "cost_steps",
    "found_by",
    "found_organs",
    "found_steps",
]

FOUND_BY = "DosePrediction.FoundBy"
"""Tag of a segment that a model found, or TotalSegmentator: its name."""

_SIDES = {"left": "SCT^7771000^Left", "right": "SCT^24028007^Right", None: "^^"}
_TYPES = {
    "Bladder": "SCT^89837001^Bladder",
    "Rectum": "SCT^34402009^Rectum",
    "Bowel_Small": "SCT^30315005^Small intestine",
    "BoneMarrow": "SCT^14016003^Bone Marrow",
    "SpinalCord": "SCT^2748008^Spinal cord",
    "Femur_Head_L": "SCT^2812003^Head of Femur",
    "Femur_Head_R": "SCT^2812003^Head of Femur",
}
"""Name by TG-263 → type by SNOMED CT, as DICOM PS3.16 has them."""


@dataclass(frozen=True, eq=False)
class FoundOrgans:
    """Organs that somebody else than the user contoured, on the case's voxels.

    Args:
        name: of who found them, for the tag.
        title: likewise, for messages.
        protocol: whose channels they are.
        masks: by channel.
        notes: what is to be said of them, in sentences.
    """

    name: str
    title: str
    protocol: StructureProtocol
    masks: Mapping[str, Mask]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ContourCost:
    """What the user's contour of an organ says of a dose beside the found one.

    Args:
        name: of the user's segment.
        drawn_cc, found_cc: volumes.
        drawn, found: endpoint → Gy on each contour; None where it is not defined.
    """

    name: str
    drawn_cc: float
    found_cc: float
    drawn: dict[str, float | None]
    found: dict[str, float | None]


def found_by(segmentation: Any) -> dict[str, str]:
    """Name of a segment that a model found → the model's name."""
    content, found = segmentation.GetSegmentation(), {}
    for info in list_segments(segmentation):
        model = vtk.reference("")
        if content.GetSegment(info.id).GetTag(FOUND_BY, model):
            found[info.name] = str(model)
    return found


def found_organs(prediction: Prediction) -> FoundOrgans:
    """Those of a prediction."""
    manifest = prediction.model.manifest
    segments = prediction.of_roles(["segment"])
    masks = {str(each.structure): Mask.of(each.volume) for each in segments}
    return FoundOrgans(manifest.name, manifest.title, prediction.model.protocol, masks)


def found_steps(found: FoundOrgans, source: SceneCase, channels: Collection[str]) -> Steps[Any]:
    """Put found organs beside the user's contours; the generator returns the new segmentation.

    The scene is untouched until the last step.

    Args:
        found: the organs.
        channels: of the organs to be added; what was not found of them is left out.

    Raises:
        CaseError: none was found, the inputs have gone, or the segmentation lies under a transform
            that is not rigid.
    """
    organs = {channel.name: channel for channel in found.protocol.channels}
    masks = {name: mask for name, mask in found.masks.items() if name in channels}
    if not masks:
        raise CaseError(
            f"{found.title} found none of the missing organs on this CT: "
            f"{', '.join(sorted(channels))}. Contour them by hand."
        )
    ct, segmentation = _inputs(source)
    placement = _placement(ct, segmentation, source)
    labelmaps = {}
    for name, mask in masks.items():
        labelmaps[name] = labelmap_of(mask.majority(), placement)
        yield Step(f"Preparing {name}", len(labelmaps), len(masks))
    with batch(slicer.mrmlScene):
        node = _copy_of(ct, segmentation)
        for name, labelmap in labelmaps.items():
            _add(node, organs[name], labelmap, found.name)
    node.GetDisplayNode().SetVisibility2DFill(False)
    yield Step("Done", len(masks), len(masks))
    return node


def cost_steps(
    found: FoundOrgans, bound: BoundCase, source: SceneCase, dose: Any
) -> Steps[list[ContourCost]]:
    """Read a dose on each organ that is drawn and on the found one, an organ a step.

    Args:
        bound: the case of `source`, bound to the protocol.
        dose: node of a predicted dose on the case's grid.

    Raises:
        CaseError: the dose has gone or lies on other voxels, or no organ is both drawn and found.
    """
    case = source.case
    image = None if dose.GetScene() is None else dose.GetImageData()
    if image is None or array_of_image(image).shape != case.grid.shape:
        raise CaseError("The dose of this result does not lie on the CT's voxels. Predict again.")
    dose_gy = case.ct.with_array(array_of_image(image))
    _ct, segmentation = _inputs(source)
    proposed = found_by(segmentation)
    costs = []
    for name, own in bound.structures.items():
        if own.role != "organ" or name not in found.masks or own.source in proposed:
            continue
        costs.append(_cost(own.source, own.mask, found.masks[name], dose_gy))
        yield Step(f"Reading the dose on {own.source}", len(costs), len(found.masks))
    if not costs:
        raise CaseError(
            "No organ is both drawn by hand and found on this CT: there is nothing to compare."
        )
    return costs


def _cost(name: str, own: Mask, found: Mask, dose_gy: Volume) -> ContourCost:
    read = dose_on_both(dose_gy, found, own)
    return ContourCost(
        name,
        _volume_cc(own),
        _volume_cc(found),
        {key: values["contour"] for key, values in read.items()},
        {key: values["reference"] for key, values in read.items()},
    )


def _volume_cc(mask: Mask) -> float:
    return float(mask.weights().sum()) * mask.grid.voxel_volume_cc


def _inputs(source: SceneCase) -> tuple[Any, Any]:
    """CT and segmentation that a case was read from."""
    ids = (source.ct_id, source.segmentation_id)
    ct, segmentation = (slicer.mrmlScene.GetNodeByID(id) for id in ids)
    if ct is None or segmentation is None:
        raise CaseError(
            "The CT or the segmentation has been removed from the scene. Choose them again."
        )
    return ct, segmentation


def _placement(ct: Any, segmentation: Any, source: SceneCase) -> Placement:
    """The case's voxels below the segmentation's own transform."""
    own = linear_to_world(segmentation)
    if own is None or not is_rigid(own):
        raise CaseError(
            f"{segmentation.GetName()} lies under a transform that is not rigid: harden it first "
            "(Transforms module)."
        )
    if source.is_hardened:
        to_world = Placement.in_world(source.case.grid).index_to_ras
    else:
        of_ct = linear_to_world(ct)
        assert of_ct is not None  # else the case would be hardened
        to_world = of_ct @ index_to_ras(ct)
    local: NDArray[np.float64] = inverse(own) @ to_world
    return Placement(local, segmentation.GetTransformNodeID())


def _copy_of(ct: Any, segmentation: Any) -> Any:
    """A new segmentation at the same place, with copies of all segments and how they look."""
    node = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLSegmentationNode", f"{segmentation.GetName()}, organs added"
    )
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(ct)
    node.SetAndObserveTransformNodeID(segmentation.GetTransformNodeID())
    before, after = segmentation.GetSegmentation(), node.GetSegmentation()
    for id in before.GetSegmentIDs():
        after.CopySegmentFromSegmentation(before, id)
    return node


def _add(node: Any, channel: Channel, labelmap: Any, model: str) -> None:
    """A found organ under a name that is not taken."""
    taken = {info.name for info in list_segments(node)}
    name = next(name for name in _names(channel.tg263) if name not in taken)
    color = [int(channel.color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    id = node.AddSegmentFromBinaryLabelmapRepresentation(labelmap, name, color)
    segment = node.GetSegmentation().GetSegment(id)
    segment.SetTag(FOUND_BY, model)
    if channel.tg263 in _TYPES:
        kind = f"{_TYPES[channel.tg263]}~{_SIDES[channel.side]}"
        entry = (
            "Segmentation category and type - DICOM master list"
            f"~SCT^123037004^Anatomical Structure~{kind}"
            "~Anatomic codes - DICOM master list~^^~^^|"
        )
        segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), entry)


def _names(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name} ({number})"
        number += 1
