"""Torch twins of channels, for what a gradient must pass: from a structure to the network's input.

Where a twin is defined for the same values as the NumPy channel, both give the same. A network that
is to pull at a contour (or a sampler's guidance, or a loss on inputs) uses these. A Euclidean
distance and a threshold have no useful gradient: they keep their values and get the surrogates that
are stated here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...geometry import signed_distance_mm
from ...interpolation import box_weights
from ...mask import to_binary
from ...volume import Grid
from ..strips import EDGE_TOLERANCE

__all__ = [
    "soft_disjoint",
    "soft_distance",
    "soft_occupancy",
    "soft_strips",
    "soft_target_dose",
    "straight_binary",
]


def soft_occupancy(occupancy: Tensor, source: Grid, target: Grid) -> Tensor:
    """`Mask.resampled_to` between LPS-ordered, axis-aligned grids; linear in the occupancy.

    Args:
        occupancy: float `(…, z, y, x)` on `source`.

    Returns:
        `(…, z, y, x)` on `target`.
    """
    result = occupancy
    for axis in range(3):
        start = (target.origin[axis] - source.origin[axis]) / source.spacing[axis]
        step = target.spacing[axis] / source.spacing[axis]
        weights = box_weights(source.size[axis], target.size[axis], start, step).toarray()
        matrix = torch.from_numpy(weights).to(result)
        result = torch.tensordot(result.movedim(-1 - axis, -1), matrix.T, 1).movedim(-1, -1 - axis)
    return result


def straight_binary(occupancy: Tensor) -> Tensor:
    """`to_binary`, 0 or 1; the surrogate gradient is that of the occupancy itself."""
    inside = torch.from_numpy(to_binary(occupancy.detach().cpu().numpy())).to(occupancy)
    return inside + occupancy - occupancy.detach()


def soft_disjoint(masks: Tensor, order: Sequence[int]) -> Tensor:
    """Nested targets made disjoint as `structure_masks` does, `(channel, z, y, x)`.

    Args:
        order: indices of the targets with a level, the one that wins first (`disjoint_order`).
    """
    parts = list(masks.unbind(0))
    taken = torch.zeros_like(parts[0])
    for index in order:
        parts[index] = torch.minimum(parts[index], 1 - taken)
        taken = taken + parts[index]
    return torch.stack(parts)


def soft_strips(
    target: Tensor,
    body: Tensor,
    angles: Sequence[int],
    spacing_mm: Sequence[float],
    margin_mm: float = 0.0,
) -> Tensor:
    """`strip_masks` of an occupancy: `(angle, z, y, x)`, 0…1.

    With u the projection of a voxel on the strip's normal and t the target on its slice,

        S(u) = body · min( max{t(q): q ≤ u + m}, max{t(q): q ≥ u − m} )

    which is the strip where t is 0 or 1, is above a half where the strip of {t > ½} is, and gives
    its gradient to the voxel of the target that limits the strip on the nearer side.

    Args:
        target: float `(z, y, x)`, 0…1.
        body: likewise.
        angles: degrees.
        spacing_mm: (x, y, z).
        margin_mm: added at both ends.
    """
    depth, height, width = target.shape
    x = torch.arange(width, device=target.device, dtype=torch.float64) * spacing_mm[0]
    y = torch.arange(height, device=target.device, dtype=torch.float64) * spacing_mm[1]
    reach_mm = margin_mm + EDGE_TOLERANCE * min(spacing_mm[0], spacing_mm[1])
    strips = []
    for angle in angles:
        radians = math.radians(angle)
        along = (math.cos(radians) * x[None, :] + math.sin(radians) * y[:, None]).reshape(-1)
        places, order = along.sort()
        profile = target.reshape(depth, -1)[:, order]
        below = profile.cummax(1).values
        above = profile.flip(1).cummax(1).values.flip(1)
        last = torch.searchsorted(places, along + reach_mm, right=True) - 1
        first = torch.searchsorted(places, along - reach_mm)
        within = torch.minimum(below[:, last], above[:, first])
        strips.append(within.reshape(target.shape) * body)
    return torch.stack(strips)


def soft_distance(
    occupancy: Tensor, spacing_mm: tuple[float, float, float], clip_mm: float
) -> Tensor:
    """A distance channel `(z, y, x)`: the exact Euclidean distance of the binary mask, over
    `clip_mm`.

    Surrogate gradient: to fill a share δ of a voxel at the surface moves the surface outwards by δ
    of the smallest spacing, so that there ∂distance/∂occupancy = −spacing/clip; elsewhere 0.
    """
    mask = to_binary(occupancy.detach().cpu().numpy())
    distance = signed_distance_mm(mask, spacing_mm, clip_mm) / clip_mm
    exact = torch.from_numpy(distance).to(occupancy)
    step = min(spacing_mm) / clip_mm
    surrogate = -step * occupancy * (exact.abs() <= step)
    return exact + surrogate - surrogate.detach()


def soft_target_dose(masks: Tensor, levels: Mapping[int, float]) -> Tensor:
    """The target-dose channel `(z, y, x)` of masks `(channel, z, y, x)`.

    Args:
        levels: as `target_levels` gives them.
    """
    return torch.stack([masks[index] * level for index, level in levels.items()]).amax(0)
