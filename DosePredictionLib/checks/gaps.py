"""Slices left out of a contour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..findings import Finding
from .view import CaseView, position

__all__ = ["check_gaps"]


def check_gaps(view: CaseView) -> list[Finding]:
    """Organs and external contours with slices left out. A target may be of several parts."""
    findings = []
    for region in view.regions.values():
        others = tuple(axis for axis in range(3) if axis != view.axial_axis)
        filled = np.asarray(region.mask.any(axis=others))
        missing = np.flatnonzero(~filled)
        if missing.size == 0 or (region.channel.role == "target" and not _is_comb(filled)):
            continue
        index = [float(p.start + p.stop - 1) / 2 for p in region.box]
        index[view.axial_axis] = float(region.box[view.axial_axis].start + missing[0])
        place = position(view.case.grid.world_from_index(index[::-1]))
        message = (
            f"{region.name} has no contour on {missing.size} of the {filled.size} slices that it "
            f"spans, the first at z = {place[2]:.1f} mm."
        )
        remedy = "Interpolate the missing contours."
        findings.append(Finding("structure-gaps", "warning", message, remedy, region.name, place))
    return findings


def _is_comb(filled: NDArray[np.bool_]) -> bool:
    """Whether every contoured slice stands alone: drawn on each n-th, and not interpolated."""
    _, count = ndimage.label(filled)
    return bool(count >= 4 and count == np.count_nonzero(filled))
