"""Split-conformal prediction: intervals that hold a stated share, whatever the errors look like.

If the errors of n calibration patients and of a new one are exchangeable, the new one lies among
the n with equal chances for every rank. An interval that ends at the error of rank
ceil((n + 1)(1 - alpha)) therefore holds at least the share 1 - alpha, for any n and distribution
(Vovk, Gammerman, Shafer 2005, doi 10.1007/b106715; Lei et al. 2018,
doi 10.1080/01621459.2017.1307116). NumPy and SciPy alone.

Shares are whole percents, so that ranks are exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import DosePredictionError

__all__ = [
    "SCALE_FLOOR_GY",
    "conformal_quantile",
    "coverage_range",
    "curve_scores",
    "interval_score",
    "monotone_band",
    "residual_interval",
    "smallest_count",
]

Array = NDArray[np.float64]

SCALE_FLOOR_GY = 0.5
"""Where curves agree better than this, a deviation is measured against this."""


def smallest_count(percent: int) -> int:
    """The fewest calibration patients that support a share: 9 for 90 %, 19 for 95 %."""
    return -(-percent // (100 - percent))


def conformal_quantile(scores: NDArray, percent: int) -> float:
    """The score of rank ceil((n + 1) · percent / 100): a new one is at most this in that share.

    Args:
        scores: one a patient, `(n,)`.

    Raises:
        DosePredictionError: there are too few, or one is not finite.
    """
    return float(_sorted(scores, percent)[_rank(scores.size, percent) - 1])


def residual_interval(residuals: NDArray, percent: int) -> tuple[float, float]:
    """Where a new residual lies in a share of cases.

    Both ends are residuals themselves, with as many left out below as above, or one more; where
    but one may be left out (below 19 patients for 90 %), the interval is symmetric about 0, by the
    absolute residuals.

    Args:
        residuals: plan minus prediction, `(n,)`.

    Raises:
        DosePredictionError: as `conformal_quantile`.
    """
    ordered = _sorted(residuals, percent)
    rank = _rank(ordered.size, percent)
    below = (ordered.size + 1 - rank) // 2
    if below:
        return float(ordered[below - 1]), float(ordered[below + rank - 1])
    high = conformal_quantile(np.abs(ordered), percent)
    return -high, high


def coverage_range(calibrated: int, tested: int, percent: int) -> tuple[float, float]:
    """Between which percents the share of new patients inside lies with a probability of 90 %.

    Their number is beta-binomial: it varies with the calibration patients as with the new ones
    (Vovk 2012, doi 10.1007/s10994-013-5355-6).

    Args:
        calibrated: number of calibration patients.
        tested: number of new patients.

    Raises:
        DosePredictionError: there are too few calibration patients.
    """
    _require_enough(calibrated, percent)
    rank = _rank(calibrated, percent)
    from scipy import stats  # takes a second, and a window that draws bands needs none of it

    low, high = stats.betabinom(tested, rank, calibrated + 1 - rank).ppf([0.05, 0.95])
    return 100.0 * float(low) / tested, 100.0 * float(high) / tested


def interval_score(low: NDArray, high: NDArray, value: NDArray, percent: int) -> Array:
    """Width, and 2 / alpha times how far a value lies outside; lower is better.

    Gneiting and Raftery 2007, doi 10.1198/016214506000001437.
    """
    outside = np.maximum(low - value, 0.0) + np.maximum(value - high, 0.0)
    result: Array = high - low + 200.0 / (100 - percent) * outside
    return result


def curve_scores(errors: NDArray) -> tuple[Array, Array]:
    """How far each patient's whole curve deviates, and the scale that this is measured by.

    The score is the highest |error| / max(scale, 0.5 Gy) along the curve. A patient's own score
    takes the scale of the others, as a new patient's does: with its own error in the scale it would
    look better than a new one's.

    Args:
        errors: plan minus prediction in Gy, `(patients, volumes)`.

    Returns:
        Scores `(patients,)`, and the scale in Gy, the mean |error| of all, `(volumes,)`.

    Raises:
        DosePredictionError: there are fewer than two patients, or an error is not finite.
    """
    apart = np.abs(np.asarray(errors, dtype=np.float64))
    if len(apart) < 2 or not np.isfinite(apart).all():
        raise DosePredictionError(
            f"Scores of curves take two or more patients with finite doses; got {len(apart)}."
        )
    total = apart.sum(axis=0)
    of_others = np.maximum((total - apart) / (len(apart) - 1), SCALE_FLOOR_GY)
    return (apart / of_others).max(axis=1), np.maximum(total / len(apart), SCALE_FLOOR_GY)


def monotone_band(curve_gy: NDArray, half_width_gy: NDArray) -> tuple[Array, Array]:
    """The part of curve ± half width in which a curve that never rises can lie.

    Nothing that such a curve could pass through is lost, so the band holds as many of them.

    Args:
        curve_gy: D_v in Gy over rising volumes, never rising itself, `(volumes,)`.
        half_width_gy: likewise.

    Returns:
        Lower and upper end in Gy, at least 0, neither rising, `(volumes,)` each.
    """
    low = np.maximum(curve_gy - half_width_gy, 0.0)
    high = np.maximum(curve_gy + half_width_gy, 0.0)
    return np.maximum.accumulate(low[::-1])[::-1], np.minimum.accumulate(high)


def _rank(count: int, percent: int) -> int:
    return -(-(count + 1) * percent // 100)


def _require_enough(count: int, percent: int) -> None:
    if count < smallest_count(percent):
        raise DosePredictionError(
            f"{count} calibration patients cannot support {percent} %: that takes "
            f"{smallest_count(percent)} or more."
        )


def _sorted(values: NDArray, percent: int) -> Array:
    _require_enough(values.size, percent)
    if not np.isfinite(values).all():
        raise DosePredictionError("A residual is NaN or infinite: leave that patient out.")
    return np.sort(np.asarray(values, dtype=np.float64))
