"""Network architectures, one a file, in plain torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..errors import ModelError
from .cascade import CascadeNetwork
from .dose_network import DoseNetwork, TwoStageDose
from .folding import fold_batch_norm
from .mednext import MedNextNetwork
from .res_unet3d import ResUNet3D
from .two_stage import TwoStageNetwork
from .unet3d import UNet3D

__all__ = [
    "ARCHITECTURES",
    "CascadeNetwork",
    "DoseNetwork",
    "MedNextNetwork",
    "ResUNet3D",
    "TwoStageDose",
    "TwoStageNetwork",
    "UNet3D",
    "build_network",
    "fold_batch_norm",
    "parameter_count",
]

ARCHITECTURES: Mapping[str, type[DoseNetwork]] = {
    "cascade": CascadeNetwork,
    "mednext": MedNextNetwork,
    "two_stage": TwoStageNetwork,
}
"""Architectures that a manifest or a recipe may name."""


def build_network(architecture: str, arguments: Mapping[str, Any]) -> DoseNetwork:
    """A network of a named architecture, with random weights.

    Raises:
        ModelError: the architecture is unknown, or does not take these arguments.
    """
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ModelError(f"There is no architecture {architecture!r}; there are: {known}.")
    try:
        return ARCHITECTURES[architecture](**arguments)
    except TypeError as exception:
        raise ModelError(f"Architecture {architecture}: {exception}.") from exception


def parameter_count(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters())
