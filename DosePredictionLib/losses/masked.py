"""Errors averaged over a mask, patient by patient."""

from __future__ import annotations

from torch import Tensor

from .inputs import LossInput

__all__ = ["mae", "masked_mae", "masked_mean", "mse"]


def mae(x: LossInput, published: bool = False) -> Tensor:
    """Mean absolute error in the region, in the dose's unit.

        L = mean over patients of Σ m |p − r| / Σ m

    Args:
        x: the batch; m is its region.
        published: the voxels of all patients share one mean, as in the published loss.
    """
    return masked_mean((x.prediction - x.reference).abs(), x.region, published)


def mse(x: LossInput) -> Tensor:
    """Mean squared error in the region, in the dose's unit squared.

    L = mean over patients of Σ m (p − r)² / Σ m
    """
    return masked_mean((x.prediction - x.reference).square(), x.region)


def masked_mae(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error inside a mask: Σ m·|p − t| / Σ m per patient, then the patients' mean.

    A large patient so weighs no more than a small one. An empty mask contributes 0.

    Args:
        prediction, target, mask: `(batch, 1, z, y, x)`; the mask holds 0 and 1.

    Returns:
        A scalar in the unit of the dose, float32 whatever the input's precision.
    """
    return masked_mean((prediction.float() - target.float()).abs(), mask)


def masked_mean(values: Tensor, mask: Tensor, pooled: bool = False) -> Tensor:
    """Σ m·v / Σ m per patient, then the patients' mean; an empty mask contributes 0.

    Args:
        values, mask: `(batch, 1, z, y, x)`; the mask may count a voxel several times.
        pooled: one fraction over the batch.
    """
    dims = tuple(range(0 if pooled else 1, values.dim()))
    count = mask.to(values.dtype).sum(dims)
    return ((values * mask).sum(dims) / count.clamp_min(1)).mean()
