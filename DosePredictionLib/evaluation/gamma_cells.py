"""The least gamma within cells of eight voxels, between which the dose is trilinear."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["least_in_cells"]

_DESCENTS = 4  # linearizations of the trilinear dose in a cell where it is far from linear
_BENT = 0.05  # dose criteria by which a linearized dose may be wrong
_FLAT = 1e-12


def least_in_cells(
    corners: list[torch.Tensor], corner: torch.Tensor, width: torch.Tensor
) -> torch.Tensor:
    """Least gamma over one cell each, `(pairs,)`.

    Args:
        corners: dose differences at the cells' eight corners, `(pairs,)` each, in dose criteria, x
            fastest.
        corner: `(pairs, 3)` positions (z, y, x) of the lowest corners from the reference voxel, in
            distance criteria.
        width: `(3,)` of a cell, in distance criteria.
    """
    import torch

    lows = [corner[:, axis] for axis in range(3)]
    highs = [corner[:, axis] + width[axis] for axis in range(3)]
    nearest = [torch.clamp(torch.zeros_like(a), a, b) for a, b in zip(lows, highs, strict=True)]
    least, bent = _descend(corners, nearest, lows, highs, width, 1)
    # Where the dose in the cell is far from linear, more steps, and from the best corner too.
    rows = torch.nonzero(bent > _BENT).squeeze(1)
    if rows.numel():
        corners = [c[rows] for c in corners]
        lows, highs = [a[rows] for a in lows], [b[rows] for b in highs]
        middle = [0.5 * (low + high) for low, high in zip(lows, highs, strict=True)]
        starts = ([p[rows] for p in nearest], middle, _best_corner(corners, lows, highs))
        for start in starts:
            found, _ = _descend(corners, start, lows, highs, width, _DESCENTS)
            least[rows] = torch.minimum(least[rows], found)
    return least.sqrt()


def _descend(
    corners: list[torch.Tensor],
    point: list[torch.Tensor],
    lows: list[torch.Tensor],
    highs: list[torch.Tensor],
    width: torch.Tensor,
    steps: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Least gamma² met while stepping from `point` to the optimum of the linearized dose.

    Returns:
        It, and by how many dose criteria the last step's linear dose was wrong.
    """
    import torch

    value, slopes = _trilinear(corners, point, lows, width)
    least = value * value + sum(p * p for p in point)
    bent = torch.zeros_like(value)
    for _ in range(steps):
        moved = _least_of_linear(value, slopes, point, lows, highs)
        expected = value + sum(
            slope * (new - old) for slope, new, old in zip(slopes, moved, point, strict=True)
        )
        point = moved
        value, slopes = _trilinear(corners, point, lows, width)
        bent = (value - expected).abs()
        least = torch.minimum(least, value * value + sum(p * p for p in point))
    return least, bent


def _best_corner(
    corners: list[torch.Tensor], lows: list[torch.Tensor], highs: list[torch.Tensor]
) -> list[torch.Tensor]:
    """Position (z, y, x) of the corner with the least gamma, for each cell."""
    import torch

    sides = list(itertools.product((0, 1), repeat=3))
    squares = []
    for values, side in zip(corners, sides, strict=True):
        position = [high if s else low for s, low, high in zip(side, lows, highs, strict=True)]
        squares.append(values * values + sum(p * p for p in position))
    chosen = torch.stack(squares).argmin(dim=0)
    upper = torch.tensor(sides, device=chosen.device, dtype=torch.bool)[chosen]
    return [torch.where(upper[:, axis], highs[axis], lows[axis]) for axis in range(3)]


def _trilinear(
    corners: list[torch.Tensor],
    point: list[torch.Tensor],
    lows: list[torch.Tensor],
    width: torch.Tensor,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Value and slopes (z, y, x) of the trilinear function of eight corners at a point."""
    z, y, x = ((p - low) / w for p, low, w in zip(point, lows, width, strict=True))
    c = corners
    dx = [c[1] - c[0], c[3] - c[2], c[5] - c[4], c[7] - c[6]]
    along_x = [c[0] + x * dx[0], c[2] + x * dx[1], c[4] + x * dx[2], c[6] + x * dx[3]]
    dy = [along_x[1] - along_x[0], along_x[3] - along_x[2]]
    along_y = [along_x[0] + y * dy[0], along_x[2] + y * dy[1]]
    dz = along_y[1] - along_y[0]
    slope_x0, slope_x1 = dx[0] + y * (dx[1] - dx[0]), dx[2] + y * (dx[3] - dx[2])
    slopes = [
        dz / width[0],
        (dy[0] + z * (dy[1] - dy[0])) / width[1],
        (slope_x0 + z * (slope_x1 - slope_x0)) / width[2],
    ]
    return along_y[0] + z * dz, slopes


def _least_of_linear(
    value: torch.Tensor,
    slopes: list[torch.Tensor],
    point: list[torch.Tensor],
    lows: list[torch.Tensor],
    highs: list[torch.Tensor],
) -> list[torch.Tensor]:
    """Point of a box where (linear function)² + distance² is least.

    With the residual s at the solution, each coordinate is `clip(-s * slope)`: one falling equation
    for s, linear between the six values of s at which a coordinate begins or ends to be clipped.
    """
    import torch

    constant = value
    for slope, position in zip(slopes, point, strict=True):
        constant = constant - slope * position
    box = list(zip(slopes, lows, highs, strict=True))

    def excess(residual: torch.Tensor) -> torch.Tensor:
        total = constant - residual
        for slope, low, high in box:
            total = total + slope * torch.clamp(-residual * slope, low, high)
        return total

    below, above = constant, constant
    for slope, low, high in box:
        below = below + torch.minimum(slope * low, slope * high)
        above = above + torch.maximum(slope * low, slope * high)
    at_below, at_above = excess(below), excess(above)
    for slope, low, high in box:
        safe = torch.where(slope.abs() > _FLAT, slope, _FLAT)
        for edge in (low, high):
            kink = torch.minimum(torch.maximum(-edge / safe, below), above)
            value = excess(kink)
            under = value >= 0
            below, at_below = torch.where(under, kink, below), torch.where(under, value, at_below)
            above, at_above = torch.where(under, above, kink), torch.where(under, at_above, value)
    share = at_below / torch.clamp(at_below - at_above, min=_FLAT)
    residual = below + share.clamp(0.0, 1.0) * (above - below)
    return [torch.clamp(-residual * slope, low, high) for slope, low, high in box]
