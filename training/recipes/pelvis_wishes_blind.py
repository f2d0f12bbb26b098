"""A baseline for `pelvis_wishes_coarse`: a network that sees the PTV and the beams alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from training.config import AugmentationConfig
from training.recipes.pelvis_wishes_coarse import recipe as coarse

__all__ = ["recipe"]

_BLIND_HU = 1e9  # a window so wide that every voxel has the same gray

recipe = replace(
    coarse,
    protocol=str(Path(__file__).with_name("pelvis_ptv_only.json")),
    encoding=replace(
        coarse.encoding,
        ct_window_hu=(-_BLIND_HU, _BLIND_HU),
        further={"beam": {"open_fields": True}},
    ),
    augmentation=AugmentationConfig(
        spatial_probability=0.3,
        rotation_degrees=10.0,
        scale=0.05,
        shift_mm=10.0,
        ct_noise_hu=0.0,
        ct_shift_hu=0.0,
    ),
)
