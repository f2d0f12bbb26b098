"""Scale times a Gaussian field of fitted correlation length: what a flow must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from .residuals import Residuals

__all__ = ["GaussianField"]

_LAGS = 6  # voxels


@dataclass(frozen=True)
class GaussianField:
    """A stationary field: white noise through a Gaussian kernel.

    Args:
        length_mm: standard deviation of the kernel; at a distance d the field correlates
            exp(−d² / 4 length²) with itself.
        size: standard deviation of residuals in units of their expected |error|.
    """

    length_mm: float
    size: float

    @classmethod
    def fitted(cls, cases: list[Residuals]) -> GaussianField:
        """By least squares on the correlations of residual / scale along the axes, above 5 Gy."""
        sums: dict[tuple[int, int], list[float]] = {}
        variance = []
        for each in cases:
            ratio = np.where(each.high, each.error_gy / np.maximum(each.scale_gy, 1e-3), 0)
            ratio = np.clip(ratio, -8, 8)
            variance.append(float(np.square(ratio[each.high]).mean()))
            for axis in range(3):
                for lag in range(1, _LAGS + 1):
                    pairs = _pairs(ratio, each.high, axis, lag)
                    if pairs.size:
                        mean = float(pairs.mean()) / variance[-1]
                        sums.setdefault((axis, lag), []).append(mean)
        spacing = np.mean([each.spacing_zyx for each in cases], axis=0)
        distances = np.array([lag * spacing[axis] for axis, lag in sums])
        found = np.array([np.mean(each) for each in sums.values()])

        def off(length: float) -> float:
            return float(np.square(np.exp(-np.square(distances / length) / 4) - found).sum())

        best = optimize.minimize_scalar(off, bounds=(1.0, 100.0), method="bounded")
        return cls(float(best.x), float(np.sqrt(np.mean(variance))))

    def sample_gy(self, case: Residuals, seed: int) -> NDArray[np.float32]:
        """A dose, `(z, y, x)`."""
        noise = np.random.default_rng(seed).normal(size=case.dose_gy.shape).astype(np.float32)
        widths = [self.length_mm / each for each in case.spacing_zyx]
        field = ndimage.gaussian_filter(noise, widths, mode="wrap")
        field *= self.size / field.std()
        return case.dose_gy + case.scale_gy * field


def _pairs(ratio: NDArray, inside: NDArray, axis: int, lag: int) -> NDArray:
    one = [slice(None)] * 3
    other = [slice(None)] * 3
    one[axis], other[axis] = slice(lag, None), slice(None, -lag)
    both = inside[tuple(one)] & inside[tuple(other)]
    products: NDArray = (ratio[tuple(one)] * ratio[tuple(other)])[both]
    return products
