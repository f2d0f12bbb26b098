"""Structure masks, in the protocol's order; a structure without contours stays empty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...mask import Mask
from ...structures.bound import BoundCase
from ...structures.protocol import StructureProtocol
from ...volume import Grid
from ..settings import EncodingSettings
from .base import Channel, Source

__all__ = ["MaskChannel", "channels", "disjoint_order", "structure_masks"]


class MaskChannel(Channel):
    """0 or 1, or the share of the voxel inside."""

    def computed(self, source: Source) -> NDArray:
        """See `Channel.computed`."""
        names = [channel.name for channel in source.protocol.inputs]
        return source.masks[names.index(self.name)]


def channels(protocol: StructureProtocol, settings: EncodingSettings) -> Sequence[Channel]:
    """One channel for every input of the protocol; paired organs are each other's mirror image."""
    partial = settings.masks == "occupancy"
    return [
        MaskChannel(
            name=structure.name,
            mirror=protocol.inputs[partner].name,
            group="structures",
            padding=0.0,
            motion="linear" if partial else "nearest",
            storage="float16" if partial else "bits",
            structure=structure.name,
        )
        for structure, partner in zip(protocol.inputs, protocol.mirrored, strict=True)
    ]


def structure_masks(
    bound: BoundCase, protocol: StructureProtocol, grid: Grid, settings: EncodingSettings
) -> NDArray[np.float32]:
    """The protocol's inputs on the model's grid `(channel, z, y, x)`.

    Clinical targets are nested, levels here are disjoint: the higher level wins.
    """
    masks = np.zeros((len(protocol.inputs), *grid.shape), dtype=np.float32)
    for values, channel in zip(masks, protocol.inputs, strict=True):
        mask = bound.mask(channel.name)
        if channel.role == "external":
            mask = _body(mask, bound.external)
        if mask is not None:
            values[:] = _on_grid(mask, grid, settings)
    taken = np.zeros(grid.shape, dtype=np.float32)
    for index in disjoint_order(protocol):
        np.minimum(masks[index], 1 - taken, out=masks[index])
        taken += masks[index]
    return masks


def disjoint_order(protocol: StructureProtocol) -> list[int]:
    """Indices of the inputs that exclude each other, the one that wins first."""
    levels = {
        index: channel.level_gy
        for index, channel in enumerate(protocol.inputs)
        if channel.role == "target" and channel.level_gy is not None
    }
    return sorted(levels, key=lambda index: -levels[index])


def _body(drawn: Mask | None, external: Mask) -> Mask:
    """The contour as drawn where it encloses all; else what it should, or one from the CT."""
    box = external.bounding_box()
    if drawn is None or box is None:
        return external
    return external if np.any(external.within(box) & ~drawn.as_binary().within(box)) else drawn


def _on_grid(mask: Mask, grid: Grid, settings: EncodingSettings) -> NDArray:
    if settings.masks == "touched":
        mask = mask.as_touched()
    moved = mask.resampled_to(grid)
    return moved.weights() if settings.masks == "occupancy" else moved.binary()
