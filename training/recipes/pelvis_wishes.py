"""The pelvis by beams and wishes: coarse dose, what the beams can give of it, refined.

    python -m training train --recipe pelvis_wishes --coarse HALF_1 HALF_2 …

on a cache to which `python -m training mimic` has added the earlier doses (docs/simulation.md).
"""

from __future__ import annotations

from dataclasses import replace

from training.config import NetworkConfig

from .pelvis_wishes_coarse import recipe as coarse

__all__ = ["recipe"]

recipe = replace(
    coarse,
    task="beam_dose",
    network=NetworkConfig(
        architecture="beam_cascade",
        options={
            "coarse_filters": 16,
            "coarse_head_filters": 8,
            "coarse_networks": 2,
            "filters": 24,
            "head_filters": 12,
            "coarse_share": 0.15,
        },
    ),
    steps=4000,
    validate_every=1000,
    # The coarse dose knows the wishes: a crop without them would say otherwise.
    augmentation=replace(coarse.augmentation, drop_wishes=0.0),
)
