"""The CT's values against the model's card."""

from __future__ import annotations

import numpy as np

from ..findings import Finding
from .thresholds import (
    BEYOND_HU_CC,
    METAL_HU,
)
from .view import CaseView, position

__all__ = ["check_model_hu_range"]


def check_model_hu_range(view: CaseView) -> list[Finding]:
    """CT values beyond those the model has seen, inside the body alone: padding does not matter."""
    expected = view.expected
    low, high = view.hu_range
    beyond_low = expected.hu_min is not None and low < expected.hu_min
    # What exceeds metal's threshold, the rule on metal states.
    beyond_high = expected.hu_max is not None and expected.hu_max < min(high, METAL_HU)
    if not (beyond_low or beyond_high):
        return []
    ct = view.coarse_ct
    body = view.body
    values = ct.array[body]
    beyond = np.zeros(values.shape, dtype=bool)
    if expected.hu_min is not None:
        beyond |= values < expected.hu_min
    if expected.hu_max is not None and beyond_high:
        beyond |= values > expected.hu_max
    cc = float(np.count_nonzero(beyond)) * ct.grid.voxel_volume_cc
    if cc < BEYOND_HU_CC:
        return []
    message = (
        f"About {cc:.1f} cc of the body lie outside the HU that the model has seen "
        f"({_end(expected.hu_min)} to {_end(expected.hu_max)} HU); the CT runs from {low:g} to "
        f"{high:g} HU."
    )
    remedy = "Check the CT for metal and artefacts; the dose there is uncertain."
    index = np.argwhere(body)[beyond]
    place = position(ct.grid.world_from_index(np.median(index, axis=0)[::-1]))
    return [Finding("hu-out-of-range", "warning", message, remedy, position_mm=place)]


def _end(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"
