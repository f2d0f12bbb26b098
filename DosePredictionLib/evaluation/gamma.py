"""Gamma index in three dimensions (Low et al. 1998, doi 10.1118/1.598248).

For each reference voxel, gamma is the least value of `sqrt((dose difference / dose criterion)² +
(distance / distance criterion)²)` over the evaluated dose. The evaluated dose is trilinear between
its voxels, and the least value is sought continuously inside every cell of eight voxels that can
hold it, not on a lattice of samples: there is no interpolation fraction to choose.

Conventions: the plan is the reference, the prediction is evaluated; the dose criterion is a
percentage of the reference's maximum (global) or of the reference voxel's dose (local); voxels
whose reference dose is below the cut-off are not evaluated; gamma of at most 1 passes. Nothing is
evaluated beyond the grid's outermost voxel centers, and nothing is resampled.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DosePredictionError, GeometryError
from ..volume import Volume
from .arrays import as_mask, require_finite, require_same_grid, voxel_mm

if TYPE_CHECKING:
    import torch

__all__ = ["Criterion", "GammaResult", "gamma", "gamma_pass_rates", "gammas"]

_CRITERION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*/\s*(\d+(?:\.\d+)?)\s*mm\s*\Z", re.IGNORECASE)
_PAIRS_AT_ONCE = 4_000_000  # cells tested against a bound in one step; ~100 MB
_SOLVED_AT_ONCE = 500_000
_TOLERANCE = 2e-3  # a cell that cannot lower gamma by more is not searched
_DESCENTS = 4  # linearizations of the trilinear dose in a cell where it is far from linear
_BENT = 0.05  # dose criteria by which a linearized dose may be wrong
_FLAT = 1e-12
_ROUNDING = 1e-5  # gamma of 1 in the arithmetic of float32


@dataclass(frozen=True)
class Criterion:
    """A dose and a distance criterion.

    Raises:
        DosePredictionError: one of them is not positive.
    """

    dose_percent: float
    distance_mm: float

    def __post_init__(self) -> None:
        values = (self.dose_percent, self.distance_mm)
        if not all(np.isfinite(value) and value > 0 for value in values):
            raise DosePredictionError(
                f"Gamma needs a dose criterion above 0 % and a distance criterion above 0 mm; got "
                f"{self.dose_percent:g}%/{self.distance_mm:g}mm."
            )

    @classmethod
    def parse(cls, text: str) -> Criterion:
        """Read `3%/3mm`.

        Raises:
            DosePredictionError: the text is no such pair.
        """
        match = _CRITERION.match(text)
        if match is None:
            raise DosePredictionError(f"Gamma criterion {text!r} cannot be read; write 3%/3mm.")
        return cls(float(match[1]), float(match[2]))

    def __str__(self) -> str:
        return f"{self.dose_percent:g}%/{self.distance_mm:g}mm"


@dataclass(frozen=True, eq=False)
class GammaResult:
    """Gamma of every evaluated voxel.

    Args:
        criterion: what it was computed with.
        gamma: `(z, y, x)` float32, 0 where not evaluated; on the device of the doses.
        evaluated: `(z, y, x)` bool: the reference reaches the cut-off.
        normalization_gy: dose that a global criterion and the cut-off are a percentage of.
        local: whether the dose criterion is a percentage of each voxel's own reference dose.
        lower_cutoff_percent: of the normalization.
        max_gamma: cap, or None.
    """

    criterion: Criterion
    gamma: Any = field(repr=False)
    evaluated: Any = field(repr=False)
    normalization_gy: float
    local: bool
    lower_cutoff_percent: float
    max_gamma: float | None

    def pass_rate_percent(self, mask: Volume | Any | None = None) -> float | None:
        """Percent of evaluated voxels (within `mask`) with gamma of at most 1.

        None where no voxel was evaluated.
        """
        values = self._values(mask)
        if values.size == 0:
            return None
        return 100.0 * float(np.count_nonzero(values <= 1.0 + _ROUNDING)) / values.size

    def mean(self, mask: Volume | Any | None = None) -> float | None:
        """Mean gamma of evaluated voxels; None where there are none."""
        values = self._values(mask)
        return float(values.mean(dtype=np.float64)) if values.size else None

    def voxels(self, mask: Volume | Any | None = None) -> int:
        """Number of evaluated voxels."""
        return int(self._values(mask).size)

    def _values(self, mask: Volume | Any | None) -> NDArray[np.float32]:
        evaluated, values = _on_host(self.evaluated), _on_host(self.gamma)
        if mask is not None:
            require_same_grid(values, _on_host_mask(mask), "The gamma map", "the mask")
            evaluated = evaluated & _on_host_mask(mask)
        return values[evaluated]

    def as_json(self, structures: Mapping[str, Volume] | None = None) -> dict[str, Any]:
        """Pass rates and every convention that they rest on."""
        named = {} if structures is None else structures
        return {
            "pass_rate_percent": self.pass_rate_percent(),
            "mean": self.mean(),
            "voxels": self.voxels(),
            "structures": {
                name: {
                    "pass_rate_percent": self.pass_rate_percent(mask),
                    "voxels": self.voxels(mask),
                }
                for name, mask in named.items()
            },
            "reference": "plan",
            "evaluated": "prediction",
            "normalization": "local" if self.local else "global",
            "normalization_gy": self.normalization_gy,
            "lower_cutoff_percent": self.lower_cutoff_percent,
            "interpolated": True,
            "pass_at": 1.0,
            "max_gamma": self.max_gamma,
        }


def gamma(
    reference: Volume | Any,
    evaluated: Volume | Any,
    criterion: Criterion | str = "3%/3mm",
    *,
    spacing_mm: Sequence[float] | None = None,
    lower_cutoff_percent: float = 10.0,
    local: bool = False,
    normalization_gy: float | None = None,
    max_gamma: float | None = None,
) -> GammaResult:
    """Gamma of `evaluated` against `reference`.

    Args:
        reference: the plan's dose, Gy; a `Volume`, or an array or tensor `(z, y, x)`. A tensor on
            a GPU is computed there.
        evaluated: the predicted dose, Gy, on the same grid.
        criterion: `3%/3mm`, or a `Criterion`.
        spacing_mm: voxel spacing (x, y, z), for arrays and tensors only.
        lower_cutoff_percent: voxels whose reference is below this part of the normalization are
            left out; voxels without reference dose always are.
        local: take the dose criterion as a percentage of each voxel's own reference dose.
        normalization_gy: instead of the reference's maximum.
        max_gamma: stop searching at this gamma and report no more than it; faster.

    Raises:
        GeometryError: the grids differ, or have a single voxel along an axis.
        DosePredictionError: a criterion of 0, a dose that is not finite, or a reference without
            any dose.
    """
    (result,) = gammas(
        reference,
        evaluated,
        [criterion],
        spacing_mm=spacing_mm,
        lower_cutoff_percent=lower_cutoff_percent,
        local=local,
        normalization_gy=normalization_gy,
        max_gamma=max_gamma,
    ).values()
    return result


def gammas(
    reference: Volume | Any,
    evaluated: Volume | Any,
    criteria: Sequence[Criterion | str],
    *,
    spacing_mm: Sequence[float] | None = None,
    lower_cutoff_percent: float = 10.0,
    local: bool = False,
    normalization_gy: float | None = None,
    max_gamma: float | None = None,
) -> dict[str, GammaResult]:
    """Gamma for several criteria, by their text; the doses are prepared once. See `gamma`."""
    parsed = [Criterion.parse(c) if isinstance(c, str) else c for c in criteria]
    require_same_grid(reference, evaluated, "The reference dose", "the evaluated dose")
    spacing = voxel_mm(reference, spacing_mm)
    doses = _as_tensor(reference, "The reference"), _as_tensor(evaluated, "The evaluated dose")
    search = _Search(doses[0], doses[1].to(doses[0].device), spacing)
    top_gy = float(doses[0].max()) if normalization_gy is None else float(normalization_gy)
    if not top_gy > 0:
        raise DosePredictionError(
            f"Gamma needs a reference with dose; the normalization is {top_gy:g} Gy."
        )
    if max_gamma is not None and not max_gamma > 0:
        raise DosePredictionError(f"max_gamma must be above 0; got {max_gamma:g}.")
    chosen = (doses[0] >= lower_cutoff_percent / 100.0 * top_gy) & (doses[0] > 0)
    as_numpy = not _is_tensor(reference)
    results = {}
    for each in parsed:
        values = search.run(each, chosen, None if local else top_gy, max_gamma)
        results[str(each)] = GammaResult(
            criterion=each,
            gamma=values.numpy() if as_numpy else values,
            evaluated=chosen.numpy() if as_numpy else chosen,
            normalization_gy=top_gy,
            local=local,
            lower_cutoff_percent=lower_cutoff_percent,
            max_gamma=max_gamma,
        )
    return results


def gamma_pass_rates(
    reference: Volume,
    prediction: Volume,
    criteria: Sequence[Criterion | str],
    structures: Mapping[str, Volume] | None = None,
) -> dict[str, dict[str, Any]]:
    """Pass rates by criterion with the design's defaults, as `evaluate` prints them."""
    results = gammas(reference, prediction, criteria)
    return {name: result.as_json(structures) for name, result in results.items()}


class _Search:
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
        criterion: Criterion,
        chosen: torch.Tensor,
        global_gy: float | None,
        max_gamma: float | None,
    ) -> torch.Tensor:
        """Gamma `(z, y, x)`; 0 where not chosen. Local where `global_gy` is None."""
        import torch

        result = torch.zeros_like(self.reference)
        where = torch.nonzero(chosen)
        if where.shape[0] == 0:
            return result
        dose = self.reference[chosen]
        percent = criterion.dose_percent / 100.0
        scale = 1.0 / (
            percent * dose if global_gy is None else torch.full_like(dose, percent * global_gy)
        )
        best = ((self.evaluated[chosen] - dose) * scale).abs()
        if max_gamma is not None:
            best = best.clamp(max=max_gamma)
        self._descend(criterion.distance_mm, where, dose, scale, best)
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
            found = self._least_in_cells(
                where[voxel] + table[cell], corner[cell], width, dose[voxel], scale[voxel]
            )
            best.scatter_reduce_(0, voxel, found, "amin")

    def _least_in_cells(
        self,
        cell: torch.Tensor,
        corner: torch.Tensor,
        width: torch.Tensor,
        dose: torch.Tensor,
        scale: torch.Tensor,
    ) -> torch.Tensor:
        """Least gamma over one cell each.

        Args:
            cell: `(pairs, 3)` indices of the cells' lowest corners.
            corner: `(pairs, 3)` their positions from the reference voxel, in distance criteria.
            width: `(3,)` of a cell, in distance criteria.
            dose: `(pairs,)` reference.
            scale: `(pairs,)` one over the dose criterion.
        """
        import torch

        corners = self._corner_differences(cell, dose, scale)
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


def _is_tensor(values: Any) -> bool:
    return hasattr(values, "detach")


def _as_tensor(values: Volume | Any, label: str) -> torch.Tensor:
    """A contiguous float32 tensor `(z, y, x)`, checked."""
    import torch

    array: Any = values.array if isinstance(values, Volume) else values
    if _is_tensor(array):
        tensor = array.detach().to(torch.float32).contiguous()
        finite = bool(torch.isfinite(tensor).all())
    else:
        host = np.ascontiguousarray(array, dtype=np.float32)
        require_finite(host, label)
        tensor, finite = torch.from_numpy(host), True
    if not finite:
        raise DosePredictionError(f"{label} holds voxels that are NaN or infinite.")
    if tensor.ndim != 3 or min(tensor.shape) < 2:
        raise GeometryError(
            f"Gamma needs two voxels or more along each of z, y and x; got {tuple(tensor.shape)}."
        )
    return tensor


def _on_host(values: Any) -> NDArray:
    return values.cpu().numpy() if _is_tensor(values) else values


def _on_host_mask(mask: Volume | Any) -> NDArray[np.bool_]:
    return as_mask(mask)
