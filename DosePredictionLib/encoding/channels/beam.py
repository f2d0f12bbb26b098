"""Where dose can come from: for each target level the dose of all beams that are open for it.

A model that tells open fields from modulated ones sees a further channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...mask import majority
from ...structures.protocol import StructureProtocol
from ..beams import beam_inputs, ray_dose
from ..settings import EncodingSettings
from .base import Channel, Source
from .mask import disjoint_order

__all__ = ["OpenDoseChannel", "OpenFieldsChannel", "channels"]


@dataclass(frozen=True)
class OpenDoseChannel(Channel):
    """Mean dose of the fields, of unit fluence where they see the level or a higher one.

    In the mirrored patient the beams are mirrored (θ becomes 360° − θ), and so is the dose. A
    patient who turns takes the beams along.

    Args:
        targets: that the apertures are open for.
    """

    targets: tuple[str, ...] = ()

    def computed(self, source: Source) -> NDArray:
        """See `Channel.computed`."""
        names = [channel.name for channel in source.protocol.inputs]
        assert self.structure is not None
        shown = source.masks[names.index(self.structure)]
        if not majority(shown).any():
            return np.zeros_like(shown)
        operator = ray_dose(source)
        dose = operator.dose(operator.open_fluence(self.targets))
        return operator.as_volume(dose / np.float32(len(operator.fields)))


class OpenFieldsChannel(Channel):
    """1 in the body where fields are open and have weights alone, 0 where they are modulated."""

    def computed(self, source: Source) -> NDArray:
        """See `Channel.computed`."""
        return source.body.astype(np.float32) * (not ray_dose(source).modulated)


def channels(protocol: StructureProtocol, settings: EncodingSettings) -> Sequence[Channel]:
    """One channel for every target, in the protocol's order; one that tells open fields."""
    own = beam_inputs(settings)
    if own is None:
        return []
    inputs = protocol.inputs
    order = disjoint_order(protocol)
    result: list[Channel] = []
    for index, channel in enumerate(inputs):
        if channel.role != "target":
            continue
        above = order[: order.index(index) + 1] if index in order else [index]
        name = f"open dose {channel.name}"
        result.append(
            OpenDoseChannel(
                name=name,
                mirror=name,
                group="derived",
                padding=0.0,
                motion="linear",
                storage="float16",
                structure=channel.name,
                targets=tuple(inputs[each].name for each in above),
            )
        )
    if own.open_fields:
        name = "open fields"
        result.append(OpenFieldsChannel(name, name, "derived", 0.0, "nearest", "bits"))
    return result
