from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support import random_network

from DosePredictionLib.errors import ModelError
from DosePredictionLib.networks import (
    TwoStageNetwork,
    build_network,
    encoder_decoder,
    fold_batch_norm,
    parameter_count,
)

Weights = dict[str, torch.Tensor]


def reference_dose(w: Weights, x: torch.Tensor, structures: int) -> tuple:
    """The published network spelled out on its state dict, operation by operation."""

    def norm(name: str, t: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(
            t,
            w[f"{name}.running_mean"],
            w[f"{name}.running_var"],
            w[f"{name}.weight"],
            w[f"{name}.bias"],
        )

    def conv3(name: str, t: torch.Tensor) -> torch.Tensor:
        return F.conv3d(t, w[f"{name}.weight"], w.get(f"{name}.bias"), padding=1)

    def plain_block(name: str, t: torch.Tensor) -> torch.Tensor:
        t = F.relu(norm(f"{name}.1", conv3(f"{name}.0", t)))
        return F.relu(norm(f"{name}.4", conv3(f"{name}.3", t)))

    def plain_up(name: str, t: torch.Tensor) -> torch.Tensor:
        up = F.conv_transpose3d(t, w[f"{name}.0.weight"], None, stride=2)
        return F.relu(norm(f"{name}.1", up))

    def residual_block(name: str, t: torch.Tensor) -> torch.Tensor:
        y = F.relu(norm(f"{name}.bn1", conv3(f"{name}.conv1", t)))
        y = norm(f"{name}.bn2", conv3(f"{name}.conv2", y))
        if f"{name}.proj.0.weight" in w:
            t = norm(f"{name}.proj.1", F.conv3d(t, w[f"{name}.proj.0.weight"]))
        return F.relu(y + t)

    def residual_up(name: str, t: torch.Tensor) -> torch.Tensor:
        return F.conv_transpose3d(t, w[f"{name}.weight"], w[f"{name}.bias"], stride=2)

    def u_net(stage: str, t: torch.Tensor, block, up) -> torch.Tensor:
        skips = []
        for level in range(1, 5):
            t = block(f"{stage}.enc{level}", t)
            skips.append(t)
            t = F.max_pool3d(t, 2)
        t = block(f"{stage}.bridge", t)
        for level in range(4, 0, -1):
            t = torch.cat([up(f"{stage}.up{level}", t), skips[level - 1]], dim=1)
            t = block(f"{stage}.dec{level}", t)
        return F.conv3d(t, w[f"{stage}.out_conv.weight"], w[f"{stage}.out_conv.bias"])

    image, strips = x[:, : 1 + structures], x[:, 1 + structures :]
    coarse = u_net("stage1", image, plain_block, plain_up)
    final = u_net("stage2", torch.cat([image, coarse, strips], 1), residual_block, residual_up)
    return coarse, final


def test_published_parameter_counts() -> None:
    network = TwoStageNetwork(structure_channels=9)
    assert parameter_count(network.stage1) == 1_414_569
    assert parameter_count(network.stage2) == 5_741_185


def test_published_key_names() -> None:
    keys = set(TwoStageNetwork(9).state_dict())
    expected = {
        "stage1.enc1.0.weight",
        "stage1.enc1.4.running_var",
        "stage1.up4.0.weight",
        "stage1.up4.1.bias",
        "stage1.out_conv.bias",
        "stage2.bridge.conv1.weight",
        "stage2.dec1.bn2.weight",
        "stage2.enc1.proj.0.weight",
        "stage2.enc2.proj.1.running_mean",
        "stage2.up1.bias",
    }
    assert expected <= keys
    absent = {"stage1.enc1.0.bias", "stage1.up4.0.bias", "stage2.enc1.conv1.bias"}
    assert not absent & keys


@pytest.mark.parametrize("structures", [9, 10])
def test_the_dose_is_that_of_the_network_spelled_out(structures: int) -> None:
    network = random_network(structures, (8, 16))
    x = torch.rand(1, 5 + structures, 16, 32, 48)
    with torch.no_grad():
        coarse, final = network(x)
        expected_coarse, expected_final = reference_dose(network.state_dict(), x, structures)
    assert torch.allclose(coarse, expected_coarse, atol=1e-5)
    assert torch.allclose(final, expected_final, atol=1e-5)


def test_folding_batch_norm_keeps_the_output() -> None:
    network = random_network(filters=(4, 8))
    x = torch.rand(1, 14, 16, 16, 32)
    with torch.no_grad():
        before = network(x)
        after = fold_batch_norm(network)(x)
    assert not any(isinstance(m, torch.nn.BatchNorm3d) for m in network.modules())
    for one, other in zip(before, after, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_the_first_level_in_slabs_gives_the_same_dose(monkeypatch: pytest.MonkeyPatch) -> None:
    network = fold_batch_norm(random_network(filters=(2, 4)))
    x = torch.rand(1, 14, 80, 16, 32)
    with torch.inference_mode():
        whole = network(x).final
        monkeypatch.setattr(encoder_decoder, "_STREAM_ABOVE_VOXELS", 0)
        streamed = network(x).final
    assert torch.allclose(streamed, whole, atol=1e-5)


def test_gradients_reach_every_parameter() -> None:
    network = TwoStageNetwork(9, 4, 2, 2)
    final = network(torch.rand(2, 14, 16, 16, 16)).final
    final.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_an_unknown_architecture_is_named_with_those_there_are() -> None:
    with pytest.raises(ModelError, match="two_stage"):
        build_network("transformer", {})
    with pytest.raises(ModelError, match="unexpected"):
        build_network("two_stage", {"structure_channels": 9, "depth": 3})
