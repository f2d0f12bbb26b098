"""The fluence whose dose comes nearest to a given one.

With a dose operator A whose entries are not negative, a wanted dose d and voxel weights w,

    minimize ½ Σ w (A x − d)² subject to x ≥ 0.

AᵀWA has no negative entry, so diag(AᵀWA·1) is not smaller than it: the step that this diagonal
gives never overshoots (the separable surrogate of De Pierro, IEEE Trans. Med. Imaging 14 (1995)
132, doi 10.1109/42.370409). Nesterov's momentum makes it fast, and starts anew where it points
uphill (O'Donoghue and Candès, Found. Comput. Math. 15 (2015) 715, doi 10.1007/s10208-013-9150-3).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from .operator import DoseOperator

__all__ = ["Mimicked", "mimic"]


class Mimicked(NamedTuple):
    """The fluence `(element,)`, not negative, and its dose `(voxel,)`."""

    fluence: Any
    dose: Any


def mimic(
    operator: DoseOperator,
    dose: Any,
    iterations: int = 40,
    weights: Any | None = None,
    start: Any | None = None,
) -> Mimicked:
    """The fluence whose dose comes nearest to a given one. Arrays may be NumPy's or torch's.

    Args:
        operator: from fluence to dose.
        dose: wanted `(voxel,)`; what is negative counts as 0.
        iterations: each takes one dose and one adjoint.
        weights: of the voxels, not negative; None: all alike.
        start: fluence to begin with; None: the adjoint's.
    """
    wanted = dose.clip(0)
    weigh = (lambda values: values) if weights is None else (lambda values: values * weights)
    ones = operator.adjoint(weigh(wanted)) * 0 + 1
    curvature = operator.adjoint(weigh(operator.dose(ones)))
    # An element that no voxel sees would divide by zero: it keeps a fluence of 0.
    step = (curvature > 0) / curvature.clip(_number(curvature.max()) * 1e-6 + 1e-30)
    here = step * operator.adjoint(weigh(wanted)) if start is None else start.clip(0)
    dose_here = operator.dose(here)
    ahead, dose_ahead, momentum = here, dose_here, 1.0
    for _ in range(iterations):
        gradient = operator.adjoint(weigh(dose_ahead - wanted))
        there = (ahead - step * gradient).clip(0)
        dose_there = operator.dose(there)
        moved = there - here
        uphill = _number((gradient * moved).sum()) > 0
        following = 1.0 if uphill else (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ratio = 0.0 if uphill else (momentum - 1) / following
        ahead = there + ratio * moved
        dose_ahead = dose_there + ratio * (dose_there - dose_here)
        here, dose_here, momentum = there, dose_there, following
    return Mimicked(here, dose_here)


def _number(value: Any) -> float:
    return float(value.detach() if hasattr(value, "detach") else value)
