"""The expected |error| of a frozen pelvis model, voxel by voxel (docs/diffusion.md).

    python -m training train --recipe pelvis_residual_scale --frozen MODEL …

on a cache to which `python -m training residuals` has added the model's doses. Protocol, encoding
and prescription are the model's. Nothing but a flip varies the crops: what moves or drops a
structure would change the input, but not the dose that the model made of it.
"""

from __future__ import annotations

from DosePredictionLib.losses import LossTerm
from training.config import AugmentationConfig, NetworkConfig, TrainingConfig

from .pelvis_simulated import recipe as simulated

__all__ = ["recipe"]

recipe = TrainingConfig(
    protocol=simulated.protocol,
    encoding=simulated.encoding,
    prescription_gy=simulated.prescription_gy,
    task="residual_scale",
    network=NetworkConfig(
        architecture="half_resolution",
        options={"filters": 8, "head_filters": 8, "earlier_channels": 1},
    ),
    crop=(48, 64, 96),
    batch_size=2,
    steps=1000,
    learning_rate=2e-3,
    ema=0.99,
    validate_every=250,
    loss=(LossTerm("laplace", 1.0),),
    augmentation=AugmentationConfig(ct_noise_hu=0.0, ct_shift_hu=0.0),
)
