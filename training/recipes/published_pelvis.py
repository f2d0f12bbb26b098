"""The published two-stage pelvis network and loss, for cohorts of the published format.

Loss, rates and batch size are the published ones; `steps` is 400 epochs of 100 patients: set it to
200 times your own number. The optimizer is AdamW and not Adam, and the cosine ends at a thousandth
of the peak rate, 1e-6.
"""

from __future__ import annotations

from DosePredictionLib.encoding.encoder import EncodingSettings, GridSettings
from DosePredictionLib.losses import PUBLISHED_PELVIS
from training.config import AugmentationConfig, TrainingConfig

__all__ = ["recipe"]

recipe = TrainingConfig(
    protocol="pelvis",
    encoding=EncodingSettings(
        grid=GridSettings(kind="as-is", size=(256, 256, 64), spacing_mm=(2.0, 2.0, 5.0)),
        dose_scale_gy=52.0,
    ),
    prescription_gy={"PTV": 45.0},
    crop=(64, 256, 256),
    batch_size=2,
    steps=20000,
    learning_rate=1e-3,
    warm_up=0.05,
    weight_decay=1e-5,
    freeze_norm_after=1.0,
    loss=PUBLISHED_PELVIS,
    augmentation=AugmentationConfig(ct_noise_hu=0.0, ct_shift_hu=0.0),
)
