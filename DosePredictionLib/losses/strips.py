"""Errors weighted by the tangent strips that a voxel lies in."""

from __future__ import annotations

from torch import Tensor

from .inputs import LossInput
from .masked import masked_mean
from .ssim import dissimilarity

__all__ = ["strip_mae", "strip_ssim"]


def strip_mae(x: LossInput, published: bool = False) -> Tensor:
    """Mean absolute error over the strips, in the dose's unit.

        L = mean over patients of Σ n |p − r| / Σ n

    n counts the strips that hold a voxel, so that beams' crossings weigh more.

    Args:
        x: the batch.
        published: patients without strips are left out of the mean, as in the published loss.
    """
    value = masked_mean((x.dose - x.reference).abs(), x.strip_count)
    return value * _of_present(x) if published else value


def strip_ssim(x: LossInput, data_range_gy: float | None = None) -> Tensor:
    """Mean structural dissimilarity over the strips, 0…2.

        L = mean over patients of Σ n (1 − SSIM) / Σ n

    Args:
        x: the batch; n counts the strips that hold a voxel.
        data_range_gy: of SSIM, usually the prescription; by default the dose scale.
    """
    return masked_mean(dissimilarity(x, data_range_gy), x.strip_count)


def _of_present(x: LossInput) -> float:
    """From a mean over all patients to one over those with strips."""
    present = int(x.strip_count.flatten(1).any(dim=1).sum())
    return x.strip_count.shape[0] / max(present, 1)
