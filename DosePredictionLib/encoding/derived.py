"""Input channels that are computed from the masks: distances and prescribed doses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DosePredictionError
from ..evaluation.arrays import bounding_box
from ..schema import Range, validated
from ..structures.protocol import StructureProtocol

__all__ = ["DerivedInputs", "derived_channels", "mirrored_derived", "signed_distance_mm"]


@dataclass(frozen=True)
@validated
class DerivedInputs:
    """Which channels follow the strips in a network's input. Part of the model's manifest.

    Args:
        distances: signed distance maps of no structure, of the targets, or of every input of the
            protocol, in its order.
        distance_clip_mm: the distance that becomes 1, or −1 inside; what lies farther is clipped.
        refinement: how many times finer than the model's grid the masks are sampled for the
            distances, so that these know where in its voxel an edge lies.
        target_dose: whether one channel holds the targets' dose levels, in units of the model's
            dose scale, 0 outside; a target without a level of its own counts as 1.
    """

    distances: Literal["none", "targets", "all"] = "none"
    distance_clip_mm: Annotated[float, Range(0, 1000, above=True)] = 50.0
    target_dose: bool = False
    refinement: Annotated[int, Range(1, 8)] = 1

    def mapped(self, protocol: StructureProtocol) -> list[int]:
        """Indices of the protocol's inputs that have a distance map."""
        if self.distances == "none":
            return []
        return [
            index
            for index, channel in enumerate(protocol.inputs)
            if self.distances == "all" or channel.role == "target"
        ]

    def count(self, protocol: StructureProtocol) -> int:
        """Number of derived channels."""
        return len(self.mapped(protocol)) + int(self.target_dose)


def derived_channels(
    masks: NDArray[np.float32],
    spacing_mm: Sequence[float],
    protocol: StructureProtocol,
    settings: DerivedInputs,
    dose_scale_gy: float,
    fine_masks: Mapping[int, NDArray[np.bool_]] | None = None,
) -> NDArray[np.float32]:
    """Distance maps, then the targets' dose: `(channel, z, y, x)`.

    Args:
        masks: the protocol's inputs `(channel, z, y, x)`; inside from one half on.
        spacing_mm: (x, y, z).
        dose_scale_gy: the dose that 1 stands for.
        fine_masks: by the input's index, the masks sampled `settings.refinement` times as finely;
            needed where that is not 1.

    Raises:
        DosePredictionError: they are needed and not given.
    """
    result = np.zeros((settings.count(protocol), *masks.shape[1:]), dtype=np.float32)
    for channel, index in zip(result, settings.mapped(protocol), strict=False):
        if settings.refinement == 1:
            distance = signed_distance_mm(masks[index] >= 0.5, spacing_mm)
        else:
            if fine_masks is None:
                raise DosePredictionError(
                    "Distances that are finer than the grid need the case's own masks, which a "
                    "compact file does not hold. Train on a cache instead (prepare --output)."
                )
            distance = _coarse_distance_mm(fine_masks[index], spacing_mm, settings.refinement)
        np.clip(distance / settings.distance_clip_mm, -1, 1, out=channel)
    if settings.target_dose:
        for index, structure in enumerate(protocol.inputs):
            if structure.role == "target":
                level_gy = dose_scale_gy if structure.level_gy is None else structure.level_gy
                np.maximum(result[-1], masks[index] * (level_gy / dose_scale_gy), out=result[-1])
    return result


def _coarse_distance_mm(
    fine_mask: NDArray[np.bool_], spacing_mm: Sequence[float], refinement: int
) -> NDArray[np.float32]:
    """Signed distance on the fine grid, averaged over each voxel of the coarse one."""
    fine = signed_distance_mm(fine_mask, [spacing / refinement for spacing in spacing_mm])
    shape = [count for size in fine.shape for count in (size // refinement, refinement)]
    return fine.reshape(shape).mean(axis=(1, 3, 5), dtype=np.float32)


def mirrored_derived(protocol: StructureProtocol, settings: DerivedInputs) -> list[int]:
    """For each derived channel the one that takes its place in the mirrored patient."""
    mapped = settings.mapped(protocol)
    order = [mapped.index(protocol.mirrored[index]) for index in mapped]
    return order + [len(mapped)] * int(settings.target_dose)


def signed_distance_mm(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
    """Distance to the nearest voxel on the other side of a mask's edge, mm; negative inside.

    Between voxel centers, less half of the smallest spacing: the voxels on both sides of the edge
    hold that much, so that the map has no jump there. An empty mask is infinitely far.

    Args:
        mask: `(z, y, x)`.
        spacing_mm: (x, y, z).
    """
    if not mask.any():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    if mask.all():
        return np.full(mask.shape, -np.inf, dtype=np.float32)
    box = bounding_box(mask, 1)  # what lies inside is nowhere nearer to a voxel beyond
    assert box is not None
    half_step = min(spacing_mm) / 2
    distance = _distance_outside_mm(mask, spacing_mm)
    distance -= half_step
    inside = half_step - _distance_to_outside_mm(mask[box], spacing_mm)
    np.copyto(distance[box], inside, where=mask[box])
    return distance


def _distance_outside_mm(
    mask: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> NDArray[np.float32]:
    """From every voxel outside to the nearest one inside; of no use inside."""
    try:
        import SimpleITK as sitk
    except ImportError:  # a trainer's machine may have only torch, numpy and scipy
        return _distance_to_outside_mm(~mask, spacing_mm)
    image = sitk.GetImageFromArray(mask.view(np.uint8))
    image.SetSpacing([float(mm) for mm in spacing_mm])
    # Five times as fast as SciPy's on such volumes, and the same to the last bit of a float32.
    distance = sitk.SignedMaurerDistanceMap(image, False, False, True)
    return sitk.GetArrayFromImage(distance)


def _distance_to_outside_mm(
    mask: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> NDArray[np.float32]:
    """From every voxel inside to the nearest one outside."""
    from scipy import ndimage

    distance = ndimage.distance_transform_edt(mask, sampling=tuple(reversed(spacing_mm)))
    return distance.astype(np.float32)
