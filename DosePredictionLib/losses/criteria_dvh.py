"""Errors of the endpoints that the OpenKBP challenge scores."""

from __future__ import annotations

import torch
from torch import Tensor

from ..evaluation.differentiable import percentiles
from ..evaluation.scores import TARGET_PERCENTILES, tenth_cc_percentile
from .inputs import LossInput, StructureDoses

__all__ = ["criteria_dvh"]


def criteria_dvh(x: LossInput) -> Tensor:
    """Mean absolute error of the scored endpoints, in the dose's unit.

        L = mean_e |e(p) − e(r)|

    Endpoints e: D99, D95 and D1 of each target, the dose quantiles 0.01, 0.05 and 0.99; the mean
    and D0.1cc of each organ. Per patient over all endpoints, then over patients; an absent
    structure has none. On whole patients and doses ≥ 0 this is `evaluation.scores.dvh_score`
    (Babier et al. 2021, doi 10.1002/mp.14845) over the dose scale. Needs the spacing.
    """
    terms = []
    for each in x.sorted_doses:
        is_target = x.roles[each.channel] == "target"
        errors = _target_errors(each) if is_target else _organ_errors(each, x.voxel_mm3)
        terms += [(each.patient, error) for error in errors.unbind()]
    return x.mean_of_patients(terms)


def _target_errors(doses: StructureDoses) -> Tensor:
    """|ΔD99|, |ΔD95|, |ΔD1|, `(3,)`."""
    wanted = list(TARGET_PERCENTILES.values())
    return (percentiles(doses.predicted, wanted) - percentiles(doses.reference, wanted)).abs()


def _organ_errors(doses: StructureDoses, voxel_mm3: list[float]) -> Tensor:
    """|ΔD0.1cc|, |ΔDmean|, `(2,)`."""
    wanted = [tenth_cc_percentile(doses.predicted.numel(), voxel_mm3[doses.patient])]
    near_maximum = percentiles(doses.predicted, wanted) - percentiles(doses.reference, wanted)
    mean = doses.predicted.mean() - doses.reference.mean()
    return torch.cat([near_maximum, mean[None]]).abs()
