"""The chance of an outcome by one number: a logistic regression, weakly penalised."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["cross_fitted", "fitted_logistic"]

Array = NDArray[np.float64]

_RIDGE = 0.01


def fitted_logistic(x: Array, happened: Array) -> Callable[[Array], Array]:
    """The chance at any x, as cases of known outcome teach it.

    0.01 of the squared slope, in standard deviations of x, is the penalty: separable outcomes stay
    finite. Where all outcomes agree, or all x, it is their share with Krichevsky and Trofimov's
    half case of each.

    Args:
        x: `(n,)`.
        happened: 0 or 1, `(n,)`.
    """
    total, count = float(happened.sum()), happened.size
    if total in (0, count) or np.ptp(x) == 0:
        return lambda asked: np.full(np.shape(asked), (total + 0.5) / (count + 1))
    center, scale = x.mean(), x.std()
    intercept, slope = _newton((x - center) / scale, happened)

    def chance(asked: Array) -> Array:
        result: Array = special.expit(intercept + slope * (asked - center) / scale)
        return result

    return chance


def cross_fitted(x: Array, happened: Array, group: NDArray, folds: int) -> Array:
    """The chance of each case as the cases of other groups teach it, `(n,)`.

    Args:
        x, happened: see `fitted_logistic`.
        group: what a case belongs to, `(n,)`; a group stays together.
        folds: into how many parts the groups are drawn.
    """
    result = np.empty(x.size)
    order = np.random.default_rng(0).permutation(np.unique(group))
    for fold in range(folds):
        tested = np.isin(group, order[fold::folds])
        if tested.any():
            result[tested] = fitted_logistic(x[~tested], happened[~tested])(x[tested])
    return result


def _newton(x: Array, happened: Array) -> tuple[float, float]:
    """Intercept and slope."""
    design = np.stack([np.ones_like(x), x], axis=1)
    penalty = np.diag([0.0, _RIDGE])
    weights: Array = np.zeros(2)
    for _ in range(50):
        chance = special.expit(design @ weights)
        slope = design.T @ (happened - chance) - penalty @ weights
        curvature = (design * (chance * (1 - chance) + 1e-9)[:, None]).T @ design + penalty
        step = np.linalg.solve(curvature, slope)
        weights = weights + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return float(weights[0]), float(weights[1])
