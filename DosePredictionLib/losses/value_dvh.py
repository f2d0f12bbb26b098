"""The distance between two DVHs, read along the dose axis."""

from __future__ import annotations

from torch import Tensor

from .inputs import LossInput

__all__ = ["value_dvh"]


def value_dvh(x: LossInput) -> Tensor:
    """Mean distance of the sorted doses in each structure, in the dose's unit.

        L = mean_s mean_i |p_(i) − r_(i)|

    p_(i) and r_(i) are the i-th lowest voxels of prediction and reference in structure s: the area
    between the two DVHs. Per patient over its targets and organs, then over patients; an absent
    structure has no term. After the value-based DVH loss of Wang et al. 2022, doi
    10.1007/978-3-031-16449-1_55, with every structure of equal weight as in the DVH score.
    """
    return x.mean_of_patients(
        [(each.patient, (each.predicted - each.reference).abs().mean()) for each in x.sorted_doses]
    )
