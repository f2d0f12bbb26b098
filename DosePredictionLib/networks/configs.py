"""What each architecture is built from: typed, with ranges, and without torch.

A manifest and a recipe name an architecture and its arguments; they are read here. To add one:
its network in a file of its own, its `Config` and one line of `ARCHITECTURES` here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from ..errors import ModelError
from ..schema import FieldError, Range, Share, from_json, validated

__all__ = [
    "ARCHITECTURES",
    "BeamCascadeConfig",
    "CascadeConfig",
    "DenoisingUNetConfig",
    "DilatedUNet2DConfig",
    "HalfResolutionConfig",
    "MedNextConfig",
    "MultiPassUNet3DConfig",
    "NetworkConfig",
    "Registered",
    "TwoStageConfig",
    "network_config",
]

_Filters = Annotated[int, Range(1, 512)]


@dataclass(frozen=True)
@validated
class NetworkConfig:
    """What every network needs to know: its input's channels.

    Args:
        structure_channels: number of structure masks.
        strip_channels: number of tangent strip masks.
        derived_channels: number of channels that the encoding computes from the masks.
    """

    structure_channels: Annotated[int, Range(1, 100)]
    strip_channels: Annotated[int, Range(0, 36)] = 4
    derived_channels: Annotated[int, Range(0, 201)] = 0

    divisor: ClassVar[int] = 16
    """Every edge of the input must be a multiple of it."""

    smallest_edge: ClassVar[int] = 16
    """Edge of the smallest cube that passes in inference."""

    keeps_dose_in_16_bits: ClassVar[bool] = False
    """Whether `cast_network` was measured to keep its mean dose: `auto` may choose 16 bits."""

    dimensions: ClassVar[int] = 3
    """Spatial axes of the input: 3 for volumes, 2 for slices."""

    @property
    def input_channels(self) -> int:
        """CT, structures, strips and derived channels."""
        return 1 + self.structure_channels + self.strip_channels + self.derived_channels


@dataclass(frozen=True)
@validated
class TwoStageConfig(NetworkConfig):
    """UNet3D, then ResUNet3D.

    Args:
        stage1_filters, stage2_filters: filters of the first level of each stage.
        checkpoint_activations: recompute activations in the backward pass instead of keeping them:
            a third of the memory for about a third more time.
    """

    stage1_filters: _Filters = 8
    stage2_filters: _Filters = 16
    checkpoint_activations: bool = False

    keeps_dose_in_16_bits: ClassVar[bool] = True  # docs/results.md


@dataclass(frozen=True)
@validated
class CascadeConfig(NetworkConfig):
    """Two residual U-Nets in a row.

    Args:
        stage1_filters, stage2_filters: filters of the first level of each net.
        checkpoint_activations: recompute activations in the backward pass instead of keeping them.
    """

    stage1_filters: _Filters = 16
    stage2_filters: _Filters = 32
    checkpoint_activations: bool = False


@dataclass(frozen=True)
@validated
class DilatedUNet2DConfig(NetworkConfig):
    """A U-Net of slices with dilated convolutions at its bottom.

    Args:
        widths: channels of its four levels, the published network's by default.
    """

    widths: tuple[_Filters, _Filters, _Filters, _Filters] = (32, 64, 128, 256)

    divisor: ClassVar[int] = 8
    smallest_edge: ClassVar[int] = 8
    dimensions: ClassVar[int] = 2


@dataclass(frozen=True)
@validated
class MedNextConfig(NetworkConfig):
    """MedNeXt of MONAI.

    Args:
        filters: of the first level, doubling with each of the four levels below.
        blocks: of each level on the way down and up.
        expansion: of the channels inside a block.
        kernel: edge of the depthwise convolutions, odd.
    """

    filters: _Filters = 32
    blocks: Annotated[int, Range(1, 16)] = 2
    expansion: Annotated[int, Range(1, 16)] = 2
    kernel: Annotated[int, Range(1, 15)] = 3

    smallest_edge: ClassVar[int] = 32  # a norm per channel needs more than one voxel at the bottom

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise FieldError("kernel", f"must be odd; got {self.kernel}.")


@dataclass(frozen=True)
@validated
class MultiPassUNet3DConfig(NetworkConfig):
    """U-Nets that find organs on a CT; `structure_channels` counts the organs.

    Args:
        filters: of the first level.
        passes: how often the CT is looked at.
        shared: whether all passes have the same weights; else the first has its own.
        soft_tissue: the part of the CT's window, 0…1, that is shown a second time, stretched;
            by default −160 to 240 HU of a window of ±1000 HU.
    """

    filters: _Filters = 16
    passes: Annotated[int, Range(1, 8)] = 2
    shared: bool = True
    soft_tissue: tuple[Share, Share] = (0.42, 0.62)

    smallest_edge: ClassVar[int] = 32

    def __post_init__(self) -> None:
        low, high = self.soft_tissue
        if low >= high:
            raise FieldError("soft_tissue", f"must rise from low to high; got {[low, high]}.")

    @property
    def input_channels(self) -> int:
        """The CT alone."""
        return 1

    @property
    def classes(self) -> int:
        """Background and organs."""
        return 1 + self.structure_channels


@dataclass(frozen=True)
@validated
class HalfResolutionConfig(NetworkConfig):
    """A residual U-Net at half resolution.

    Args:
        filters: of its first level, doubling with each of the three levels below.
        head_filters: at full resolution.
        earlier_channels: doses of earlier stages that follow the encoding's channels.
    """

    filters: _Filters = 24
    head_filters: _Filters = 12
    earlier_channels: Annotated[int, Range(0, 8)] = 0

    @property
    def input_channels(self) -> int:
        """Those of the encoding, and the earlier doses."""
        return super().input_channels + self.earlier_channels


@dataclass(frozen=True)
@validated
class DenoisingUNetConfig(NetworkConfig):
    """A U-Net at half resolution that takes noise away, told how much there is.

    Args:
        filters: of its first level.
        earlier_channels: what it is conditioned on beside the encoding: the dose of a regression
            and its expected error, or nothing.
        path: from data to noise: a name of `tasks.diffusion.PATHS`.
        whitened: whether a residual is divided by its expected error, or by 1 Gy.
    """

    filters: _Filters = 16
    earlier_channels: Annotated[int, Range(0, 8)] = 2
    path: Literal["rectified", "cosine"] = "rectified"
    whitened: bool = True

    @property
    def input_channels(self) -> int:
        """Those of the encoding, the earlier doses, the noisy values and the time."""
        return super().input_channels + self.earlier_channels + 2


@dataclass(frozen=True)
@validated
class BeamCascadeConfig(NetworkConfig):
    """Coarse networks at half resolution, and one that refines their dose and the beams' own.

    Args:
        coarse_filters, coarse_head_filters: of each coarse network.
        coarse_networks: how many are averaged.
        filters, head_filters: of the refining one.
        mimics: whether it sees what the beams can give of the coarse dose.
        coarse_share: of the coarse dose in the one that is predicted; the rest is the refined
            one's, at which alone training looks.
    """

    coarse_filters: _Filters = 16
    coarse_head_filters: _Filters = 8
    coarse_networks: Annotated[int, Range(1, 10)] = 2
    filters: _Filters = 24
    head_filters: _Filters = 12
    mimics: bool = True
    coarse_share: Share = 0.0


class Registered(NamedTuple):
    """An architecture: its configuration, and the module and class of the network it builds."""

    config: type[NetworkConfig]
    module: str
    network: str


ARCHITECTURES: Mapping[str, Registered] = {
    "beam_cascade": Registered(BeamCascadeConfig, ".beam_cascade", "BeamCascadeNetwork"),
    "cascade": Registered(CascadeConfig, ".cascade", "CascadeNetwork"),
    "half_resolution": Registered(
        HalfResolutionConfig, ".half_resolution", "HalfResolutionNetwork"
    ),
    "denoising_unet": Registered(DenoisingUNetConfig, ".denoising_unet", "DenoisingUNet"),
    "dilated_unet2d": Registered(DilatedUNet2DConfig, ".dilated_unet2d", "DilatedUNet2DNetwork"),
    "mednext": Registered(MedNextConfig, ".mednext", "MedNextNetwork"),
    "multipass_unet3d": Registered(MultiPassUNet3DConfig, ".multipass_unet3d", "MultiPassUNet3D"),
    "two_stage": Registered(TwoStageConfig, ".two_stage", "TwoStageNetwork"),
}
"""Architectures that a manifest or a recipe may name."""


def network_config(architecture: str, arguments: Mapping[str, Any]) -> NetworkConfig:
    """The configuration of a named architecture.

    Args:
        arguments: by the names of its fields, as JSON has them.

    Raises:
        ModelError: the architecture is unknown, or an argument is unknown, missing or out of its
            range.
    """
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ModelError(
            f"The installed version does not know the architecture {architecture!r}; it knows: "
            f"{known}. Install a newer version of DosePrediction, or name one of these."
        )
    config = ARCHITECTURES[architecture].config
    return from_json(config, arguments, f"Architecture {architecture}", ModelError)
