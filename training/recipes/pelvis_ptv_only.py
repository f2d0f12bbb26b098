"""A baseline for `pelvis_simulated`: a network that sees the PTV alone.

It gets the target's mask, distance map and tangent strips; the CT is blotted out and there is no
other structure. What it misses of a plan is what organs and body have to do with it. On a grid of
5 mm, as coarse as the plans' own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from DosePredictionLib.encoding.encoder import GridSettings
from training.config import AugmentationConfig
from training.recipes.pelvis_simulated import recipe as pelvis_simulated

__all__ = ["recipe"]

_BLIND_HU = 1e9  # a window so wide that every voxel has the same gray

recipe = replace(
    pelvis_simulated,
    protocol=str(Path(__file__).with_suffix(".json")),
    encoding=replace(
        pelvis_simulated.encoding,
        grid=GridSettings(kind="fixed-spacing", spacing_mm=(5.0, 5.0, 5.0), reach_mm=120.0),
        ct_window_hu=(-_BLIND_HU, _BLIND_HU),
    ),
    crop=(64, 64, 96),
    augmentation=AugmentationConfig(
        spatial_probability=0.5,
        rotation_degrees=2.0,
        scale=0.05,
        shift_mm=10.0,
        ct_noise_hu=0.0,
        ct_shift_hu=0.0,
    ),
)
