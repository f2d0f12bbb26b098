"""Errors of the dose's gradient."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ..mask import majority
from .inputs import LossInput
from .masked import masked_mean

__all__ = ["gradient_l1"]


def gradient_l1(
    x: LossInput, within: Literal["strips", "region"] = "strips", published: bool = False
) -> Tensor:
    """Mean absolute error of forward differences in a region, in the dose's unit per voxel.

        L = ⅓ Σ_a Σ m m⁺ |∂_a p − ∂_a r| / Σ m m⁺,   a = z, y, x

    m⁺ is the mask of the next voxel along a: both ends of a difference lie in the mask. Per
    patient, then over patients.

    Args:
        x: the batch.
        within: the union of the strips, or the region.
        published: the voxels of all patients share one mean, as in the published loss.
    """
    mask = x.strip_count > 0 if within == "strips" else majority(x.region)
    error = x.dose - x.reference
    terms = []
    for axis in (2, 3, 4):
        length = error.shape[axis] - 1
        both = mask.narrow(axis, 0, length) & mask.narrow(axis, 1, length)
        terms.append(masked_mean(error.diff(dim=axis).abs(), both, published))
    return (terms[0] + terms[1] + terms[2]) / 3
