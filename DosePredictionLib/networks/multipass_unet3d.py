"""A 3D U-Net that finds organs in several passes: each sees what the one before believed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .configs import MultiPassUNet3DConfig
from .dose_network import DoseNetwork
from .unet3d import UNet3D

__all__ = ["MultiPassUNet3D"]

_BACKGROUND = 2.5  # its first logit above the organs'


class MultiPassUNet3D(DoseNetwork):
    """Pass n sees the CT and the probabilities of pass n − 1, whose gradient is kept.

    Probabilities are handed on as they are, never thresholded: a loss on the last pass reaches the
    weights through all of them. The first pass sees zeros in their place; one pass is the plain
    U-Net. The U-Net receives the CT twice: whole, and stretched over soft tissue.

    Args:
        config: organs, passes and filters.
    """

    bytes_per_voxel = 700

    def __init__(self, config: MultiPassUNet3DConfig) -> None:
        super().__init__(config)
        self.classes, self.passes = config.classes, config.passes
        self.soft_tissue = config.soft_tissue

        def unet() -> UNet3D:
            f = config.filters
            made = UNet3D(2 + self.classes, self.classes, f, bridge_filters=8 * f)
            bias = made.out_conv.bias
            assert isinstance(bias, nn.Parameter)
            # Most voxels are background; a network that must learn it first learns little else.
            nn.init.zeros_(bias)
            nn.init.constant_(bias[:1], _BACKGROUND)
            return made

        self.unet = unet()
        # Shared weights stand under one name: they are averaged and saved once.
        self.later: UNet3D | None = None if config.shared else unet()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """From the CT `(batch, 1, z, y, x)`, 0…1, to each pass's logits.

        Returns:
            For every pass `(batch, 1 + organs, z, y, x)`, float32: background, then the organs in
            the protocol's order.
        """
        low, high = self.soft_tissue
        stretched = ((x.float() - low) / (high - low)).clamp(0, 1).to(x.dtype)
        believed = x.new_zeros(x.shape[0], self.classes, *x.shape[2:])
        passes: list[Tensor] = []
        for number in range(self.passes):
            network = self.unet if number == 0 or self.later is None else self.later
            logits = network(torch.cat((x, stretched, believed), dim=1)).float()
            passes.append(logits)
            believed = logits.softmax(dim=1).to(x.dtype)
        return tuple(passes)
