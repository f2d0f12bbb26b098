"""The DVH of a large structure (a body, a lung): its voxels counted by dose, slab by slab.

Between millions of voxels interpolation changes less than a bin of 0.01 Gy, and would take seconds
and gigabytes. Every voxel counts; the mean is that of the voxels; lowest and highest dose are
interpolated as in small structures, among the voxels that come nearest to them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..volume import slabs
from .curve import VolumeCurve
from .sampling import extremes

__all__ = ["LARGE_VOXELS", "CountedDose", "counted_dose"]

LARGE_VOXELS = 300_000
"""Structures of more voxels are counted; smaller ones are interpolated everywhere."""

_BIN_GY = 0.01
_MOST_BINS = 20_000
_CANDIDATES = 2_000  # voxels among which an extreme is sought


@dataclass(frozen=True)
class CountedDose:
    """What the voxels of a structure receive; volumes in voxels.

    Args:
        curve: volume over dose.
        mean_gy: mean dose, weighted by occupancy.
        lowest_gy: lowest interpolated dose.
        highest_gy: highest interpolated dose.
    """

    curve: VolumeCurve
    mean_gy: float
    lowest_gy: float
    highest_gy: float


def counted_dose(dose: NDArray, occupancy: NDArray) -> CountedDose:
    """Count the voxels of a structure by dose.

    Args:
        dose: Gy, `(z, y, x)`, of the structure's box and a margin.
        occupancy: bool or 0…1, of the same shape, not all zero.
    """
    top_gy, is_negative = max(float(dose.max()), 0.0), float(dose.min()) < 0
    width_gy = max(_BIN_GY, top_gy / _MOST_BINS)
    counts = np.zeros(int(top_gy / width_gy) + 3)
    total = weight = 0.0
    for part in slabs(dose.shape):
        inside = _inside(occupancy[part])
        values_gy = dose[part][inside]
        shares = None if occupancy.dtype == bool else occupancy[part][inside].astype(np.float64)
        positive_gy = np.clip(values_gy, 0, None) if is_negative else values_gy
        bins = (positive_gy * np.float32(1 / width_gy)).astype(np.int32)
        found = np.bincount(bins, shares)
        counts[: found.size] += found
        weighted = values_gy if shares is None else values_gy * shares
        total += float(weighted.sum(dtype=np.float64))
        weight += values_gy.size if shares is None else float(shares.sum())
    lowest_gy, highest_gy = _extremes(dose, occupancy, counts, width_gy)
    return CountedDose(
        _curve(counts, width_gy, lowest_gy, highest_gy), total / weight, lowest_gy, highest_gy
    )


def _curve(
    counts: NDArray[np.float64], width_gy: float, lowest_gy: float, highest_gy: float
) -> VolumeCurve:
    """Linear within each bin, from the lowest dose to the highest."""
    filled = np.flatnonzero(counts)
    first, last = int(filled[0]), int(filled[-1])
    within = counts[first : last + 1]
    above = within.sum() - np.append(0.0, np.cumsum(within))
    above[-1] = 0.0
    knots_gy = np.arange(first, last + 2) * width_gy
    knots_gy = np.clip(knots_gy, min(lowest_gy, highest_gy), highest_gy)
    knots_gy[0], knots_gy[-1] = lowest_gy, highest_gy
    return VolumeCurve(np.maximum.accumulate(knots_gy), np.clip(above, 0, None))


def _extremes(
    dose: NDArray, occupancy: NDArray, counts: NDArray[np.float64], width_gy: float
) -> tuple[float, float]:
    """Lowest and highest interpolated dose, sought among the coldest and the hottest voxels."""
    voxels = np.cumsum(counts)
    wanted = min(_CANDIDATES, 0.5 * float(voxels[-1]))
    cold_gy = (int(np.searchsorted(voxels, wanted)) + 1) * width_gy
    hot_gy = int(np.searchsorted(voxels, voxels[-1] - wanted)) * width_gy
    cold: list[NDArray[np.int64]] = []
    hot: list[NDArray[np.int64]] = []
    plane = dose.shape[1] * dose.shape[2]
    for part in slabs(dose.shape):
        inside = _inside(occupancy[part])
        first = part.start * plane
        cold.append(np.flatnonzero(inside & (dose[part] <= cold_gy))[: 4 * _CANDIDATES] + first)
        hot.append(np.flatnonzero(inside & (dose[part] >= hot_gy))[: 4 * _CANDIDATES] + first)
    return extremes(dose, occupancy, _some(cold), _some(hot))


def _inside(occupancy: NDArray) -> NDArray[np.bool_]:
    return occupancy.astype(bool, copy=False)


def _some(found: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """At most a few thousand voxels, evenly from all: on a plateau any of them will do."""
    index = np.concatenate(found)
    return index[:: max(1, index.size // (2 * _CANDIDATES))]
