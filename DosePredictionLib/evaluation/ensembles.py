"""How well samples describe what may come: CRPS, and spread beside error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import DosePredictionError

__all__ = ["crps", "rank_correlation", "spread_by_error"]


def crps(samples: NDArray, value: NDArray) -> NDArray[np.float64]:
    """Continuous ranked probability score, in the values' unit; lower is better.

        mean |x − y| − ½ mean |x − x'| over pairs of different samples

    which is fair to few samples (Ferro 2014, doi 10.1002/qj.2270). Of one sample, or of a
    regression, it is |x − y| (Gneiting and Raftery 2007, doi 10.1198/016214506000001437).

    Args:
        samples: `(samples, …)`.
        value: what came, `(…)`.

    Raises:
        DosePredictionError: there is no sample, or a value is not finite.
    """
    if not len(samples) or not (np.isfinite(samples).all() and np.isfinite(value).all()):
        raise DosePredictionError("A CRPS takes one sample or more, and finite values.")
    count = len(samples)
    apart: NDArray[np.float64] = np.abs(samples - value).mean(axis=0, dtype=np.float64)
    if count == 1:
        return apart
    ordered = np.sort(np.asarray(samples, dtype=np.float64), axis=0)
    weights = 2.0 * np.arange(count) - (count - 1)
    pairs = np.tensordot(weights, ordered, axes=1)  # Σ of |x − x'| over unordered pairs
    result: NDArray[np.float64] = apart - pairs / (count * (count - 1))
    return result


def spread_by_error(samples: NDArray, value: NDArray) -> float:
    """Root of the mean variance of samples over their mean's RMSE: 1 where they fit each other.

    The mean of few samples has a variance of its own, (n + 1) / n of it (Fortin et al. 2014, doi
    10.1175/JHM-D-14-0008.1).

    Args:
        samples: `(samples, …)`, two or more.
        value: what came, `(…)`.
    """
    count = len(samples)
    variance = np.var(samples, axis=0, ddof=1, dtype=np.float64).mean()
    squares = np.square(samples.mean(axis=0, dtype=np.float64) - value).mean()
    return float(np.sqrt((count + 1) / count * variance / squares))


def rank_correlation(one: NDArray, other: NDArray) -> float:
    """Spearman's, over voxels `(n,)`; 0 where one of them is constant."""
    from scipy.stats import spearmanr

    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one, other).statistic)
