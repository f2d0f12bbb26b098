"""A head-and-neck dose from noise, without a regression: what others call a dose diffusion model.

Cosine path, v-prediction, the time by FiLM. It is here to be compared with (docs/diffusion.md).
"""

from __future__ import annotations

from dataclasses import replace

from DosePredictionLib.losses import LossTerm
from training.config import NetworkConfig

from .openkbp_two_stage import recipe as two_stage

__all__ = ["recipe"]

recipe = replace(
    two_stage,
    task="dose_diffusion",
    network=NetworkConfig(
        architecture="denoising_unet",
        options={"filters": 24, "earlier_channels": 0, "path": "cosine"},
    ),
    steps=8000,
    learning_rate=1e-3,
    ema=0.999,
    validate_every=1000,
    loss=(LossTerm("mse", 1.0),),
)
