"""DVH measures of torch tensors that keep gradients, for losses.

Voxel measures weighted by occupancy: they do not interpolate between voxels as `dvh` does, and
agree with it to within the dose's change over a voxel. Doses and occupancies have any equal shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..errors import DosePredictionError

__all__ = [
    "dose_at_percents",
    "generalized_eud",
    "mean_dose",
    "percentiles",
    "soft_shares",
    "soft_volumes",
]


def mean_dose(dose: torch.Tensor, occupancy: torch.Tensor) -> torch.Tensor:
    """Mean dose in Gy, a scalar."""
    return (dose * occupancy).sum() / _total(occupancy)


def generalized_eud(dose: torch.Tensor, occupancy: torch.Tensor, a: float) -> torch.Tensor:
    """gEUD = (mean of dose^a)^(1/a) in Gy, a scalar; doses are held above 1e-3 Gy.

    Raises:
        DosePredictionError: a is 0, or the structure is empty.
    """
    if a == 0:
        raise DosePredictionError("gEUD's exponent a may not be 0; 1 gives the mean dose.")
    held = dose.clamp(min=1e-3)
    highest = held.max().detach()  # scaled, so that no power overflows
    return highest * mean_dose((held / highest) ** a, occupancy) ** (1.0 / a)


def dose_at_percents(
    dose: torch.Tensor, occupancy: torch.Tensor, percents: Sequence[float]
) -> torch.Tensor:
    """D_x for each percentage x, Gy, `(percents,)`; linear between sorted voxels.

    The gradient reaches the two voxels between whose doses D_x lies.

    Raises:
        DosePredictionError: the structure is empty.
    """
    weight = occupancy.reshape(-1).to(dose.dtype)
    inside = weight > 0
    values, order = torch.sort(dose.reshape(-1)[inside], descending=True)
    weight = weight[inside][order]
    # A voxel's own dose stands at the middle of the volume that it fills.
    rank = (weight.cumsum(0) - 0.5 * weight) / _total(occupancy).to(dose.dtype)
    wanted = torch.as_tensor(percents, dtype=dose.dtype, device=dose.device) / 100.0
    after = torch.searchsorted(rank.contiguous(), wanted).clamp(max=rank.numel() - 1)
    before = (after - 1).clamp(min=0)
    gap = rank[after] - rank[before]
    share = torch.where(gap > 0, (wanted - rank[before]) / gap.clamp(min=1e-12), 0.0)
    share = share.clamp(0.0, 1.0)
    return values[before] + share * (values[after] - values[before])


def percentiles(ascending: torch.Tensor, percents: Sequence[float]) -> torch.Tensor:
    """`numpy.percentile` of sorted values: linear between voxels, as the challenge scores.

    Args:
        ascending: `(voxels,)`, sorted, not empty.
        percents: 0…100.

    Returns:
        `(percents,)`; the gradient reaches the two voxels between whose values each lies.
    """
    last = ascending.numel() - 1
    positions = [min(max(percent / 100.0, 0.0), 1.0) * last for percent in percents]
    below = [int(position) for position in positions]
    above = [min(index + 1, last) for index in below]
    share = ascending.new_tensor([p - index for p, index in zip(positions, below, strict=True)])
    return torch.lerp(ascending[below], ascending[above], share)


def soft_volumes(
    dose: torch.Tensor,
    occupancy: torch.Tensor,
    levels_gy: Sequence[float],
    slope_per_gy: float = 10.0,
) -> torch.Tensor:
    """Share of the volume above each level, 0…1, `(levels,)`; a sigmoid in place of the step.

    Raises:
        DosePredictionError: the structure is empty.
    """
    total = _total(occupancy)
    shares = [
        (torch.sigmoid(slope_per_gy * (dose - level)) * occupancy).sum() / total
        for level in levels_gy
    ]
    return torch.stack(shares)


def soft_shares(
    doses: torch.Tensor, levels_gy: Sequence[float], slope_per_gy: float = 10.0
) -> torch.Tensor:
    """`soft_volumes` of voxels `(voxels,)` that lie wholly in the structure, all levels at once."""
    levels = doses.new_tensor(list(levels_gy))
    return torch.sigmoid(slope_per_gy * (doses - levels[:, None])).mean(dim=1)


def _total(occupancy: torch.Tensor) -> torch.Tensor:
    total = occupancy.sum()
    if not bool(total > 0):
        raise DosePredictionError("The structure is empty: it has no dose to differentiate.")
    return total
