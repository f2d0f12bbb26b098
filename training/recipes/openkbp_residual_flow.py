"""Samples about a frozen head-and-neck model's dose (docs/diffusion.md)."""

from __future__ import annotations

from dataclasses import replace

from .openkbp_residual_scale import recipe as scale
from .pelvis_residual_flow import recipe as pelvis

__all__ = ["recipe"]

recipe = replace(
    pelvis,
    protocol=scale.protocol,
    encoding=scale.encoding,
    prescription_gy=scale.prescription_gy,
    crop=scale.crop,
)
