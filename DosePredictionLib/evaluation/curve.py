"""The cumulative dose-volume curve as an exact piecewise-linear function."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .sampling import Cells

__all__ = ["VolumeCurve", "curve_of_cells"]

Array = NDArray[np.float64]

_MANY = 100_000
_STEP_WIDTH = 1e-5  # of the highest dose: cells narrower than this have one dose


@dataclass(frozen=True)
class VolumeCurve:
    """Volume that receives at least a dose, piecewise linear between knots.

    Two knots at one dose are a step there: part of the structure has exactly that dose.

    Args:
        dose_gy: knots, ascending.
        volume: volume that receives at least that dose, never rising; from the whole to 0.
    """

    dose_gy: Array
    volume: Array

    @property
    def total(self) -> float:
        """The whole volume."""
        return float(self.volume[0])

    def volume_at(self, dose_gy: NDArray) -> Array:
        """Volume that receives at least `dose_gy`, in its shape."""
        wanted = np.asarray(dose_gy, dtype=np.float64)
        knots, volume = self.dose_gy, self.volume
        right = np.searchsorted(knots, wanted, side="left")
        after = np.minimum(right, knots.size - 1)
        before = np.maximum(after - 1, 0)
        gap = knots[after] - knots[before]
        share = np.clip((wanted - knots[before]) / np.where(gap > 0, gap, 1.0), 0.0, 1.0)
        between = volume[before] + share * (volume[after] - volume[before])
        result = np.where(knots[after] == wanted, volume[after], between)
        result = np.where(right == 0, self.total, result)
        return np.where(right == knots.size, 0.0, result)

    def dose_at(self, volume: NDArray) -> Array:
        """Highest dose that at least `volume` receives, in its shape; volume in 0…total."""
        wanted = np.asarray(volume, dtype=np.float64)
        # Within rounding of the whole volume the answer is the lowest dose.
        wanted = np.minimum(wanted, self.total)
        falling = -self.volume
        after = np.searchsorted(falling, -wanted, side="right")  # first knot below `wanted`
        after = np.clip(after, 1, self.volume.size - 1)
        before = after - 1
        drop = self.volume[before] - self.volume[after]
        share = np.clip((self.volume[before] - wanted) / np.where(drop > 0, drop, 1.0), 0.0, 1.0)
        return self.dose_gy[before] + share * (self.dose_gy[after] - self.dose_gy[before])

    def integral(self, power: float = 1.0) -> float:
        """Integral of dose**power over the volume (Simpson's rule on each linear piece)."""
        volume = -np.diff(self.volume)
        low, high = self.dose_gy[:-1], self.dose_gy[1:]
        if power == 1.0:
            return float((volume * (low + high)).sum()) * 0.5
        used = volume > 0
        low, high, volume = low[used], high[used], volume[used]
        mean = (low**power + 4.0 * (0.5 * (low + high)) ** power + high**power) / 6.0
        return float((volume * mean).sum())


def curve_of_cells(cells: Cells) -> VolumeCurve:
    """The curve of cells that each spread evenly over dose ± half width.

    The ramps are added exactly, by sorting where each begins and ends; nothing is binned. Ramps are
    cut where they would leave the structure's lowest and highest dose. Where there are very many
    cells of one size, the doses themselves are the knots: their widths no longer show.
    """
    if cells.dose_gy.size > _MANY and cells.voxels[0] == cells.voxels.min() == cells.voxels.max():
        return _curve_of_samples(cells)
    low = np.clip(cells.dose_gy - cells.half_width_gy, cells.lowest_gy, cells.highest_gy)
    high = np.clip(cells.dose_gy + cells.half_width_gy, cells.lowest_gy, cells.highest_gy)
    step = high - low <= _STEP_WIDTH * max(abs(cells.highest_gy), abs(cells.lowest_gy))
    middle = 0.5 * (low[step] + high[step])
    ramp = ~step
    fall = cells.voxels[ramp] / (high[ramp] - low[ramp])
    dose = np.concatenate([low[ramp], high[ramp], middle])
    slope = np.concatenate([fall, -fall, np.zeros(middle.size)])
    drop = np.concatenate([np.zeros(2 * fall.size), cells.voxels[step]])
    order = np.argsort(dose)
    return _summed(dose[order], slope[order], drop[order], bool(step.any()))


def _curve_of_samples(cells: Cells) -> VolumeCurve:
    """Linear between equally large cells' doses, from the lowest dose to the highest."""
    dose = np.sort(np.clip(cells.dose_gy, cells.lowest_gy, cells.highest_gy))
    knots = np.concatenate([[cells.lowest_gy], dose, [cells.highest_gy]])
    count = dose.size
    # A cell's own dose is its middle: half of it lies above. Cells of one same dose are a step,
    # from all of them at their dose to none of them above it.
    rank = np.arange(count) + 0.5
    repeats = np.zeros(count + 1, dtype=bool)
    repeats[1:-1] = dose[1:] == dose[:-1]
    rank[repeats[1:] & ~repeats[:-1]] -= 0.5
    rank[repeats[:-1]] += 0.5
    rank = np.concatenate([[0.0], rank, [float(count)]])
    volume: Array = (count - rank) * np.float64(cells.voxels[0])
    return VolumeCurve(knots, volume)


def _summed(dose: Array, slope: Array, drop: Array, has_steps: bool) -> VolumeCurve:
    """Sum sorted events: a change of slope, or a drop."""
    gap = np.diff(dose)
    lost = np.concatenate([[0.0], np.cumsum(np.maximum(np.cumsum(slope)[:-1], 0.0) * gap)])
    if has_steps:
        dropped = np.cumsum(drop)
        above = lost + dropped  # lost after the event
        lost = np.stack([above - drop, above], axis=1).reshape(-1)
        dose = np.repeat(dose, 2)
    volume = np.maximum.accumulate(lost)
    return VolumeCurve(dose, volume[-1] - volume)
