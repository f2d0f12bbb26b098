"""Monitor units of given shapes: those whose dose comes nearest, none too small to be given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

__all__ = ["fit_units"]

Array = NDArray[np.float64]

_NO_GAIN = 1e-9


def fit_units(gram: Array, right: Array, least: float = 0.0, start: Array | None = None) -> Array:
    """Monitor units x of each shape, 0 or at least `least`, that minimize ½ xᵀGx − rᵀx.

    A fit without a least comes first. What gets less than half of it is dropped, and the others are
    fitted anew with the least as their bound.

    Args:
        gram: G = AᵀWA of the doses A of one unit of each shape `(voxel, shape)` and the voxels'
            weights W.
        right: r = AᵀW times the wanted dose.
        start: units to begin with.
    """
    units = _bounded(gram, right, np.zeros(right.size) if start is None else start, 0.0)
    if least <= 0:
        return units
    kept = units >= least / 2
    units[~kept] = 0
    units[kept] = _bounded(gram[np.ix_(kept, kept)], right[kept], units[kept].clip(least), least)
    return np.round(units, 4)


def _bounded(gram: Array, right: Array, start: Array, least: float) -> Array:
    """The minimum over x ≥ least, in units in which G has ones on its diagonal."""
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-30))
    matrix, vector = gram / scale / scale[:, None], right / scale
    size = max(float(np.abs(vector).max(initial=0)), 1e-30)

    def objective(x: Array) -> tuple[float, Array]:
        product = matrix @ x
        return float(x @ (product / 2 - vector)) / size, (product - vector) / size

    bounds = [(least * each, None) for each in scale]
    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-12, "gtol": 1e-7}
    here, best = start * scale, np.inf
    while True:  # one run may end at a step that was short, not at the minimum
        found = minimize(
            objective, here, jac=True, bounds=bounds, method="L-BFGS-B", options=options
        )
        if not best - found.fun > _NO_GAIN * abs(found.fun):  # nor where it is no number
            return np.asarray(found.x / scale)
        here, best = found.x, found.fun
