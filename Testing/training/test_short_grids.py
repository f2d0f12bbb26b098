"""Gradients in bfloat16 on a CPU are right however few slices a convolution sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from DosePredictionLib.networks import build_network
from training.short_grids import compute_short_grids_in_float32

pytestmark = pytest.mark.usefixtures("one_thread")


def gradients(network: nn.Module, x: Tensor, y: Tensor, precision: torch.dtype | None) -> Tensor:
    """Of all weights, after memory was filled with what is no gradient."""
    network.zero_grad(set_to_none=True)
    torch.empty(2**22).fill_(3e4)
    with torch.autocast("cpu", precision, enabled=precision is not None):
        out = network(x)
    out = out if isinstance(out, Tensor) else out.final
    ((out.float() - y) ** 2).mean().backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize("slices", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("kind", [nn.Conv3d, nn.ConvTranspose3d])
def test_a_convolution(kind: type[nn.Conv3d], kernel: int, slices: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(kind(16, 32, kernel, padding=kernel // 2))
    x, y = torch.randn(2, 16, slices, 6, 5), torch.randn(2, 32, slices, 6, 5)
    exact = gradients(network, x, y, None)
    compute_short_grids_in_float32(network)
    for _ in range(5):
        rounded = gradients(network, x, y, torch.bfloat16)
        assert (rounded - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("slices", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": (3, 1, 1), "padding": (1, 0, 0)},
        {"kernel_size": 3, "padding": 1, "groups": 2},
        {"kernel_size": 3, "padding": 1, "groups": 16},
        {"kernel_size": 3, "padding": 2, "dilation": 2},
        {"kernel_size": 3, "padding": 1, "stride": 2},
    ],
    ids=["slices alone", "grouped", "depthwise", "dilated", "strided"],
)
def test_other_kinds_of_convolution(options: dict[str, Any], slices: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(16, 16, **options))
    x = torch.randn(2, 16, slices, 6, 5)
    y = torch.randn_like(network(x))
    exact = gradients(network, x, y, None)
    compute_short_grids_in_float32(network)
    for _ in range(5):
        rounded = gradients(network, x, y, torch.bfloat16)
        assert (rounded - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("slices", [16, 32, 48])
def test_a_network_whose_deepest_level_has_few(slices: int) -> None:
    torch.manual_seed(0)
    network = build_network(
        "half_resolution",
        {"structure_channels": 2, "strip_channels": 0, "filters": 8, "head_filters": 4},
    ).to(memory_format=torch.channels_last_3d)
    x = torch.randn(2, network.input_channels, slices, 32, 48)
    x = x.to(memory_format=torch.channels_last_3d)
    y = torch.randn(2, 1, slices, 32, 48)
    exact = gradients(network, x, y, None)
    compute_short_grids_in_float32(network)
    for _ in range(5):
        rounded = gradients(network, x, y, torch.bfloat16)
        assert (rounded - exact).norm() < 0.2 * exact.norm()
