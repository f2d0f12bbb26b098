"""The pelvis by beams and wishes, first stage: a light network at half resolution.

Train one on each half of the anatomies (--fold 1/2, --fold 2/2) of a cohort by
`python -m training simulate --beams mixed --goals 3`. The grid is about as coarse as the plans'
dose grid, so that a small crop holds most of a pelvis: steps are cheap (docs/simulation.md).
Beams turn along with a patient, so that all directions are learned.
"""

from __future__ import annotations

from DosePredictionLib.encoding.derived import DerivedInputs
from DosePredictionLib.encoding.encoder import EncodingSettings, GridSettings
from DosePredictionLib.encoding.strips import StripSettings
from DosePredictionLib.losses import LossTerm
from training.config import AugmentationConfig, NetworkConfig, TrainingConfig
from training.simulation.techniques import WISHED_GY

__all__ = ["recipe"]

recipe = TrainingConfig(
    protocol="pelvis",
    encoding=EncodingSettings(
        grid=GridSettings(kind="fixed-spacing", spacing_mm=(4.0, 4.0, 4.0), reach_mm=80.0),
        masks="occupancy",
        strips=StripSettings(angles=()),
        air_outside_external=True,
        dose_scale_gy=45.0,
        derived=DerivedInputs(distances="targets", distance_clip_mm=80.0),
        further={"beam": {"open_fields": True}, "wish": {"dose_gy": dict(WISHED_GY)}},
    ),
    prescription_gy={"PTV": 45.0},
    crop=(48, 64, 96),
    batch_size=2,
    network=NetworkConfig(
        architecture="half_resolution", options={"filters": 16, "head_filters": 8}
    ),
    precision="bf16",
    learning_rate=2e-3,
    steps=3000,
    validate_every=750,
    loss=(
        LossTerm("mae", 1.0),
        LossTerm("value_dvh", 0.1, start=0.6),
        LossTerm("criteria_dvh", 0.1, start=0.6),
    ),
    augmentation=AugmentationConfig(
        spatial_probability=0.3,
        rotation_degrees=10.0,
        scale=0.05,
        shift_mm=10.0,
        # What clinics contour least often goes missing most often.
        drop_structures={
            "Marrow": 0.2,
            "Small_Intestine": 0.15,
            "SpinalCord": 0.3,
            "FemurHead_L": 0.1,
            "FemurHead_R": 0.1,
        },
        # Rarely: a plan that spares an organ, shown as one that nobody wished for, blurs the rest.
        drop_wishes=0.1,
        mask_edges=0.5,
    ),
)
