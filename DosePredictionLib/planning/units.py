"""Monitor units of given shapes: those whose dose comes nearest, none too small to be given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..beams.mimic import mimic

__all__ = ["DenseOperator", "fit_units"]

Single = NDArray[np.float32]
_ROUNDS = 3


class DenseOperator:
    """A dose influence matrix without zeros, `(voxel, shape)`. See `DoseOperator`."""

    def __init__(self, matrix: Single) -> None:
        self._matrix = matrix

    @property
    def elements(self) -> int:
        """Number of shapes."""
        return int(self._matrix.shape[1])

    def dose(self, fluence: Single) -> Single:
        """`(voxel,)` from `(shape,)`."""
        return np.asarray(self._matrix @ fluence)

    def adjoint(self, dose: Single) -> Single:
        """`(shape,)` from `(voxel,)`."""
        return np.asarray(self._matrix.T @ dose)


def fit_units(
    matrix: Single, wanted: Single, weights: Single, least: float, iterations: int
) -> NDArray[np.float64]:
    """Monitor units of each shape, 0 or at least `least`.

    A fit without a least comes first. What gets less than half of it is dropped, the rest of what
    gets less is given the least, and the others are fitted anew around it.

    Args:
        matrix: dose of one unit of each shape, `(voxel, shape)`, not negative.
        wanted, weights: `(voxel,)`.
    """
    units = np.zeros(matrix.shape[1])
    free = np.ones(matrix.shape[1], dtype=bool)
    left = wanted
    start = None
    for round_ in range(_ROUNDS + 1):
        fitted = mimic(DenseOperator(matrix[:, free]), left, iterations, weights, start).fluence
        units[free] = fitted
        small = free & (units < least)
        if not small.any() or round_ == _ROUNDS:
            break
        units[small & (units < least / 2)] = 0
        units[small & (units >= least / 2)] = least
        free &= ~small
        left = wanted - matrix[:, ~free] @ units[~free].astype(np.float32)
        start = units[free].astype(np.float32)
    units[(units > 0) & (units < least / 2)] = 0
    units[(units > 0) & (units < least)] = least
    return np.round(units, 4)
