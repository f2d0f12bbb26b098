"""`pelvis_organs` trained on under guidance of the dose: what a contour costs is part of the loss.

Continues from a model of `pelvis_organs` (`--continue-from`), on cases with plans, beside a dose
model that was trained on occupancies:

    --set task_options.dose_model=runs/pelvis-occupancy
"""

from __future__ import annotations

from dataclasses import replace

from .pelvis_organs import recipe as pelvis_organs

__all__ = ["recipe"]

recipe = replace(
    pelvis_organs,
    crop=(48, 64, 80),
    batch_size=1,
    learning_rate=1e-3,
    steps=300,
    validate_every=100,
    ema=0.98,
    freeze_norm_after=0.0,  # one crop has no statistics worth learning
    task_options={"kind": "guided", "dose_model": "pelvis-occupancy", "weight": 1.0},
)
