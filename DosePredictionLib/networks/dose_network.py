"""What every architecture has in common: its channels, its output, its layout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .configs import NetworkConfig

__all__ = ["DoseNetwork", "TwoStageDose"]


class TwoStageDose(NamedTuple):
    """Doses `(batch, 1, z, y, x)`, in units of the model's dose scale, unclamped.

    `coarse` is None for a network of one stage.
    """

    coarse: Tensor | None
    final: Tensor


class DoseNetwork(nn.Module, ABC):
    """Maps `(batch, input_channels, z, y, x)`, or slices of it, to a `TwoStageDose`.

    The input's channels are the CT, the structures, the strips and the derived channels, in this
    order, as `encoding.encode` stacks them.

    Args:
        config: what the network is built from.

    Raises:
        ModelError: when called with an input of other axes or channels, or of edges that it does
            not divide.
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
        self.register_forward_pre_hook(_require_fitting)

    @property
    def memory_format(self) -> torch.memory_format:
        """How its weights and its input lie best in memory: channels last."""
        return torch.channels_last if self.dimensions == 2 else torch.channels_last_3d

    @abstractmethod
    def forward(self, x: Tensor) -> TwoStageDose:
        """Predict from `(batch, input_channels, z, y, x)`."""


def _require_fitting(network: DoseNetwork, inputs: tuple[Tensor, ...]) -> None:
    """Refuse what the layers would stumble over, or, worse, would not."""
    name, shape = type(network).__name__, tuple(inputs[0].shape)
    axes = "(batch, channel, z, y, x)" if network.dimensions == 3 else "(batch, channel, y, x)"
    if len(shape) != network.dimensions + 2:
        raise ModelError(f"{name} takes an input {axes}; got the shape {shape}.")
    if shape[1] != network.input_channels:
        raise ModelError(f"{name} takes {network.input_channels} channels; got {shape[1]}.")
    if any(edge == 0 or edge % network.divisor for edge in shape[2:]):
        edges = "×".join(str(edge) for edge in shape[2:])
        raise ModelError(
            f"{name} takes edges that are multiples of {network.divisor}; got {edges}. Pad the "
            "input, as encode() does."
        )
