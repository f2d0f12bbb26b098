"""The voxel spacing against the model's card."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..findings import Finding
from .thresholds import (
    SPACING_TOLERANCE,
)
from .view import CaseView

__all__ = ["check_model_spacing"]


def check_model_spacing(view: CaseView) -> list[Finding]:
    """A spacing that the model was not made for."""
    expected = view.expected
    if expected.spacing_mm_min is None and expected.spacing_mm_max is None:
        return []
    order, _ = view.case.grid.axis_order()
    spacing = [view.case.grid.spacing[axis] for axis in order]
    low = expected.spacing_mm_min or (0.0,) * 3
    high = expected.spacing_mm_max or (np.inf,) * 3
    fits = [
        bottom * (1 - SPACING_TOLERANCE) <= own <= top * (1 + SPACING_TOLERANCE)
        for bottom, own, top in zip(low, spacing, high, strict=True)
    ]
    if all(fits):
        return []
    message = (
        f"The voxel spacing ({_by(spacing)} mm) is outside the model's range "
        f"({_by(low)} to {_by(high)} mm)."
    )
    remedy = "The case is resampled to the model's grid; expect a less exact dose."
    return [Finding("spacing-out-of-range", "warning", message, remedy)]


def _by(values: Iterable[float]) -> str:
    return " × ".join(f"{value:.4g}" for value in values)
