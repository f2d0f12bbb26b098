"""Every kind of channel, and the list of a model's channels.

A new kind is one file beside the others and one line here. What it needs of settings is an entry of
`EncodingSettings.further`, read by its own function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ...errors import DosePredictionError
from ...structures.protocol import StructureProtocol
from ..settings import EncodingSettings
from . import beam, ct, distance, mask, region, strip, target_dose, wish
from .base import Channel, Group, Source, Storage

__all__ = ["CHANNEL_KINDS", "ChannelKind", "ModelChannels", "model_channels"]

ChannelKind = Callable[[StructureProtocol, EncodingSettings], Sequence[Channel]]
"""From protocol and settings to the channels of one kind, none where the model has none."""

CHANNEL_KINDS: dict[str, ChannelKind] = {
    "ct": ct.channels,
    "mask": mask.channels,
    "strip": strip.channels,
    "distance": distance.channels,
    "target_dose": target_dose.channels,
    "beam": beam.channels,
    "region": region.channels,
    "wish": wish.channels,
}
"""In the order of the input, within each group."""

_GROUPS: tuple[Group, ...] = ("ct", "structures", "strips", "derived")


@dataclass(frozen=True)
class ModelChannels:
    """The channels of one model's input, in its order.

    Raises:
        DosePredictionError: two share a name.
    """

    protocol: StructureProtocol
    settings: EncodingSettings
    channels: tuple[Channel, ...]

    def __post_init__(self) -> None:
        names = [channel.name for channel in self.channels]
        if len(set(names)) != len(names):
            raise DosePredictionError(f"Two channels share a name: {', '.join(names)}.")

    def __len__(self) -> int:
        return len(self.channels)

    def indices(self, group: Group) -> list[int]:
        """Where the channels of a group stand in the input."""
        return [index for index, each in enumerate(self.channels) if each.group == group]

    def stored_as(self, storage: Storage) -> list[int]:
        """Where the channels that training keeps in this way stand in the input."""
        return [index for index, each in enumerate(self.channels) if each.storage == storage]

    @cached_property
    def structures(self) -> slice:
        """Where the protocol's inputs stand in the input."""
        indices = self.indices("structures")
        return slice(indices[0], indices[-1] + 1)

    @cached_property
    def mirrored(self) -> list[int]:
        """For each channel the one that takes its place in the mirrored patient.

        Raises:
            DosePredictionError: a channel's mirror image is no channel of the model.
        """
        names = [channel.name for channel in self.channels]
        for channel in self.channels:
            if channel.mirror not in names:
                raise DosePredictionError(
                    f"In the mirrored patient {channel.name} is {channel.mirror}, which is no "
                    f"channel of the model ({', '.join(names)}): it cannot be mirrored."
                )
        return [names.index(channel.mirror) for channel in self.channels]

    def of_structure(self, structure: str) -> list[int]:
        """Where the channels that show a structure stand in the input."""
        return [index for index, each in enumerate(self.channels) if each.structure == structure]

    def compute(self, indices: Sequence[int], source: Source, x: NDArray[np.float32]) -> None:
        """Fill channels of an input `(channel, z, y, x)`."""
        for index in indices:
            x[index] = self.channels[index].computed(source)

    def remake(
        self,
        indices: Sequence[int],
        x: NDArray[np.float32],
        body: NDArray[np.bool_],
        spacing_mm: tuple[float, float, float],
        wishes: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Fill channels of an input from the masks that it holds.

        Args:
            wishes: see `Source`.

        Raises:
            DosePredictionError: a channel needs more than masks.
        """
        masks = x[self.structures]
        source = Source(self.protocol, self.settings, spacing_mm, masks, body, wishes=wishes)
        self.compute(indices, source, x)


def model_channels(protocol: StructureProtocol, settings: EncodingSettings) -> ModelChannels:
    """The channels of a model: CT, the protocol's inputs, strips, derived ones.

    Raises:
        DosePredictionError: the settings name a kind of channel that there is not.
    """
    unknown = sorted(set(settings.further) - set(CHANNEL_KINDS))
    if unknown:
        raise DosePredictionError(
            f"The encoding has channels of the kind {', '.join(unknown)}, which this version does "
            f"not know; it knows {', '.join(CHANNEL_KINDS)}. Install the version that the model "
            "was made with."
        )
    found = [channel for kind in CHANNEL_KINDS.values() for channel in kind(protocol, settings)]
    found.sort(key=lambda channel: _GROUPS.index(channel.group))
    return ModelChannels(protocol, settings, tuple(found))
