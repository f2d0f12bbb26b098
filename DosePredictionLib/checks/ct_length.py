"""A CT that ends close to the target."""

from __future__ import annotations

import numpy as np

from ..findings import Finding
from .thresholds import (
    CT_BEYOND_TARGET_MM,
    CUT_AREA_SHARE,
)
from .view import CaseView

__all__ = ["check_ct_length"]


def check_ct_length(view: CaseView) -> list[Finding]:
    """The patient goes on for 5 cm above and below the target: scatter and beams need it."""
    area = np.count_nonzero(view.body, axis=(1, 2))
    planes = np.flatnonzero(area)
    if planes.size == 0 or not view.targets:
        return []
    grid = view.coarse_ct.grid
    z_low, z_high = (grid.origin[2] + grid.spacing[2] * plane for plane in planes[[0, -1]])
    target_low = min(region.z_range_mm[0] for region in view.targets)
    target_high = max(region.z_range_mm[1] for region in view.targets)
    # Where the body tapers off (the vertex) nothing is missing; where it is cut, something is.
    # OpenKBP keeps, beyond the dose, only the contoured structures of the CT: no cut either.
    cut = CUT_AREA_SHARE * area.max()
    ends = (
        ("below", target_low - (z_low - grid.spacing[2] / 2), area[planes[0]] > cut, z_low),
        ("above", z_high + grid.spacing[2] / 2 - target_high, area[planes[-1]] > cut, z_high),
    )
    findings = []
    for word, room_mm, is_cut, z in ends:
        if is_cut and room_mm < CT_BEYOND_TARGET_MM - grid.spacing[2]:
            center = view.targets[0].center_mm
            message = (
                f"The CT ends {max(room_mm, 0):.0f} mm {word} the target (z = {z:.0f} mm); "
                f"{CT_BEYOND_TARGET_MM:.0f} mm are wanted."
            )
            remedy = "Use a longer scan; the dose near its end is uncertain."
            place = (center[0], center[1], float(z))
            findings.append(Finding("ct-short", "warning", message, remedy, position_mm=place))
    return findings
