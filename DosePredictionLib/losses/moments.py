"""Errors of dose moments, which are generalized equivalent uniform doses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..evaluation.differentiable import generalized_eud
from .inputs import LossInput

__all__ = ["moments"]


def moments(x: LossInput, orders: Sequence[float] = (1.0, 2.0, 10.0)) -> Tensor:
    """Mean error of the structures' dose moments, in the dose's unit.

        M_a = (mean_{i in s} p_i^a)^(1/a),   L = mean_{s, a} |M_a(p) − M_a(r)|

    High orders watch the hottest voxels, as serial organs need; order 1 is the mean. Per patient
    over targets and organs that are present, then over patients. After Jhanwar et al. 2022, doi
    10.1088/1361-6560/ac8d45, with absolute instead of squared errors, so that its unit is that of
    the other losses. Doses are held above 1e-3 Gy.

    Args:
        x: the batch.
        orders: the exponents a, none of them 0.
    """
    scale = x.dose_scale_gy
    terms = []
    for each in x.structure_doses:
        whole = torch.ones_like(each.reference)
        for a in orders:
            ours = generalized_eud(each.predicted * scale, whole, a)
            theirs = generalized_eud(each.reference * scale, whole, a)
            terms.append((each.patient, (ours - theirs).abs() / scale))
    return x.mean_of_patients(terms)
