"""Organs that share voxels though they cannot."""

from __future__ import annotations

import itertools

import numpy as np

from ..findings import Finding
from .thresholds import (
    MAY_OVERLAP,
    OVERLAP_CC,
    OVERLAP_SHARE,
    SAME_SHARE,
)
from .view import CaseView, center_mm, shared_voxels

__all__ = ["check_overlaps"]


def check_overlaps(view: CaseView) -> list[Finding]:
    """Organs that share voxels though they cannot."""
    findings = []
    for one, other in itertools.combinations(view.organs, 2):
        if frozenset({one.channel.tg263, other.channel.tg263}) in MAY_OVERLAP:
            continue
        shared, box = shared_voxels(one, other)
        voxels = int(np.count_nonzero(shared))
        cc = voxels * view.case.grid.voxel_volume_cc
        share = voxels / min(one.voxels, other.voxels)
        if share < OVERLAP_SHARE or (cc < OVERLAP_CC and share < SAME_SHARE):
            continue
        same = voxels > SAME_SHARE * max(one.voxels, other.voxels)
        kind = "are the same region" if same else "overlap"
        message = (
            f"{one.name} and {other.name} {kind}: they share {cc:.2f} cc, {100 * share:.0f} % of "
            f"the smaller ({one.cc:.2f} and {other.cc:.2f} cc)."
        )
        remedy = "Check both contours; one may be drawn or named wrongly."
        place = center_mm(shared, box, view.case.grid)
        findings.append(Finding("structures-overlap", "warning", message, remedy, one.name, place))
    return findings
