"""The seven organs of the pelvis on a CT, by a U-Net that looks twice.

Its cohort is simulated (`simulate --anatomy-only`): what differs between scanners and between
simulated and real patients varies further from crop to crop. The U-Net is looked at twice because
the second pass sees what the first believed of everything else; `pelvis_organs_one_pass` is the
comparison.
"""

from __future__ import annotations

from DosePredictionLib.encoding.encoder import EncodingSettings, GridSettings
from DosePredictionLib.encoding.strips import StripSettings
from DosePredictionLib.losses import LossTerm
from training.config import AugmentationConfig, NetworkConfig, TrainingConfig

__all__ = ["recipe"]

recipe = TrainingConfig(
    protocol="pelvis",
    task="segmentation",
    encoding=EncodingSettings(
        grid=GridSettings(kind="fixed-spacing", spacing_mm=(4.0, 4.0, 4.0)),
        air_outside_external=True,
        strips=StripSettings(angles=()),
        structures="learned",
    ),
    prescription_gy={"PTV": 45.0},  # of no consequence; a model's card states one
    # Wide enough that a crop about one femoral head shows on which side of the body it lies.
    crop=(48, 64, 80),
    crops="structures",
    batch_size=2,
    network=NetworkConfig(architecture="multipass_unet3d", options={"filters": 16, "passes": 2}),
    learning_rate=3e-3,
    steps=1800,
    validate_every=300,
    # Both passes have the same weights: batch norm must learn statistics that fit both.
    freeze_norm_after=0.5,
    loss=(
        LossTerm("dice_ce", 1.0, options={"balance": 0.5}),
        LossTerm("dice_ce", 0.5, stage="coarse", options={"balance": 0.5}),
    ),
    precision="bf16",
    augmentation=AugmentationConfig(
        ct_noise_hu=12.0,
        ct_shift_hu=15.0,
        ct_contrast=0.08,
        spatial_probability=0.6,
        rotation_degrees=12.0,
        scale=0.12,
        shift_mm=20.0,
    ),
)
