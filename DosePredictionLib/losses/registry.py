"""Losses by the name that a recipe gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from .criteria_dvh import criteria_dvh
from .goal_template import goal_template
from .gradient import gradient_l1
from .masked import mae, mse
from .mean_dose import mean_dose
from .moments import moments
from .soft_vx import soft_vx
from .ssim import ssim
from .strips import strip_mae, strip_ssim
from .value_dvh import value_dvh

__all__ = ["LOSSES", "Loss"]

Loss = Callable[..., Tensor]
"""`loss(x: LossInput, **options)`: a scalar."""

LOSSES: Mapping[str, Loss] = {
    "criteria_dvh": criteria_dvh,
    "goal_template": goal_template,
    "gradient_l1": gradient_l1,
    "mae": mae,
    "mean_dose": mean_dose,
    "moments": moments,
    "mse": mse,
    "soft_vx": soft_vx,
    "ssim": ssim,
    "strip_mae": strip_mae,
    "strip_ssim": strip_ssim,
    "value_dvh": value_dvh,
}
