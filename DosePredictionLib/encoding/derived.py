"""Input channels that are computed from the masks: distances and prescribed doses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DosePredictionError
from ..geometry import signed_distance_mm
from ..mask import to_binary
from ..structures.protocol import StructureProtocol

__all__ = ["DerivedInputs", "derived_channels", "mirrored_derived"]


@dataclass(frozen=True)
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
    distance_clip_mm: float = 50.0
    target_dose: bool = False
    refinement: int = 1

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
            distance = signed_distance_mm(to_binary(masks[index]), spacing_mm)
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
