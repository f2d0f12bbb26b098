"""A cascade of two residual U-Nets: the second one sees the input and the first one's features."""

from __future__ import annotations

from torch import Tensor

from .dose_network import DoseNetwork, TwoStageDose
from .res_unet3d import ResUNet3D

__all__ = ["CascadeNetwork"]


class CascadeNetwork(DoseNetwork):
    """Two residual U-Nets in a row, trained together, each with a dose of its own.

    Both see all channels; the second one also sees the full-resolution features of which the first
    one makes its coarse dose. After the cascade that won the OpenKBP challenge (C3D, Liu et al.
    2021, doi 10.1002/mp.15034), on the residual blocks of this package.

    Args:
        structure_channels: number of structure masks.
        strip_channels: number of tangent strip masks.
        stage1_filters, stage2_filters: filters of the first level of each net.
        derived_channels: number of channels that the encoding computes from the masks.
        checkpoint_activations: recompute activations in the backward pass instead of keeping them.
    """

    bytes_per_voxel = 1000

    def __init__(
        self,
        structure_channels: int,
        strip_channels: int = 4,
        stage1_filters: int = 16,
        stage2_filters: int = 32,
        derived_channels: int = 0,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__(structure_channels, strip_channels, derived_channels)
        self.stage1 = ResUNet3D(self.input_channels, base_filters=stage1_filters)
        self.stage2 = ResUNet3D(self.input_channels + stage1_filters, base_filters=stage2_filters)
        self.stage1.checkpoint_activations = checkpoint_activations
        self.stage2.checkpoint_activations = checkpoint_activations

    def forward(self, x: Tensor) -> TwoStageDose:
        """Predict from `(batch, input_channels, z, y, x)`."""
        features = self.stage1.features(x)
        coarse = self.stage1.out_conv(features)
        return TwoStageDose(coarse, self.stage2(x, features))
