"""The expected |error| of a frozen head-and-neck model, voxel by voxel (docs/diffusion.md)."""

from __future__ import annotations

from dataclasses import replace

from .openkbp_two_stage import recipe as two_stage
from .pelvis_residual_scale import recipe as pelvis

__all__ = ["recipe"]

recipe = replace(
    pelvis,
    protocol=two_stage.protocol,
    encoding=two_stage.encoding,
    prescription_gy=two_stage.prescription_gy,
    crop=two_stage.crop,
)
