"""Structures outside the body."""

from __future__ import annotations

import numpy as np

from ..findings import Finding, Severity
from .thresholds import (
    COARSE_MM,
    OUTSIDE_ORGAN_SHARE,
    OUTSIDE_TARGET_CC,
    OUTSIDE_TARGET_SHARE,
)
from .view import CaseView, Region, center_mm, center_of, grown, shared_voxels, within

__all__ = ["check_outside_body"]


def check_outside_body(view: CaseView) -> list[Finding]:
    """Targets and organs outside the external contour, or the patient where there is none."""
    findings = []
    for region in (*view.targets, *view.organs):
        outside, place = _outside(view, region)
        cc = outside * region.cc
        is_target = region.channel.role == "target"
        blocks = is_target and outside >= 0.5
        if is_target:
            matters = blocks or (outside >= OUTSIDE_TARGET_SHARE and cc >= OUTSIDE_TARGET_CC)
        else:
            matters = outside >= OUTSIDE_ORGAN_SHARE
        if not matters:
            continue
        body = view.external.name if view.external is not None else "the patient (by threshold)"
        message = (
            f"{cc:.2f} of {region.cc:.2f} cc of {region.name} ({100 * outside:.0f} %) lie outside "
            f"{body}, where no patient is."
        )
        remedy = "Check both contours, and that CT and structures belong together."
        kind = "target-outside-body" if is_target else "structure-outside-body"
        severity: Severity = "blocking" if blocks else "warning"
        findings.append(Finding(kind, severity, message, remedy, region.name, place))
    return findings


def _outside(view: CaseView, region: Region) -> tuple[float, tuple[float, float, float] | None]:
    """Share of a structure outside the body, and where.

    Without an external contour the body is rough, and so is the answer.
    """
    external = view.outline
    if external is not None:
        shared, box = shared_voxels(region, external)
        left = region.mask.copy()
        left[within(box, region.box)] &= ~shared
        count = int(np.count_nonzero(left))
        place = center_mm(left, region.box, region.grid) if count else None
        return count / region.voxels, place
    body = grown(view.body, view.coarse_ct.grid, COARSE_MM)
    mask = view.coarse_mask(region)
    total = int(np.count_nonzero(mask))
    if total == 0 or not body.any():
        return 0.0, None
    outside = mask & ~body
    count = int(np.count_nonzero(outside))
    # One voxel of the coarse grid more or less says nothing.
    share = count / total if count > 2 else 0.0
    return share, center_of(outside, view.coarse_ct.grid) if share else None
