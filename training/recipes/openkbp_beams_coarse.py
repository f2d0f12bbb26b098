"""The first stage of `openkbp_beams`: a light network at half resolution that knows the beams.

Train one on each half of the patients (--fold 1/2, --fold 2/2): what each predicts for the other
half are the errors that the second stage will meet on new patients.
"""

from __future__ import annotations

from dataclasses import replace

from DosePredictionLib.encoding.derived import DerivedInputs
from DosePredictionLib.encoding.strips import StripSettings
from DosePredictionLib.losses import LossTerm
from training.config import NetworkConfig

from .openkbp_two_stage import recipe as two_stage

__all__ = ["recipe"]

recipe = replace(
    two_stage,
    encoding=replace(
        two_stage.encoding,
        strips=StripSettings(angles=()),
        derived=DerivedInputs(distances="targets"),
        further={"beam": {}},
    ),
    loss=(
        LossTerm("mae", 1.0),
        LossTerm("value_dvh", 0.1, start=0.6),
        LossTerm("criteria_dvh", 0.1, start=0.6),
    ),
    network=NetworkConfig(
        architecture="half_resolution", options={"filters": 16, "head_filters": 8}
    ),
    precision="bf16",
    steps=1500,
    validate_every=500,
)
