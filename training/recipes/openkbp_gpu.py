"""A cascade on OpenKBP for one GPU: distances and prescribed doses as inputs.

Not trained yet: its values are where to start from, not a result.
"""

from __future__ import annotations

from dataclasses import replace

from DosePredictionLib.encoding.derived import DerivedInputs
from training.config import AugmentationConfig, NetworkConfig

from .openkbp_two_stage import recipe as cpu_recipe

__all__ = ["recipe"]

recipe = replace(
    cpu_recipe,
    encoding=replace(
        cpu_recipe.encoding, derived=DerivedInputs(distances="targets", target_dose=True)
    ),
    crop=(80, 128, 128),
    steps=20000,
    learning_rate=6e-4,
    ema=0.999,
    ema_start=0.99,
    augmentation=AugmentationConfig(spatial_probability=0.5),
    validate_every=1000,
    precision="bf16",
    network=NetworkConfig(16, 32, architecture="cascade"),
)
