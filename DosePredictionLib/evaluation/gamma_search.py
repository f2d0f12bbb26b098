"""The search for the least gamma, ring by ring of cells outwards."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .gamma_cells import least_in_cells

if TYPE_CHECKING:
    import torch

__all__ = ["GammaSearch"]

_PAIRS_AT_ONCE = 4_000_000  # cells tested against a bound in one step; ~100 MB
_SOLVED_AT_ONCE = 500_000
_TOLERANCE = 2e-3  # a cell that cannot lower gamma by more is not searched


class GammaSearch:
    """Two doses on one grid, prepared for searching.

    A cell is the box between eight neighboring evaluated voxels, counted by its lowest corner.
    """

    def __init__(
        self, reference: torch.Tensor, evaluated: torch.Tensor, spacing_mm: Sequence[float]
    ) -> None:
        import torch

        self.reference, self.evaluated = reference, evaluated
        self.spacing = np.asarray(spacing_mm, dtype=float)[::-1]  # (z, y, x)
        low, high = evaluated, evaluated
        for axis in range(3):
            size = evaluated.shape[axis] - 1
            below, above = low.narrow(axis, 0, size), low.narrow(axis, 1, size)
            low = torch.minimum(below, above)
            high = torch.maximum(high.narrow(axis, 0, size), high.narrow(axis, 1, size))
        self.low, self.high = low.reshape(-1), high.reshape(-1)
        self.cells = tuple(low.shape)

    def run(
        self,
        dose_percent: float,
        distance_mm: float,
        chosen: torch.Tensor,
        global_gy: float | None,
        max_gamma: float | None,
    ) -> torch.Tensor:
        """Gamma `(z, y, x)`; 0 where not chosen.

        Args:
            dose_percent, distance_mm: the criteria.
            chosen: `(z, y, x)` bool, the voxels to evaluate.
            global_gy: what the dose criterion is a percentage of; None: each voxel's own dose.
            max_gamma: where the search ends.
        """
        import torch

        result = torch.zeros_like(self.reference)
        where = torch.nonzero(chosen)
        if where.shape[0] == 0:
            return result
        dose = self.reference[chosen]
        percent = dose_percent / 100.0
        scale = 1.0 / (
            percent * dose if global_gy is None else torch.full_like(dose, percent * global_gy)
        )
        best = ((self.evaluated[chosen] - dose) * scale).abs()
        if max_gamma is not None:
            best = best.clamp(max=max_gamma)
        self._descend(distance_mm, where, dose, scale, best)
        result[chosen] = best
        return result

    def _descend(
        self,
        distance_mm: float,
        where: torch.Tensor,
        dose: torch.Tensor,
        scale: torch.Tensor,
        best: torch.Tensor,
    ) -> None:
        """Lower `best` `(voxels,)` in place, ring by ring of cells outwards."""
        import torch

        rings = _Rings(self.spacing / distance_mm, self.reference.shape)
        active = torch.arange(best.shape[0], device=best.device)
        while active.numel():
            nearest = rings.nearest
            active = active[best[active] > nearest + _TOLERANCE]
            if not active.numel():
                return
            reach = float(best[active].max())
            offsets = rings.take(max(8, _PAIRS_AT_ONCE // max(int(active.numel()), 1)), reach)
            if offsets is None:
                return
            for rows in active.split(max(1, _PAIRS_AT_ONCE // offsets.shape[0])):
                self._test(rings.steps, offsets, rows, where, dose, scale, best)

    def _test(
        self,
        steps: NDArray[np.float64],
        offsets: NDArray[np.int64],
        rows: torch.Tensor,
        where: torch.Tensor,
        dose: torch.Tensor,
        scale: torch.Tensor,
        best: torch.Tensor,
    ) -> None:
        """Search the cells at `offsets` around the voxels `rows` that a bound does not exclude."""
        import torch

        device = best.device
        table = torch.as_tensor(offsets, device=device)
        corner = torch.as_tensor(offsets * steps, device=device, dtype=best.dtype)
        width = torch.as_tensor(steps, device=device, dtype=best.dtype)
        near = torch.clamp(torch.maximum(corner, -(corner + width)), min=0.0)
        near_square = (near * near).sum(dim=1)
        flat = torch.zeros((rows.shape[0], table.shape[0]), dtype=torch.int64, device=device)
        valid = torch.ones_like(flat, dtype=torch.bool)
        for axis in range(3):
            index = where[rows, axis][:, None] + table[None, :, axis]
            valid &= (index >= 0) & (index < self.cells[axis])
            flat = flat * self.cells[axis] + index.clamp(0, self.cells[axis] - 1)
        target = dose[rows][:, None]
        gap = torch.maximum(self.low[flat] - target, target - self.high[flat]).clamp(min=0.0)
        bound = near_square[None, :] + (gap * scale[rows][:, None]) ** 2
        limit = (best[rows] - _TOLERANCE).clamp(min=0.0)
        # The nearest cells first: what they find spares searching the others.
        promising = valid & (bound < (limit * limit)[:, None])
        pair_row, pair_cell = torch.nonzero(promising, as_tuple=True)
        for part in torch.arange(pair_row.shape[0], device=device).split(_SOLVED_AT_ONCE):
            voxel, cell = rows[pair_row[part]], pair_cell[part]
            corners = self._corner_differences(
                where[voxel] + table[cell], dose[voxel], scale[voxel]
            )
            found = least_in_cells(corners, corner[cell], width)
            best.scatter_reduce_(0, voxel, found, "amin")

    def _corner_differences(
        self, cell: torch.Tensor, dose: torch.Tensor, scale: torch.Tensor
    ) -> list[torch.Tensor]:
        """Dose differences at the eight corners in dose criteria, x fastest."""
        _, y, x = self.evaluated.shape
        flat = (cell[:, 0] * y + cell[:, 1]) * x + cell[:, 2]
        values = self.evaluated.reshape(-1)
        return [
            (values[flat + (a * y + b) * x + c] - dose) * scale
            for a, b, c in itertools.product((0, 1), repeat=3)
        ]


class _Rings:
    """Offsets of cells from a voxel, in order of their distance.

    Args:
        steps: cell widths (z, y, x) in distance criteria.
        shape: of the grid, beyond which no offset leads.
    """

    def __init__(self, steps: NDArray[np.float64], shape: Sequence[int]) -> None:
        self.steps = steps
        self._shape = np.asarray(shape)
        self._taken = 0
        self._radius = 0.0
        self._offsets = np.empty((0, 3), dtype=np.int64)
        self._distance = np.empty(0)
        self._grow(2.0 * float(steps.max()))

    @property
    def nearest(self) -> float:
        """Distance of the next offset to come, in distance criteria."""
        if self._taken < self._distance.size:
            return float(self._distance[self._taken])
        return self._radius

    def take(self, count: int, reach: float) -> NDArray[np.int64] | None:
        """Up to `count` next offsets nearer than `reach`; None when there are none.

        The first three calls take the 8 cells that touch the voxel, then whole rings, so that
        bounds fall before many cells are tested.
        """
        while self._taken >= self._distance.size and self._radius < reach:
            if not self._grow(min(reach, 2.0 * self._radius)):
                return None
        start = self._taken
        near = int(np.searchsorted(self._distance, reach))
        stop = min(near, start + (8 if start == 0 else min(count, 4 * start)))
        if stop <= start:
            return None
        self._taken = stop
        return self._offsets[start:stop]

    def _grow(self, radius: float) -> bool:
        """Extend the list to a radius; False when the whole grid is in it."""
        most = np.minimum(np.ceil(radius / self.steps).astype(int) + 1, self._shape)
        axes = [np.arange(-n, n) for n in most]
        offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        near = np.maximum(np.maximum(offsets * self.steps, -(offsets + 1) * self.steps), 0.0)
        distance = np.sqrt((near**2).sum(axis=1))
        kept = distance <= radius
        order = np.argsort(distance[kept], kind="stable")
        grown = bool(np.any(most < self._shape)) or kept.sum() > self._distance.size
        self._offsets, self._distance = offsets[kept][order], distance[kept][order]
        self._radius = radius
        return grown
