"""What every architecture has in common: its channels, its output, its training options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["DoseNetwork", "TwoStageDose"]


class TwoStageDose(NamedTuple):
    """Doses `(batch, 1, z, y, x)`, in units of the model's dose scale, unclamped.

    `coarse` is None for a network of one stage.
    """

    coarse: Tensor | None
    final: Tensor


class DoseNetwork(nn.Module, ABC):
    """Maps `(batch, input_channels, z, y, x)` to a `TwoStageDose`.

    The input's channels are the CT, the structures, the strips and the derived channels, in this
    order, as `encoding.encode` stacks them.

    Args:
        structure_channels: number of structure masks.
        strip_channels: number of tangent strip masks.
        derived_channels: number of channels that the encoding computes from the masks.
    """

    divisor = 16
    """z, y and x must be multiples of it."""

    dimensions = 3
    """3, or 2: then it takes and gives axial slices `(batch, channel, y, x)`."""

    memory_format = torch.channels_last_3d
    """How weights and input lie in memory; `channels_last` for two dimensions."""

    smallest_edge = 16
    """Edge of the smallest cube that passes in inference."""

    bytes_per_voxel = 500
    """Peak memory of inference per input voxel in float32, rounded up."""

    def __init__(
        self, structure_channels: int, strip_channels: int = 4, derived_channels: int = 0
    ) -> None:
        super().__init__()
        self.structure_channels = structure_channels
        self.strip_channels = strip_channels
        self.derived_channels = derived_channels

    @property
    def input_channels(self) -> int:
        """CT, structures, strips and derived channels: what `forward` takes."""
        return 1 + self.structure_channels + self.strip_channels + self.derived_channels

    @abstractmethod
    def forward(self, x: Tensor) -> TwoStageDose:
        """Predict from `(batch, input_channels, z, y, x)`."""
