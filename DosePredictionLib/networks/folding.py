"""Batch norm folded into the convolutions before it, for inference."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["fold_batch_norm"]

Network = TypeVar("Network", bound=nn.Module)

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def fold_batch_norm(network: Network) -> Network:
    """Replace each (convolution, batch norm) pair by one convolution, in place.

    A batch norm that a module registers right after a convolution belongs to it; every block in
    this package is written so. The network must be in eval mode; its outputs stay equal to
    rounding.
    """
    for module in network.modules():
        previous: tuple[str, Any] | None = None
        for name, child in list(module.named_children()):
            if isinstance(child, (nn.BatchNorm2d, nn.BatchNorm3d)) and previous is not None:
                convolution_name, convolution = previous
                transposed = isinstance(convolution, (nn.ConvTranspose2d, nn.ConvTranspose3d))
                fused = fuse_conv_bn_eval(convolution, child, transpose=transposed)
                setattr(module, convolution_name, fused)
                setattr(module, name, nn.Identity())
            previous = (name, child) if isinstance(child, _CONVOLUTIONS) else None
    return network
