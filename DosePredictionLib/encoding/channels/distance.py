"""Signed distance maps of structures: 1 far away, −1 deep inside, 0 on the surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...geometry import signed_distance_mm
from ...kept import kept
from ...mask import Mask, to_binary
from ...structures.protocol import StructureProtocol
from ...volume import Grid
from ..settings import EncodingSettings
from .base import Channel, Source

__all__ = ["DistanceChannel", "channels"]


@dataclass(frozen=True)
class DistanceChannel(Channel):
    """Distance over `clip_mm`, clipped to ±1; an absent structure is far away everywhere.

    A patient who is scaled keeps the values: they are then off by the scale's share.
    """

    clip_mm: float = 50.0
    refinement: int = 1

    def computed(self, source: Source) -> NDArray:
        """See `Channel.computed`."""
        assert self.structure is not None
        if self.refinement == 1:
            names = [channel.name for channel in source.protocol.inputs]
            mask = to_binary(source.masks[names.index(self.structure)])
            distance = signed_distance_mm(mask, source.spacing_mm, self.clip_mm)
        else:
            distance = self._from_finer_masks(source, self.structure)
        scaled: NDArray = np.clip(distance / self.clip_mm, -1, 1)
        return scaled

    def _from_finer_masks(self, source: Source, structure: str) -> NDArray[np.float32]:
        """Signed distance on a finer grid, averaged over each voxel of the model's own, mm."""
        mask, grid = source.case.bound.mask(structure), source.case.grid
        if mask is None:
            return np.full(grid.shape, np.inf, dtype=np.float32)
        return _averaged_distance_mm(mask, grid, self.refinement, self.clip_mm)


@kept
def _averaged_distance_mm(
    mask: Mask, grid: Grid, refinement: int, clip_mm: float
) -> NDArray[np.float32]:
    fine = grid.refined(refinement)
    # A voxel that reaches the clipping distance lies within its own diagonal of it.
    limit_mm = clip_mm + float(np.linalg.norm(grid.spacing))
    distance = signed_distance_mm(mask.resampled_to(fine).binary(), fine.spacing, limit_mm)
    shape = [count for size in grid.shape for count in (size, refinement)]
    return distance.reshape(shape).mean(axis=(1, 3, 5), dtype=np.float32)


def channels(protocol: StructureProtocol, settings: EncodingSettings) -> Sequence[Channel]:
    """A map for every structure that the settings name, in the protocol's order."""
    derived = settings.derived
    inputs, mirrored = protocol.inputs, protocol.mirrored
    # Occupancies are kept rounded: the half that an edge lies at may fall on the other side.
    from_masks = derived.refinement == 1 and settings.masks != "occupancy"
    return [
        DistanceChannel(
            name=_name(inputs[index].name),
            mirror=_name(inputs[mirrored[index]].name),
            group="derived",
            padding=1.0,
            motion="linear",
            storage="float16",
            structure=inputs[index].name,
            from_masks=from_masks,
            clip_mm=derived.distance_clip_mm,
            refinement=derived.refinement,
        )
        for index in derived.mapped(protocol)
    ]


def _name(structure: str) -> str:
    return f"distance to {structure}"
