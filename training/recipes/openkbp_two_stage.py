"""The two-stage network on OpenKBP, sized for a couple of hours on two CPU cores.

Native grid: predicting at half resolution costs 1.7 Gy of dose score by the resampling alone.
Crops follow the patients' shape (median dose region 80 × 60 × 100 voxels in z, y, x).
"""

from __future__ import annotations

from DosePredictionLib.encoding.encoder import EncodingSettings, GridSettings
from DosePredictionLib.losses import LossTerm
from training.config import AugmentationConfig, TrainingConfig

__all__ = ["recipe"]

recipe = TrainingConfig(
    protocol="openkbp",
    encoding=EncodingSettings(
        # The range of the training patients.
        grid=GridSettings(
            kind="native", spacing_mm_min=(2.7, 2.7, 1.5), spacing_mm_max=(5.5, 5.5, 3.5)
        ),
        air_outside_external=True,
        dose_scale_gy=70.0,
    ),
    crop=(64, 64, 96),
    # The scored endpoints join for the last 40 %, when batch norm uses its running statistics.
    loss=(
        LossTerm("mae", 1.0),
        LossTerm("mae", 0.5, stage="coarse"),
        LossTerm("value_dvh", 0.1, start=0.6),
        LossTerm("criteria_dvh", 0.1, start=0.6),
    ),
    learning_rate=1.5e-3,
    ema=0.998,
    ema_start=0.99,
    augmentation=AugmentationConfig(spatial_probability=0.25),
    steps=1200,
    validate_every=150,
)
