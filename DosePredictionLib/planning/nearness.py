"""The fluence with which most voxels come near to a wanted dose, and by how much each counts.

Least squares give everything for the voxels that no beam reaches: steep edges, and the far bath
that scatter alone makes. Whether a dose is near is judged by gamma instead: within 2 % of the
maximum, or of a dose 2 mm away, where there is more than a tenth of the maximum. So

    a voxel's tolerance is 2 % of the maximum and what the dose changes within 2 mm, together;
    below a tenth of the maximum it counts less;
    what misses by more than the tolerance counts less than its square, as its power of 1.6, by
    weights that are found in turn with the fluence (iteratively reweighted least squares).
    Counted as its distance, as Huber does, fewer of the other criterion, 3 % and 3 mm, would pass.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..beams.mimic import Mimicked, mimic
from ..beams.operator import DoseOperator

__all__ = ["nearest_fluence", "tolerance_weights"]

Single = NDArray[np.float32]

_SHARE = 0.02  # of the maximum
_WITHIN_MM = 2.0
_LOW = 0.1  # of the maximum: where gamma is cut off
_LOW_WEIGHT = 0.3
_LESS = 0.4  # of the square's power of 2
_ROUNDS = 3
_ITERATIONS = 15


def tolerance_weights(wanted: Single, spacing_mm: float, target: NDArray[np.bool_]) -> Single:
    """By how much each voxel `(z, y, x)` counts; 1 in the target and where the dose is flat.

    Args:
        wanted: Gy.
        spacing_mm: isotropic.
        target: whose edges are steep, and count nevertheless.
    """
    highest = float(wanted.max())
    squared = sum(np.square(each) for each in np.gradient(wanted, spacing_mm))
    allowed = (_SHARE * highest) ** 2
    weights = allowed / (allowed + _WITHIN_MM**2 * squared)
    weights = np.where(target, 1.0, weights)
    return np.where(wanted < _LOW * highest, _LOW_WEIGHT * weights, weights).astype(np.float32)


def nearest_fluence(
    operator: DoseOperator,
    wanted: Single,
    weights: Single,
    firm: NDArray[np.bool_],
    iterations: int,
) -> tuple[Mimicked, Single]:
    """The fluence and the weights with which it was found.

    Args:
        wanted: Gy `(voxel,)`, and by how much each voxel counts.
        firm: voxels that keep their weight however far they are missed.
        iterations: of the least squares that come first.
    """
    tolerance = np.float32(_SHARE * float(wanted.max()))
    found, counted = mimic(operator, wanted, iterations, weights), weights
    for _ in range(_ROUNDS):
        missed = np.maximum(np.abs(found.dose - wanted) / tolerance, 1)
        counted = np.where(firm, weights, weights / missed**_LESS).astype(np.float32)
        found = mimic(operator, wanted, _ITERATIONS, counted, found.fluence)
    return found, counted
