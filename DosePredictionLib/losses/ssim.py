"""Structural similarity of doses in three dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

from ..evaluation.scores import SSIM_K1, SSIM_K2, ssim_window
from .inputs import LossInput
from .masked import masked_mean

__all__ = ["dissimilarity", "ssim"]


def ssim(x: LossInput, data_range_gy: float | None = None) -> Tensor:
    """1 − SSIM, averaged over the region; 0 for equal doses, at most 2.

        SSIM = (2 μ_p μ_r + C₁)(2 σ_pr + C₂) / ((μ_p² + μ_r² + C₁)(σ_p² + σ_r² + C₂))

    Means and covariances under a Gaussian window of 7³ voxels, σ 1.5 voxels, the edge's value
    beyond the grid; C₁ = (0.01 R)², C₂ = (0.03 R)² with the data range R (Wang et al. 2004, doi
    10.1109/TIP.2003.819861). The same measure as `evaluation.scores.ssim`.

    Args:
        x: the batch.
        data_range_gy: R, usually the prescription; by default the dose scale.
    """
    return masked_mean(dissimilarity(x, data_range_gy), x.region)


def dissimilarity(x: LossInput, data_range_gy: float | None = None) -> Tensor:
    """1 − SSIM at every voxel, `(batch, 1, z, y, x)`."""
    data_range = 1.0 if data_range_gy is None else data_range_gy / x.dose_scale_gy
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    p, r = x.dose, x.reference
    # Four fields in one filtering: σ_p² + σ_r² needs only the mean of p² + r².
    means = _window_mean(torch.cat([p, r, p * p + r * r, p * r], dim=1))
    mean_p, mean_r, squares, product = torch.split(means, 1, dim=1)
    powers, cross = mean_p * mean_p + mean_r * mean_r, mean_p * mean_r
    similarity = (2 * cross + c1) * (2 * (product - cross) + c2)
    result: Tensor = 1 - similarity / ((powers + c1) * (squares - powers + c2))
    return result


def _window_mean(fields: Tensor) -> Tensor:
    """Fields `(batch, field, z, y, x)` averaged under the window, one axis after the other.

    A product with a banded matrix: faster than a convolution of one channel, it holds the edge's
    rule in itself, and its backward pass keeps nothing.
    """
    for axis in (2, 3, 4):
        matrix = _band(fields.shape[axis]).to(fields)
        fields = torch.tensordot(fields, matrix, dims=([axis], [1])).movedim(-1, axis)
    return fields


def _band(length: int) -> Tensor:
    """Row i holds the window around i, what lies beyond the ends added to the ends: `(n, n)`."""
    window = torch.from_numpy(ssim_window())
    offsets = torch.arange(len(window)) - len(window) // 2
    columns = (torch.arange(length)[:, None] + offsets).clamp(0, length - 1)
    matrix = torch.zeros(length, length, dtype=torch.float64)
    return matrix.scatter_add_(1, columns, window.expand(length, -1).contiguous())
