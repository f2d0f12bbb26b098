"""The targets' prescribed doses, in units of the model's dose scale; 0 outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...structures.protocol import StructureProtocol
from ..settings import EncodingSettings
from .base import Channel, Source

__all__ = ["TargetDoseChannel", "channels", "target_levels"]


class TargetDoseChannel(Channel):
    """The highest of the levels that a voxel belongs to, each times the share inside."""

    def computed(self, source: Source) -> NDArray:
        """See `Channel.computed`."""
        result = np.zeros(source.masks.shape[1:], dtype=np.float32)
        for index, level in target_levels(source.protocol, source.settings.dose_scale_gy).items():
            np.maximum(result, source.masks[index] * level, out=result)
        return result


def target_levels(protocol: StructureProtocol, dose_scale_gy: float) -> Mapping[int, float]:
    """Index of each input that is a target → its level over the dose scale; without one, 1."""
    return {
        index: 1.0 if channel.level_gy is None else channel.level_gy / dose_scale_gy
        for index, channel in enumerate(protocol.inputs)
        if channel.role == "target"
    }


def channels(protocol: StructureProtocol, settings: EncodingSettings) -> Sequence[Channel]:
    """One channel, where the settings ask for it."""
    if not settings.derived.target_dose:
        return []
    name = "target dose"
    return [TargetDoseChannel(name, name, "derived", 0.0, "remade", "recomputed", from_masks=True)]
