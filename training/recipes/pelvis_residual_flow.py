"""Samples about a frozen pelvis model's dose: a rectified flow of its residual (docs/diffusion.md).

    python -m training train --recipe pelvis_residual_flow --frozen MODEL …

where MODEL has a scale. `--set network.options.path=cosine` makes it a diffusion with v-prediction.
"""

from __future__ import annotations

from dataclasses import replace

from DosePredictionLib.losses import LossTerm
from training.config import NetworkConfig

from .pelvis_residual_scale import recipe as scale

__all__ = ["recipe"]

recipe = replace(
    scale,
    task="residual_flow",
    network=NetworkConfig(
        architecture="denoising_unet",
        options={"filters": 16, "earlier_channels": 2, "path": "rectified"},
    ),
    steps=4000,
    learning_rate=1e-3,
    ema=0.999,
    ema_start=0.99,
    validate_every=500,
    loss=(LossTerm("mse", 1.0),),
)
