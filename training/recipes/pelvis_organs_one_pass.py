"""`pelvis_organs` with one pass: the baseline that a second look is measured against."""

from __future__ import annotations

from dataclasses import replace

from training.config import NetworkConfig

from .pelvis_organs import recipe as two_passes

__all__ = ["recipe"]

recipe = replace(
    two_passes,
    network=NetworkConfig(architecture="multipass_unet3d", options={"filters": 16, "passes": 1}),
)
