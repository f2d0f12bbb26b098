"""Networks cast to 16 bits: what is rounded, and how."""

from __future__ import annotations

import copy

import pytest
import torch
from support import random_network
from torch import nn

from DosePredictionLib.networks import cast_network, fold_batch_norm
from DosePredictionLib.networks.pointwise import PointwiseConv3d


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.Conv3d])
def test_the_sum_of_each_kernel_keeps_its_value(
    kind: type[nn.Conv2d | nn.Conv3d], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    layer = kind(6, 4, kernel_size=3)
    full = layer.weight.data.clone().flatten(2)
    cast_network(layer, dtype)
    half = layer.weight.data.flatten(2)
    assert half.dtype == layer.bias.dtype == dtype  # type: ignore[union-attr]
    step = 2 * torch.finfo(dtype).eps * full.abs().max()
    assert (half.float() - full).abs().max() <= step
    nearest = (full.to(dtype).double() - full).sum(2).abs()
    ours = (half.double() - full).sum(2).abs()
    assert ours.mean() <= 0.15 * nearest.mean()


def test_a_flat_input_is_not_shifted() -> None:
    """All weights of a kernel alike, rounded to nearest, err in the same direction."""
    layer = nn.Conv3d(1, 1, kernel_size=3, bias=False)
    nn.init.constant_(layer.weight, 0.10034)
    expected = layer(torch.ones(1, 1, 3, 3, 3)).item()
    nearest = layer.weight.data.bfloat16().double().sum().item()
    cast_network(layer, torch.bfloat16)
    assert abs(nearest - expected) > 2e-3
    assert layer.weight.data.double().sum().item() == pytest.approx(expected, abs=3e-4)


def test_float32_changes_nothing() -> None:
    network = fold_batch_norm(random_network())
    before = copy.deepcopy(network.state_dict())
    x = torch.rand(1, 14, 16, 16, 32).to(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        expected = network(x).final.clone()
        assert torch.equal(cast_network(network, torch.float32)(x).final, expected)
    for name, value in network.state_dict().items():
        assert value.dtype == before[name].dtype and torch.equal(value, before[name]), name


@pytest.mark.parametrize("in_hardware", [True, False])
def test_doses_and_the_weights_of_pointwise_convolutions_stay_float32(in_hardware: bool) -> None:
    network = cast_network(fold_batch_norm(random_network()), torch.bfloat16, in_hardware)
    for module in network.modules():
        if isinstance(module, PointwiseConv3d):
            assert module.weight.dtype == torch.float32
    x = torch.rand(1, 14, 16, 16, 32).bfloat16().to(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        doses = network(x)
    for dose in doses:
        assert dose.dtype == torch.float32
        assert not torch.equal(dose, dose.bfloat16().float())


def test_without_hardware_the_rounding_is_the_same() -> None:
    """The order of sums alone differs, which turns a rounding here and there."""
    network = fold_batch_norm(random_network(filters=(4, 8)))
    x = torch.rand(1, 14, 16, 32, 32).bfloat16().to(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        full = network(x.float()).final
        fast, slow = (
            cast_network(copy.deepcopy(network), torch.bfloat16, in_hardware)(x).final
            for in_hardware in (True, False)
        )
    assert (fast - slow).abs().mean() <= 0.5 * (fast - full).abs().mean()
    assert (fast - slow).mean().abs() <= 0.1 * (fast - full).abs().mean()
