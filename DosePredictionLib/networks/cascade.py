"""A cascade of two residual U-Nets: the second one sees the input and the first one's features."""

from __future__ import annotations

from torch import Tensor

from .configs import CascadeConfig
from .dose_network import DoseNetwork, TwoStageDose
from .res_unet3d import ResUNet3D

__all__ = ["CascadeNetwork"]


class CascadeNetwork(DoseNetwork):
    """Two residual U-Nets in a row, trained together, each with a dose of its own.

    Both see all channels; the second one also sees the full-resolution features of which the first
    one makes its coarse dose. After the cascade that won the OpenKBP challenge (C3D, Liu et al.
    2021, doi 10.1002/mp.15034), on the residual blocks of this package.

    Args:
        config: channels and filters.
    """

    bytes_per_voxel = 1000

    def __init__(self, config: CascadeConfig) -> None:
        super().__init__(config)
        inputs, features = self.input_channels, config.stage1_filters
        self.stage1 = ResUNet3D(inputs, base_filters=features)
        self.stage2 = ResUNet3D(inputs + features, base_filters=config.stage2_filters)
        self.stage1.checkpoint_activations = config.checkpoint_activations
        self.stage2.checkpoint_activations = config.checkpoint_activations

    def forward(self, x: Tensor) -> TwoStageDose:
        """Predict from `(batch, input_channels, z, y, x)`."""
        features = self.stage1.features(x)
        coarse = self.stage1.out_conv(features)
        return TwoStageDose(coarse, self.stage2(x, features.to(x.dtype)))
