"""The two-stage dose network: UNet3D predicts a coarse dose, ResUNet3D refines it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from .res_unet3d import ResUNet3D
from .unet3d import UNet3D

__all__ = ["TwoStageDose", "TwoStageNetwork"]


class TwoStageDose(NamedTuple):
    """Both outputs, `(batch, 1, z, y, x)`, in units of the model's dose scale, unclamped."""

    coarse: Tensor
    final: Tensor


class TwoStageNetwork(nn.Module):
    """Stage 1 sees CT and masks; stage 2 sees CT, masks, the raw coarse dose and the strips.

    Args:
        structure_channels: number of structure masks.
        strip_channels: number of tangent strip masks.
        stage1_filters, stage2_filters: filters of the first level of each stage.
    """

    divisor = 16

    def __init__(
        self,
        structure_channels: int,
        strip_channels: int = 4,
        stage1_filters: int = 8,
        stage2_filters: int = 16,
    ) -> None:
        super().__init__()
        self.structure_channels = structure_channels
        self.strip_channels = strip_channels
        image_channels = 1 + structure_channels
        self.stage1 = UNet3D(image_channels, base_filters=stage1_filters)
        self.stage2 = ResUNet3D(image_channels + 1 + strip_channels, base_filters=stage2_filters)

    @property
    def input_channels(self) -> int:
        """CT, structures and strips: what `forward` takes."""
        return 1 + self.structure_channels + self.strip_channels

    def forward(self, x: Tensor) -> TwoStageDose:
        """Predict from `(batch, input_channels, z, y, x)`: CT, structures, then strips."""
        image = x[:, : 1 + self.structure_channels]
        strips = x[:, 1 + self.structure_channels :]
        coarse = self.stage1(image)
        final = self.stage2(image, coarse, strips)
        return TwoStageDose(coarse, final)
