"""The two-stage dose network: UNet3D predicts a coarse dose, ResUNet3D refines it."""

from __future__ import annotations

from torch import Tensor

from .configs import TwoStageConfig
from .dose_network import DoseNetwork, TwoStageDose
from .res_unet3d import ResUNet3D
from .unet3d import UNet3D

__all__ = ["TwoStageNetwork"]


class TwoStageNetwork(DoseNetwork):
    """Stage 1 sees CT and masks; stage 2 sees CT, masks, the raw coarse dose and the strips.

    Both see derived channels.

    Args:
        config: channels and filters.
    """

    def __init__(self, config: TwoStageConfig) -> None:
        super().__init__(config)
        images = 1 + config.structure_channels + config.derived_channels
        inputs = images + 1 + config.strip_channels
        self.stage1 = UNet3D(images, base_filters=config.stage1_filters)
        self.stage2 = ResUNet3D(inputs, base_filters=config.stage2_filters)
        self.stage1.checkpoint_activations = config.checkpoint_activations
        self.stage2.checkpoint_activations = config.checkpoint_activations

    def forward(self, x: Tensor) -> TwoStageDose:
        """Predict from `(batch, input_channels, z, y, x)`: CT, structures, strips, derived."""
        strips = 1 + self.structure_channels
        derived = strips + self.strip_channels
        # An empty slice is left out: it would only cost a copy.
        more = [x[:, derived:]] if self.derived_channels else []
        coarse = self.stage1(x[:, :strips], *more)
        final = self.stage2(x[:, :strips], coarse, x[:, strips:derived], *more)
        return TwoStageDose(coarse, final)
