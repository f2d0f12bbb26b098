"""The two-stage dose network: UNet3D predicts a coarse dose, ResUNet3D refines it."""

from __future__ import annotations

from torch import Tensor

from .dose_network import DoseNetwork, TwoStageDose
from .res_unet3d import ResUNet3D
from .unet3d import UNet3D

__all__ = ["TwoStageNetwork"]


class TwoStageNetwork(DoseNetwork):
    """Stage 1 sees CT and masks; stage 2 sees CT, masks, the raw coarse dose and the strips.

    Both see derived channels.

    Args:
        structure_channels: number of structure masks.
        strip_channels: number of tangent strip masks.
        stage1_filters, stage2_filters: filters of the first level of each stage.
        derived_channels: number of channels that the encoding computes from the masks.
        checkpoint_activations: recompute activations in the backward pass instead of keeping them:
            a third of the memory for about a third more time.
    """

    def __init__(
        self,
        structure_channels: int,
        strip_channels: int = 4,
        stage1_filters: int = 8,
        stage2_filters: int = 16,
        derived_channels: int = 0,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__(structure_channels, strip_channels, derived_channels)
        images = 1 + structure_channels + derived_channels
        self.stage1 = UNet3D(images, base_filters=stage1_filters)
        self.stage2 = ResUNet3D(images + 1 + strip_channels, base_filters=stage2_filters)
        self.stage1.checkpoint_activations = checkpoint_activations
        self.stage2.checkpoint_activations = checkpoint_activations

    def forward(self, x: Tensor) -> TwoStageDose:
        """Predict from `(batch, input_channels, z, y, x)`: CT, structures, strips, derived."""
        strips = 1 + self.structure_channels
        derived = strips + self.strip_channels
        # An empty slice is left out: it would only cost a copy.
        more = [x[:, derived:]] if self.derived_channels else []
        coarse = self.stage1(x[:, :strips], *more)
        final = self.stage2(x[:, :strips], coarse, x[:, strips:derived], *more)
        return TwoStageDose(coarse, final)
