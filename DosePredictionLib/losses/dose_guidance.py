"""What contours cost in dose: terms that guide the search for organs.

Alone they can be gamed: contours that are wrong in many places at once read the right dose. They
stand beside an overlap loss, reach only what lies near the true surfaces, and stay the smaller part
of the gradient (`tasks.guidance`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..geometry import signed_distance_mm

__all__ = [
    "NEAR_MM",
    "RATIO_MAX",
    "RATIO_MIN",
    "dose_weights",
    "guided_share",
    "near_surfaces",
    "plan_effect",
    "ramp",
    "reading_effect",
]

NEAR_MM = 12.0
"""From the true surface, as far as dose terms reach: three voxels of 4 mm."""

RATIO_MIN, RATIO_MAX = 0.1, 0.3
"""Of the norm of the dose terms' gradient to that of the others."""

_RAMP_FROM, _RAMP_TO = 0.5, 0.75


def ramp(progress: float) -> float:
    """How much dose terms count: 0 to half of the training, 1 from three quarters on."""
    return min(max((progress - _RAMP_FROM) / (_RAMP_TO - _RAMP_FROM), 0.0), 1.0)


def reading_effect(chances: Tensor, dose: Tensor, truth: Tensor) -> Tensor:
    """The error of the organs' mean doses when the plan's dose is read on soft contours.

        L = mean_o |Σ p_o D / Σ p_o − Σ y_o D / Σ y_o|

    Over the organs that a crop holds, then over patients; in the dose's unit.

    Args:
        chances: probabilities of the organs `(batch, organ, z, y, x)`.
        dose: the plan's, `(batch, 1, z, y, x)`.
        truth: as `chances`, 0 or 1; an organ that is empty has no term.
    """
    read = _means(dose, chances)
    return _over_organs((read - _means(dose, truth)).abs(), truth)


def plan_effect(on_chances: Tensor, on_truth: Tensor, truth: Tensor) -> Tensor:
    """The change of the dose in the true organs when the plan is made for soft contours.

        L = mean_o mean_{k in o} |D̂(p)_k − D̂(y)_k|

    D̂ is the dose that a frozen model predicts for contours. Voxel by voxel, so that a higher dose
    in one part of an organ cannot make up for a lower one in another.

    Args:
        on_chances, on_truth: D̂ `(batch, 1, z, y, x)`.
        truth: as in `reading_effect`.
    """
    return _over_organs(_means((on_chances - on_truth).abs(), truth), truth)


def near_surfaces(truth: Tensor, spacing_mm: Tensor, within_mm: float = NEAR_MM) -> Tensor:
    """Where a voxel lies within a distance of the true surface of its organ; bool, as `truth`.

    Args:
        truth: 0 or 1, `(batch, organ, z, y, x)`.
        spacing_mm: `(batch, 3)`, x, y, z.
    """
    masks = truth.detach().cpu().numpy().astype(bool)
    near = np.zeros(masks.shape, dtype=bool)
    for patient, spacing in enumerate(spacing_mm.tolist()):
        for organ, mask in enumerate(masks[patient]):
            if mask.any():
                near[patient, organ] = _near(mask, spacing, within_mm)
    return torch.from_numpy(near).to(truth.device)


def dose_weights(dose: Tensor, truth: Tensor, near: Tensor) -> Tensor:
    """Weights of voxels by what their contour costs, without a network: `(batch, z, y, x)`.

        w_k = 1 + |D_k − mean of the organ|, over its mean near the surfaces; of several organs the
        one with the largest, 1 far from all; then divided by its own mean

    A voxel that joins or leaves an organ changes its mean dose in proportion to this difference.

    Args:
        dose: the plan's, `(batch, 1, z, y, x)`.
        truth: as in `reading_effect`.
        near: `near_surfaces` of it.
    """
    lever = (dose - _means(dose, truth)[..., None, None, None]).abs() * near
    largest = lever.amax(dim=1)
    count = near.any(dim=1).sum((1, 2, 3)).clamp(min=1)
    usual = (largest.sum((1, 2, 3)) / count).clamp(min=1e-6)
    weights = 1 + largest / usual[:, None, None, None]
    return weights / weights.mean((1, 2, 3), keepdim=True)


def guided_share(
    overlap: Sequence[Tensor], guiding: Sequence[Tensor], weight: float
) -> tuple[float, float]:
    """By what the dose terms' gradient is multiplied, and the ratio of norms that results.

    The ratio of the weighted gradient's norm to the others' is brought into
    `RATIO_MIN`…`RATIO_MAX`.

    Args:
        overlap, guiding: gradients of the other terms and of the dose terms, of all weights.
        weight: λ, of the dose terms.

    Returns:
        0 and 0 where one of the two gradients is zero or not finite.
    """
    theirs, ours = _norm(overlap), weight * _norm(guiding)
    if not (np.isfinite(theirs) and np.isfinite(ours) and theirs > 0 and ours > 0):
        return 0.0, 0.0
    ratio = min(max(ours / theirs, RATIO_MIN), RATIO_MAX)
    return weight * ratio * theirs / ours, ratio


def _means(values: Tensor, masks: Tensor) -> Tensor:
    """Mean of `(batch, 1, z, y, x)` in each mask `(batch, organ, z, y, x)`: `(batch, organ)`."""
    axes = (2, 3, 4)
    return (values * masks).sum(axes) / masks.sum(axes).clamp(min=1e-6)


def _over_organs(errors: Tensor, truth: Tensor) -> Tensor:
    """Mean over the organs that are there, then over patients."""
    there = truth.flatten(2).any(2).to(errors.dtype)
    return ((errors * there).sum(1) / there.sum(1).clamp(min=1)).mean()


def _near(mask: np.ndarray, spacing_mm: Sequence[float], within_mm: float) -> np.ndarray:
    distance = signed_distance_mm(mask, spacing_mm, within_mm + max(spacing_mm))
    near: np.ndarray = np.abs(distance) <= within_mm
    return near


def _norm(gradients: Sequence[Tensor]) -> float:
    return float(torch.stack([each.float().square().sum() for each in gradients]).sum().sqrt())
