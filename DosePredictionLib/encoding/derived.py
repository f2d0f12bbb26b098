"""Settings of the channels that are computed from the masks: distances and prescribed doses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from ..schema import Range, validated
from ..structures.protocol import StructureProtocol

__all__ = ["DerivedInputs"]


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
