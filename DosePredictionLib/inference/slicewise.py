"""Networks of two dimensions over volumes, slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..networks import DoseNetwork

__all__ = ["SLICES_AT_ONCE", "SliceWise", "over_volumes", "volume_format"]

SLICES_AT_ONCE = 16


class SliceWise(nn.Module):
    """A network of two dimensions as one of three: axial slices pass it in batches.

    Slices see nothing of each other, so that without gradients the result does not depend on how
    many pass together. With gradients all of them do: they are what batch norm sees.

    Args:
        network: maps `(batch, channel, y, x)` to a tensor `(batch, channel, y, x)`, or to a tuple
            of such tensors or None.
        at_once: slices that pass together.
    """

    def __init__(self, network: DoseNetwork, at_once: int = SLICES_AT_ONCE) -> None:
        super().__init__()
        self.network = network
        self.at_once = at_once

    def forward(self, x: Tensor) -> Any:
        """From `(batch, channel, z, y, x)` to what the network gives, with z in its place."""
        batch, channels, depth, *plane = x.shape
        slices = x.transpose(1, 2).reshape(batch * depth, channels, *plane)
        count = len(slices) if torch.is_grad_enabled() else self.at_once
        parts = [self.network(part) for part in slices.split(count)]
        return _joined(parts, batch, depth)


def over_volumes(network: nn.Module, at_once: int = SLICES_AT_ONCE) -> nn.Module:
    """The network itself, or as a `SliceWise` if it has two dimensions."""
    if isinstance(network, DoseNetwork) and network.dimensions == 2:
        return SliceWise(network, at_once)
    return network


def volume_format(network: DoseNetwork) -> torch.memory_format:
    """How a volume lies in memory so that it, or its slices, suit the network."""
    if network.memory_format is torch.contiguous_format:
        return torch.contiguous_format
    return torch.channels_last_3d


def _joined(parts: Sequence[Any], batch: int, depth: int) -> Any:
    """Tensors of `(slices, channel, y, x)`, or tuples of them, as `(batch, channel, z, y, x)`."""
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        slices = torch.cat(list(parts))
        return slices.reshape(batch, depth, *slices.shape[1:]).transpose(1, 2)
    fields = [_joined(field, batch, depth) for field in zip(*parts, strict=True)]
    # A named tuple takes its fields one by one, a plain one all together.
    return type(first)(*fields) if hasattr(first, "_fields") else type(first)(fields)
