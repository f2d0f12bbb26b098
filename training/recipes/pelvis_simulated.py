"""The nine-channel pelvis on simulated plans (`python -m training simulate`), for two CPU cores.

The grid is a little finer than the plans' dose grid, for the fall of the dose at the PTV's edge,
and so coarse that a crop holds a whole pelvis. Hardly any rotation: the nine fields keep their
angles with respect to the treatment room when a patient turns.
"""

from __future__ import annotations

from DosePredictionLib.encoding.derived import DerivedInputs
from DosePredictionLib.encoding.encoder import EncodingSettings, GridSettings
from DosePredictionLib.losses import LossTerm
from training.config import AugmentationConfig, NetworkConfig, TrainingConfig

__all__ = ["recipe"]

recipe = TrainingConfig(
    protocol="pelvis",
    encoding=EncodingSettings(
        grid=GridSettings(kind="fixed-spacing", spacing_mm=(4.0, 4.0, 4.0), reach_mm=120.0),
        air_outside_external=True,
        dose_scale_gy=45.0,
        derived=DerivedInputs(distances="targets", distance_clip_mm=80.0, refinement=2),
    ),
    prescription_gy={"PTV": 45.0},
    crop=(80, 80, 112),
    network=NetworkConfig(stage1_filters=8, stage2_filters=12),
    learning_rate=2e-3,
    steps=700,
    validate_every=100,
    loss=(
        LossTerm("mae", 1.0),
        LossTerm("mae", 0.5, stage="coarse"),
        LossTerm("value_dvh", 0.1, start=0.6),
        LossTerm("criteria_dvh", 0.2, start=0.6),
    ),
    augmentation=AugmentationConfig(
        spatial_probability=0.5,
        rotation_degrees=2.0,
        scale=0.05,
        shift_mm=10.0,
        # What clinics contour least often goes missing most often.
        drop_structures={
            "Marrow": 0.4,
            "Small_Intestine": 0.3,
            "SpinalCord": 0.4,
            "FemurHead_L": 0.1,
            "FemurHead_R": 0.1,
        },
    ),
)
