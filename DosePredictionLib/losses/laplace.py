"""How well a scale describes the size of errors, voxel by voxel."""

from __future__ import annotations

from torch import Tensor

from .inputs import LossInput
from .masked import masked_mean

__all__ = ["laplace"]


def laplace(x: LossInput) -> Tensor:
    """Negative logarithm of a Laplace density, without its constant.

        L = mean over patients of Σ m (|e| / s + ln s) / Σ m

    Smallest where s is the mean of |e| over voxels that the network cannot tell apart: the expected
    absolute error. Gneiting and Raftery 2007, doi 10.1198/016214506000001437 (logarithmic score).

    Args:
        x: its `prediction` is s > 0, its `reference` |e|, both in one unit; m is its region.
    """
    return masked_mean(x.reference / x.prediction + x.prediction.log(), x.region)
