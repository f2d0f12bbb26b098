"""Convolutions of grids shorter than their kernel, where a CPU trains in bfloat16.

There oneDNN 3.11 (torch 2.13) leaves parts of the weights' gradient unwritten on processors with
AVX-512 BF16: of a 3³ kernel where two slices are left, of a 5³ kernel at three or four. What memory
held before is then the gradient, in silence. Such convolutions are computed in float32: a network
meets them at its deepest level, where there are few voxels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["compute_short_grids_in_float32"]


def compute_short_grids_in_float32(network: nn.Module) -> None:
    """Make the convolutions of a network that trains on a CPU compute in float32 where they must.

    A copy of the network made afterwards would compute with this one's weights: copy it before.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)) and module.kernel_size[0] > 2:
            module.forward = _careful(module, module.forward)  # type: ignore[assignment,method-assign]


def _careful(
    module: nn.Conv3d | nn.ConvTranspose3d, usual: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    longest = module.kernel_size[0]

    def forward(x: Tensor) -> Tensor:
        if x.shape[2] >= longest:
            return usual(x)
        with torch.autocast("cpu", enabled=False):
            return usual(x.float())

    return forward
