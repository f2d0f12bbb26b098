"""Training losses, one a file: functions of a `LossInput` that return a scalar.

A training loss is a weighted sum of them:

    loss = WeightedSum(
        [
            LossTerm("mae", 1.0),
            LossTerm("mae", 0.5, stage="coarse"),
            LossTerm("value_dvh", 0.1, start=0.6),  # for the last 40 % of the training
            LossTerm("criteria_dvh", 0.1, start=0.6),
        ]
    )
    batch = LossInput(
        prediction=predicted.final,
        coarse=predicted.coarse,
        reference=dose,
        region=region,
        structures=masks,
        names=[channel.name for channel in protocol.inputs],
        roles=[channel.role for channel in protocol.inputs],
        dose_scale_gy=settings.dose_scale_gy,
        strips=strips,
        spacing_mm=spacing_mm,
    )
    total, parts = loss(batch, progress=step / steps)
    total.backward()

`total` is in units of the dose scale; `parts` holds the unweighted, detached scalars under
"mae", "coarse_mae", "value_dvh" … for the log. `LossTerm`s are plain data that `schema.to_json`
writes into the run folder. Every loss is computed per patient and averaged over the batch, a
structure that a crop does not hold has no term, and no loss is NaN for finite doses.
"""

from .criteria_dvh import criteria_dvh
from .goal_template import goal_template
from .gradient import gradient_l1
from .inputs import LossInput
from .masked import mae, masked_mae, mse
from .mean_dose import mean_dose
from .moments import moments
from .published import PUBLISHED_PELVIS
from .registry import LOSSES
from .soft_vx import soft_vx
from .ssim import ssim
from .strips import strip_mae, strip_ssim
from .value_dvh import value_dvh
from .weighted import LossTerm, WeightedLoss, WeightedSum

__all__ = [
    "LOSSES",
    "PUBLISHED_PELVIS",
    "LossInput",
    "LossTerm",
    "WeightedLoss",
    "WeightedSum",
    "criteria_dvh",
    "goal_template",
    "gradient_l1",
    "mae",
    "masked_mae",
    "mean_dose",
    "moments",
    "mse",
    "soft_vx",
    "ssim",
    "strip_mae",
    "strip_ssim",
    "value_dvh",
]
