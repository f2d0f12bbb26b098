"""How well a scale describes the size of errors, voxel by voxel."""

from __future__ import annotations

from torch import Tensor

from .masked import masked_mean

__all__ = ["laplace"]


def laplace(scale: Tensor, error: Tensor, region: Tensor) -> Tensor:
    """Negative logarithm of a Laplace density, without its constant.

        L = mean over patients of Σ m (e / s + ln s) / Σ m

    Smallest where s is the mean of e over voxels that the network cannot tell apart: the expected
    absolute error. Gneiting and Raftery 2007, doi 10.1198/016214506000001437 (logarithmic score).

    Args:
        scale, error: s > 0 and e = |plan − dose|, in one unit, `(batch, 1, z, y, x)`.
        region: m, likewise.

    Returns:
        A scalar, float32 whatever the input's precision.
    """
    scale = scale.float()
    return masked_mean(error.float() / scale + scale.log(), region)
