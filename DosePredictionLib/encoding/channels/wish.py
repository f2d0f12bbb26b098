"""What is wished of organs, painted where they lie: 0 where nothing is stated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...structures.protocol import StructureProtocol
from ..settings import EncodingSettings
from ..wishes import wish_inputs
from .base import Channel, Source

__all__ = ["WishChannel", "channels"]


class WishChannel(Channel):
    """Each organ's mask times one less the share that may get its dose.

    A limit of 100 % asks for nothing, and is what is painted where nothing is stated. The masks say
    which organ a value is about. An organ that is not contoured has no wish.
    """

    def computed(self, source: Source) -> NDArray:
        """See `Channel.computed`."""
        result = np.zeros(source.masks.shape[1:], dtype=np.float32)
        for mask, channel in zip(source.masks, source.protocol.inputs, strict=True):
            if channel.name in source.wishes:
                result += mask * np.float32(1 - source.wishes[channel.name])
        return result.clip(0, 1)


def channels(protocol: StructureProtocol, settings: EncodingSettings) -> Sequence[Channel]:
    """One channel, where the settings ask for it."""
    if wish_inputs(settings) is None:
        return []
    name = "wishes"
    return [WishChannel(name, name, "derived", 0.0, "remade", "recomputed", from_masks=True)]
