"""Weights in 16 bits, rounded so that the predicted dose does not shift."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from .pointwise import PointwiseConv3d

__all__ = ["cast_network"]

Network = TypeVar("Network", bound=nn.Module)


def cast_network(network: Network, dtype: torch.dtype, in_hardware: bool = True) -> Network:
    """Cast the weights of a network for inference, in place; float32 changes nothing.

    Where the dose is flat, the rounding errors of activations differ from voxel to voxel, but those
    of weights are the same in all of them: they shift the dose. In bfloat16, weights rounded to
    nearest shift the shipped models' high dose by +0.15 and +0.09 Gy (docs/results.md). So

    - 1³ convolutions, the output's among them, keep float32: they have a few per cent of the
      multiplications and most of the shift;
    - what `float32_output` names, the dose and the features it is a product of, is not rounded;
    - larger kernels are rounded so that each one's sum, which is what it does to a flat input,
      keeps its value.

    Batch norm must be folded before: it is part of the weights that are rounded. What remains is
    the rounding of biases, of transposed kernels (one weight an output voxel) and of activations.

    Args:
        in_hardware: whether the device convolves in this precision. A processor that does not takes
            minutes for what takes a second; convolutions then run in float32 on the same rounded
            values, and their outputs are rounded, which is what the hardware does.
    """
    if dtype == torch.float32:
        return network
    for module in network.modules():
        if isinstance(module, PointwiseConv3d):
            module.computes_in_float32 = True
            continue
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            module.weight.data = _with_equal_sums(module.weight.data, dtype)
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(dtype)
        if isinstance(module, _ConvNd) and not in_hardware:
            module.float()
            module.register_forward_pre_hook(_widened)
            module.register_forward_hook(partial(_rounded, dtype))
    return network


def _widened(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor.float() for tensor in inputs)


def _rounded(dtype: torch.dtype, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output.to(dtype)


def _with_equal_sums(kernels: Tensor, dtype: torch.dtype) -> Tensor:
    """Round kernels `(out, in, …)`; the sum of each moves by less than its smallest step.

    The largest weight is rounded first; what was lost is added to the next smaller one, and so on,
    so that only the rounding error of the smallest is left.
    """
    flat = kernels.flatten(2)
    order = flat.abs().argsort(dim=2, descending=True, stable=True)
    weights = flat.gather(2, order)
    lost = torch.zeros_like(weights[..., 0])
    for index in range(weights.shape[2]):
        wanted = weights[..., index] + lost
        weights[..., index] = wanted.to(dtype)
        lost = wanted - weights[..., index]
    return torch.empty_like(flat).scatter_(2, order, weights).view_as(kernels)
