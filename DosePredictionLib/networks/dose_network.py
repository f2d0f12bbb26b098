"""What every architecture has in common: its channels, its output, its layout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .configs import NetworkConfig

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
        config: what the network is built from.
    """

    bytes_per_voxel = 500
    """Peak memory of inference per input voxel in float32, rounded up."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.structure_channels = config.structure_channels
        self.strip_channels = config.strip_channels
        self.derived_channels = config.derived_channels
        self.input_channels = config.input_channels
        self.divisor = config.divisor
        self.smallest_edge = config.smallest_edge
        self.dimensions = config.dimensions

    @property
    def memory_format(self) -> torch.memory_format:
        """How its weights and its input lie best in memory: channels last."""
        return torch.channels_last if self.dimensions == 2 else torch.channels_last_3d

    @abstractmethod
    def forward(self, x: Tensor) -> TwoStageDose:
        """Predict from `(batch, input_channels, z, y, x)`."""
