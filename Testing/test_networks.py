from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pytest
import torch
import torch.nn.functional as F
from support import ROOT, random_network

from DosePredictionLib.errors import ModelError
from DosePredictionLib.inference.slicewise import over_volumes, volume_format
from DosePredictionLib.losses import PUBLISHED_PELVIS, LossInput, WeightedSum
from DosePredictionLib.models.manifest import Architecture
from DosePredictionLib.networks import (
    ARCHITECTURES,
    DoseNetwork,
    TwoStageNetwork,
    build_network,
    encoder_decoder,
    fold_batch_norm,
    parameter_count,
)
from DosePredictionLib.networks.configs import NetworkConfig, Registered, TwoStageConfig
from DosePredictionLib.networks.dose_network import TwoStageDose
from DosePredictionLib.networks.pointwise import PointwiseConv3d
from DosePredictionLib.networks.res_unet3d import ResidualBlock
from DosePredictionLib.schema import Range, validated
from DosePredictionLib.structures.protocol import StructureProtocol
from training.config import NetworkConfig as NetworkRecipe

PELVIS = StructureProtocol.load("pelvis")
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
    network = TwoStageNetwork(TwoStageConfig(9))
    assert parameter_count(network.stage1) == 1_414_569
    assert parameter_count(network.stage2) == 5_741_185


def test_published_key_names() -> None:
    keys = set(TwoStageNetwork(TwoStageConfig(9)).state_dict())
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


@pytest.mark.parametrize("bias", [True, False])
def test_a_pointwise_convolution_is_a_convolution(bias: bool) -> None:
    torch.manual_seed(0)
    plain = torch.nn.Conv3d(6, 3, 1, bias=bias)
    ours = PointwiseConv3d(6, 3, bias)
    ours.load_state_dict(plain.state_dict())
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        x = torch.rand(2, 6, 3, 4, 5).to(memory_format=layout)
        results = []
        for module in (plain, ours):
            module.zero_grad()
            given = x.clone(memory_format=torch.preserve_format).requires_grad_()
            y = module(given)
            y.square().sum().backward()
            results.append((y, given.grad, module.weight.grad))
        for one, other in zip(*results, strict=True):
            assert torch.allclose(one, other, atol=1e-5)


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


SMALL = {
    "beam_cascade": {
        "coarse_filters": 2,
        "coarse_head_filters": 2,
        "filters": 4,
        "head_filters": 2,
    },
    "cascade": {"stage1_filters": 2, "stage2_filters": 2},
    "denoising_unet": {"filters": 4},
    "half_resolution": {"filters": 4, "head_filters": 3},
    "dilated_unet2d": {"widths": [2, 2, 2, 2]},
    "mednext": {"filters": 2, "blocks": 1},
    "multipass_unet3d": {"filters": 2},
    "two_stage": {"stage1_filters": 2, "stage2_filters": 2},
}
DOSES = sorted(ARCHITECTURES.keys() - {"denoising_unet", "multipass_unet3d"})
"""From a case alone; what takes noise away, and what finds organs, have tests of their own."""


def small(architecture: str, derived: int = 0, **more: object) -> DoseNetwork:
    torch.manual_seed(0)
    channels = {"structure_channels": 9, "strip_channels": 4, "derived_channels": derived}
    return build_network(architecture, {**channels, **SMALL[architecture], **more})


@pytest.mark.parametrize("derived", [0, 3])
@pytest.mark.parametrize("architecture", DOSES)
def test_gradients_reach_every_parameter(architecture: str, derived: int) -> None:
    network = small(architecture, derived)
    assert network.input_channels == 14 + derived
    # 32 voxels, so that the bridge has more than one: norms of one voxel are blind to it.
    dose = over_volumes(network)(torch.rand(2, network.input_channels, 32, 32, 32))
    total = dose.final.square().sum()
    if dose.coarse is not None:
        assert dose.coarse.shape == dose.final.shape == (2, 1, 32, 32, 32)
        total = total + dose.coarse.square().sum()
    total.backward()
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:  # trained before, by themselves
            assert name.startswith("coarse.") and parameter.grad is None, name
            continue
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("architecture", DOSES)
def test_every_input_channel_is_seen(architecture: str) -> None:
    network = small(architecture, derived=2)
    x = torch.rand(1, 16, 32, 32, 32, requires_grad=True)
    over_volumes(network)(x).final.square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum(dim=(0, 2, 3, 4)).gt(0).all()


@pytest.mark.parametrize("architecture", DOSES)
def test_the_layout_in_memory_does_not_change_the_dose(architecture: str) -> None:
    network = small(architecture).eval()
    volumes = over_volumes(network)
    x = torch.rand(1, 14, 32, 32, 48)
    with torch.no_grad():
        expected = volumes(x).final
        network.to(memory_format=network.memory_format)  # type: ignore[call-overload]
        other = volumes(x.to(memory_format=volume_format(network))).final
    assert torch.allclose(other, expected, atol=1e-5 * expected.abs().max().item())


def test_a_beam_cascade_corrects_the_last_of_the_earlier_doses() -> None:
    network = small("beam_cascade").eval()
    x = torch.rand(1, 14, 16, 16, 32)
    earlier = torch.rand(1, 2, 16, 16, 32)
    with torch.no_grad():
        assert torch.equal(network(x, earlier).final, earlier[:, 1:])  # before training
        network.refine.out_conv.weight.normal_()  # type: ignore[operator,union-attr]
        dose = network(x, earlier)
        change = network.refine(torch.cat([x, earlier], dim=1)).final  # type: ignore[operator,union-attr]
        assert torch.equal(dose.coarse, earlier[:, :1])
        torch.testing.assert_close(dose.final, earlier[:, 1:] + change)
        # Without beams the coarse dose, the mean of the coarse networks', stands for both.
        parts = torch.stack([part(x).final for part in network.coarse]).mean(0)  # type: ignore[union-attr]
        alone = network(x)
        torch.testing.assert_close(alone.coarse, parts)
        torch.testing.assert_close(alone.final, network(x, parts.expand(-1, 2, -1, -1, -1)).final)
    without = small("beam_cascade", mimics=False)
    assert without.refine.input_channels == network.refine.input_channels - 1  # type: ignore[union-attr]


def test_the_second_net_of_a_cascade_learns_through_the_first_ones_features() -> None:
    network = small("cascade")
    network(torch.rand(2, 14, 16, 16, 16)).final.sum().backward()
    first = dict(network.stage1.named_parameters())  # type: ignore[union-attr]
    assert first["enc1.conv1.weight"].grad is not None
    assert first["out_conv.weight"].grad is None  # only the coarse dose comes through it


def test_a_residual_block_leaves_its_input_alone() -> None:
    x = torch.rand(1, 4, 4, 4, 4)
    before = x.clone()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert ResidualBlock(4, 4).eval()(x).dtype == torch.bfloat16
    assert torch.equal(x, before)


@pytest.mark.parametrize("architecture", ["two_stage", "cascade"])
def test_recomputed_activations_train_alike(architecture: str) -> None:
    plain, lean = small(architecture), small(architecture, checkpoint_activations=True)
    x = torch.rand(2, 14, 16, 32, 32)
    for network in (plain, lean):
        network(x).final.square().mean().backward()
    gradients = dict(plain.named_parameters())
    for name, parameter in lean.named_parameters():
        expected = gradients[name].grad
        if expected is not None:
            assert torch.allclose(parameter.grad, expected, atol=1e-7), name  # type: ignore[arg-type]
    for name, value in plain.state_dict().items():  # batch norm counted the batch once
        assert torch.allclose(lean.state_dict()[name].double(), value.double()), name


def saved_bytes(network: DoseNetwork, shape: tuple[int, int, int], precision: str) -> int:
    """Bytes that a training step with the published loss keeps for its backward pass."""
    x = torch.rand(2, 14, *shape).to(memory_format=torch.channels_last_3d)
    structures, strips = x[:, 1:10] > 0.5, x[:, 10:] > 0.5
    reference = torch.rand(2, 1, *shape)
    own = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers(), x)}
    storages: dict[int, int] = {}
    kept = []  # alive, so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            coarse, final = network(x)
        loss_input = LossInput(
            prediction=final,
            coarse=coarse,
            reference=reference,
            region=structures[:, 8:],
            structures=structures,
            names=PELVIS.names,
            roles=[channel.role for channel in PELVIS.channels],
            dose_scale_gy=52.0,
            strips=strips,
        )
        WeightedSum(PUBLISHED_PELVIS)(loss_input)
    return sum(storages.values())


@pytest.mark.parametrize(
    ("precision", "checkpointed", "limit"),
    [("bf16", False, 1200), ("fp32", True, 1200), ("bf16", True, 600)],
)
def test_training_keeps_at_most_so_many_bytes_a_voxel(
    precision: str, checkpointed: bool, limit: int
) -> None:
    """Measured at two sizes, and carried in proportion to 64×256×256, batch 2."""
    network = TwoStageNetwork(TwoStageConfig(9, checkpoint_activations=checkpointed))
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    sizes = ((16, 16, 16), (16, 16, 32))
    small_size, large_size = (saved_bytes(network, size, precision) for size in sizes)
    per_voxel = (large_size - small_size) / (2 * 16**3)
    fixed = small_size - per_voxel * 2 * 16**3
    assert per_voxel + fixed / (2 * 64 * 256 * 256) <= limit


def test_an_unknown_architecture_is_named_with_those_there_are() -> None:
    with pytest.raises(ModelError, match="two_stage"):
        build_network("transformer", {})
    with pytest.raises(ModelError, match=r"unknown entries.*depth"):
        build_network("two_stage", {"structure_channels": 9, "depth": 3})


@pytest.mark.parametrize(
    ("architecture", "arguments", "names"),
    [
        ("two_stage", {"stage1_filters": 0.1}, "stage1_filters"),
        ("two_stage", {"stage1_filters": "ddim"}, "stage1_filters"),
        ("two_stage", {"stage1_filters": True}, "stage1_filters"),
        ("cascade", {"stage2_filters": 0}, "stage2_filters"),
        ("cascade", {"stage2_filters": 10**9}, "stage2_filters"),
        ("cascade", {"checkpoint_activations": 1}, "checkpoint_activations"),
        ("mednext", {"kernel": 4}, r"kernel must be odd"),
        ("mednext", {"blocks": -1}, "blocks"),
        ("mednext", {"structure_channels": float("nan")}, "structure_channels"),
        ("two_stage", {"structure_channels": None}, "structure_channels"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(
    architecture: str, arguments: dict, names: str
) -> None:
    with pytest.raises(ModelError, match=rf"^Architecture {architecture}\.{names}"):
        build_network(architecture, {"structure_channels": 9, **arguments})


def test_a_network_is_built_from_its_configuration_or_its_fields() -> None:
    config = TwoStageConfig(3, stage1_filters=2, stage2_filters=2)
    fields = {"structure_channels": 3, "stage1_filters": 2, "stage2_filters": 2}
    torch.manual_seed(0)
    built = build_network("two_stage", config).state_dict()
    torch.manual_seed(0)
    for name, value in build_network("two_stage", fields).state_dict().items():
        assert torch.equal(value, built[name])
    with pytest.raises(ModelError, match="mednext"):  # which has no stages
        build_network("mednext", config)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_the_instance_states_what_its_input_must_be(architecture: str) -> None:
    network = small(architecture)
    config = ARCHITECTURES[architecture].config
    assert isinstance(network.config, config)
    stated = (config.divisor, config.dimensions, config.smallest_edge)
    assert (network.divisor, network.dimensions, network.smallest_edge) == stated
    slices = config.dimensions == 2
    assert network.memory_format is (torch.channels_last if slices else torch.channels_last_3d)
    network.to(memory_format=network.memory_format)  # type: ignore[call-overload]


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_an_input_that_does_not_fit_is_one_clear_line(architecture: str) -> None:
    network = small(architecture).eval()
    axes = network.dimensions
    edge, channels = max(network.divisor, network.smallest_edge), network.input_channels
    for shape, rule in (
        (
            (1, channels, *[edge] * (5 - axes)),
            r"takes an input \(batch, channel, (z, )?y, x\); got",
        ),
        ((1, channels - 1, *[edge] * axes), f"takes {channels} channels; got {channels - 1}"),
        ((1, channels + 1, *[edge] * axes), f"takes {channels} channels; got {channels + 1}"),
        ((1, channels, *[edge] * (axes - 1), edge + 4), f"multiples of {network.divisor}; got"),
        ((1, channels, *[edge] * (axes - 1), 0), f"multiples of {network.divisor}; got"),
    ):
        with pytest.raises(ModelError, match=rule) as caught, torch.no_grad():
            network(torch.zeros(shape))
        assert "\n" not in str(caught.value)


class Slices(DoseNetwork):
    """A network on slices, registered by a test alone."""

    def __init__(self, config: SlicesConfig) -> None:
        super().__init__(config)
        self.conv = torch.nn.Conv2d(config.input_channels, 1, config.kernel, padding="same")

    def forward(self, x: torch.Tensor) -> TwoStageDose:
        return TwoStageDose(None, self.conv(x))


@dataclass(frozen=True)
@validated
class SlicesConfig(NetworkConfig):
    kernel: Annotated[int, Range(1, 9)] = 3
    divisor: ClassVar[int] = 8
    dimensions: ClassVar[int] = 2


def test_a_new_architecture_is_a_file_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        ARCHITECTURES,  # type: ignore[arg-type]
        "slices",
        Registered(SlicesConfig, __name__, "Slices"),
    )
    network = build_network("slices", {"structure_channels": 2, "kernel": 5})
    assert (network.divisor, network.dimensions) == (8, 2)
    assert network.memory_format is torch.channels_last
    x = torch.rand(1, network.input_channels, 16, 24).to(memory_format=network.memory_format)
    assert network(x).final.shape == (1, 1, 16, 24)
    assert Architecture("slices", {"structure_channels": 2}).config == SlicesConfig(2)
    with pytest.raises(ModelError, match=r"slices\.kernel"):
        Architecture("slices", {"structure_channels": 2, "kernel": 99})
    recipe = NetworkRecipe(architecture="slices", options={"kernel": 7})
    assert recipe.arguments == {"kernel": 7}


def test_configurations_and_manifests_need_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from DosePredictionLib.networks.configs import network_config\n"
        "from DosePredictionLib.models.manifest import installed_manifests\n"
        "network_config('cascade', {'structure_channels': 9})\n"
        "assert len(installed_manifests().models) >= 2\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
