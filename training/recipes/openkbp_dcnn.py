"""The dilated 2D network on the slices of OpenKBP, sized for an hour and a half of one CPU core.

Half of the published widths. One random slice that holds dose of each of sixteen patients a step,
whole, at a random place of its frame: of frames that fit the dose region the network learns that
the border is near, which it is not in prediction (docs/results.md). Error over all voxels of the
batch together, as the dose score counts them, and the area between the DVHs of each slice. The body
stands where the published input has the possible-dose mask, which a clinic does not have:
`--set 'encoding.further={"region": {"of": "possible_dose_mask"}}'` trains the other variant. Signed
distances to the targets are taken in three dimensions (as in Zhang, Hu et al. 2020, doi
10.1088/1361-6560/aba87b): they are what a slice knows of those above and below.
"""

from __future__ import annotations

from dataclasses import replace

from DosePredictionLib.encoding.derived import DerivedInputs
from DosePredictionLib.encoding.strips import StripSettings
from DosePredictionLib.losses import LossTerm
from training.config import AugmentationConfig, NetworkConfig, TrainingConfig

from .openkbp_two_stage import recipe as two_stage

__all__ = ["recipe"]

recipe = TrainingConfig(
    protocol="openkbp",
    encoding=replace(
        two_stage.encoding,
        strips=StripSettings(angles=()),
        derived=DerivedInputs(distances="targets"),
        further={"region": {"of": "body"}},
    ),
    crop=(1, 80, 128),
    batch_size=16,
    steps=6000,
    loss=(
        LossTerm("mae", 1.0, options={"published": True}),
        LossTerm("value_dvh", 0.2),
    ),
    learning_rate=1.5e-3,
    ema=0.998,
    ema_start=0.99,
    freeze_norm_after=0.8,
    augmentation=AugmentationConfig(spatial_probability=0.25),
    validate_every=500,
    precision="bf16",
    network=NetworkConfig(architecture="dilated_unet2d", options={"widths": [16, 32, 64, 128]}),
)
