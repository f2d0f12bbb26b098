"""A pelvis dose from noise, by beams and wishes, without a regression: to be compared with.

As `openkbp_ddpm`, on the cases of `pelvis_wishes` (docs/diffusion.md).
"""

from __future__ import annotations

from dataclasses import replace

from training.config import NetworkConfig

from .openkbp_ddpm import recipe as ddpm
from .pelvis_wishes_coarse import recipe as wishes

__all__ = ["recipe"]

recipe = replace(
    ddpm,
    protocol=wishes.protocol,
    encoding=wishes.encoding,
    prescription_gy=wishes.prescription_gy,
    network=NetworkConfig(
        architecture="denoising_unet",
        options={"filters": 16, "earlier_channels": 0, "path": "cosine"},
    ),
    crop=(48, 64, 96),
    augmentation=replace(wishes.augmentation, drop_wishes=0.0),
)
