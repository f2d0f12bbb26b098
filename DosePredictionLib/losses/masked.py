"""Errors averaged over a mask, patient by patient."""

from __future__ import annotations

from torch import Tensor

__all__ = ["masked_mae"]


def masked_mae(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error inside a mask: Σ m·|p − t| / Σ m per patient, then the patients' mean.

    A large patient so weighs no more than a small one. An empty mask contributes 0.

    Args:
        prediction, target, mask: `(batch, 1, z, y, x)`; the mask holds 0 and 1.

    Returns:
        A scalar in the unit of the dose, float32 whatever the input's precision.
    """
    error = (prediction.float() - target.float()).abs() * mask
    dims = tuple(range(1, error.dim()))
    return (error.sum(dims) / mask.float().sum(dims).clamp_min(1)).mean()
