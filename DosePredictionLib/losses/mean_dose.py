"""Errors of the organs' mean doses."""

from __future__ import annotations

from torch import Tensor

from .inputs import LossInput

__all__ = ["mean_dose"]


def mean_dose(x: LossInput, published: bool = False) -> Tensor:
    """Mean over the organs of the error of their mean dose, in the dose's unit.

        L = mean_o |mean_{i in o} p_i − mean_{i in o} r_i|

    Per patient over the organs that are present, then over patients.

    Args:
        x: the batch.
        published: patients without organs are left out of the mean, as in the published loss.
    """
    terms = [
        (each.patient, (each.predicted.mean() - each.reference.mean()).abs())
        for each in x.organ_doses
    ]
    return x.mean_of_patients(terms, skip_absent=published)
