"""Network architectures, one a file, in plain torch; their configurations without it.

Names are imported on first use: `networks.configs` must cost no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .configs import ARCHITECTURES, NetworkConfig, network_config

__all__ = [
    "ARCHITECTURES",
    "BeamCascadeNetwork",
    "CascadeNetwork",
    "DenoisingUNet",
    "DilatedUNet2DNetwork",
    "DoseNetwork",
    "HalfResolutionNetwork",
    "MedNextNetwork",
    "MultiPassUNet3D",
    "ResUNet3D",
    "TwoStageDose",
    "TwoStageNetwork",
    "UNet3D",
    "build_network",
    "cast_network",
    "fold_batch_norm",
    "network_config",
    "parameter_count",
]

_HOME = {
    "BeamCascadeNetwork": "beam_cascade",
    "CascadeNetwork": "cascade",
    "DenoisingUNet": "denoising_unet",
    "DilatedUNet2DNetwork": "dilated_unet2d",
    "DoseNetwork": "dose_network",
    "HalfResolutionNetwork": "half_resolution",
    "MedNextNetwork": "mednext",
    "MultiPassUNet3D": "multipass_unet3d",
    "ResUNet3D": "res_unet3d",
    "TwoStageDose": "dose_network",
    "TwoStageNetwork": "two_stage",
    "UNet3D": "unet3d",
    "cast_network": "casting",
    "fold_batch_norm": "folding",
}

if TYPE_CHECKING:
    from torch import nn

    from .beam_cascade import BeamCascadeNetwork
    from .cascade import CascadeNetwork
    from .casting import cast_network
    from .denoising_unet import DenoisingUNet
    from .dilated_unet2d import DilatedUNet2DNetwork
    from .dose_network import DoseNetwork, TwoStageDose
    from .folding import fold_batch_norm
    from .half_resolution import HalfResolutionNetwork
    from .mednext import MedNextNetwork
    from .multipass_unet3d import MultiPassUNet3D
    from .res_unet3d import ResUNet3D
    from .two_stage import TwoStageNetwork
    from .unet3d import UNet3D


def build_network(architecture: str, config: NetworkConfig | Mapping[str, Any]) -> DoseNetwork:
    """A network of a named architecture, with random weights.

    Args:
        config: of the architecture, or its fields by name.

    Raises:
        ModelError: the architecture is unknown, or does not take this configuration.
    """
    arguments = config if isinstance(config, Mapping) else asdict(config)
    checked = network_config(architecture, arguments)
    entry = ARCHITECTURES[architecture]
    network: DoseNetwork = getattr(importlib.import_module(entry.module, __name__), entry.network)(
        checked
    )
    return network


def parameter_count(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters())


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
