"""Losses by the name that a recipe gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from .criteria_dvh import criteria_dvh
from .masked import mae, mse
from .value_dvh import value_dvh

__all__ = ["LOSSES", "Loss"]

Loss = Callable[..., Tensor]
"""`loss(x: LossInput, **options)`: a scalar."""

LOSSES: Mapping[str, Loss] = {loss.__name__: loss for loss in (criteria_dvh, mae, mse, value_dvh)}
