"""Errors of the organs' volumes above dose levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..evaluation.differentiable import soft_shares
from .inputs import LossInput, StructureDoses

__all__ = ["hard_shares", "soft_vx"]

_LEVELS_GY = (10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0)  # of the published pelvis loss


def soft_vx(
    x: LossInput,
    levels_gy: Sequence[float] = _LEVELS_GY,
    slope_per_gy: float = 10.0,
    published: bool = False,
) -> Tensor:
    """Mean squared error of V_x over the organs and levels; V_x from 0 to 1.

        L = mean_{o, x} (mean_{i in o} σ(k (p_i − x)) − mean_{i in o} [r_i ≥ x])²

    Soft on the prediction, hard on the reference. Per patient over the organs that are present,
    then over patients.

    Args:
        x: the batch.
        levels_gy: the doses x.
        slope_per_gy: k; a voxel within about 1/k of a level feels it.
        published: an organ's voxels are pooled over the batch, and the squares are summed over
            organs and levels and divided by the batch size, as in the published loss.
    """
    if published:
        organs = _pooled(x.organ_doses)
        errors = [_errors(x, each, levels_gy, slope_per_gy).sum() for each in organs]
        return torch.stack(errors).sum() / x.prediction.shape[0] if errors else x.zero
    return x.mean_of_patients(
        [(each.patient, _errors(x, each, levels_gy, slope_per_gy).mean()) for each in x.organ_doses]
    )


def _errors(
    x: LossInput, doses: StructureDoses, levels_gy: Sequence[float], slope_per_gy: float
) -> Tensor:
    """Squared errors, `(levels,)`."""
    scale = x.dose_scale_gy
    soft = soft_shares(doses.predicted * scale, levels_gy, slope_per_gy)
    return (soft - hard_shares(doses.reference * scale, levels_gy)).square()


def hard_shares(dose_gy: Tensor, levels_gy: Sequence[float]) -> Tensor:
    """Share of the voxels at or above each level, `(levels,)`."""
    levels = dose_gy.new_tensor(list(levels_gy))
    return (dose_gy >= levels[:, None]).to(dose_gy.dtype).mean(dim=1)


def _pooled(organs: Sequence[StructureDoses]) -> list[StructureDoses]:
    """Each organ's voxels of all patients together."""
    channels = sorted({each.channel for each in organs})
    groups = [[each for each in organs if each.channel == channel] for channel in channels]
    return [
        group[0]._replace(
            predicted=torch.cat([each.predicted for each in group]),
            reference=torch.cat([each.reference for each in group]),
        )
        for group in groups
    ]
