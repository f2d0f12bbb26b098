"""What the external contour leaves out though it encloses it."""

from __future__ import annotations

import numpy as np

from ..findings import Finding
from .thresholds import GAS_CC, LEFT_OUT_CC, LEFT_OUT_SHARE
from .view import CaseView, Region, center_mm, shared_voxels

__all__ = ["check_external_holes"]


def check_external_holes(view: CaseView) -> list[Finding]:
    """Holes of the external contour: structures cut out of it, gas that a threshold left out.

    They count as body (`BoundCase.external`), so that no dose is set to 0 there.
    """
    drawn, outline = view.external, view.outline
    if drawn is None or outline is None:
        return []
    hole = Region(drawn.channel, drawn.name, drawn.box, outline.mask & ~drawn.mask, drawn.grid)
    if hole.cc < LEFT_OUT_CC:
        return []
    message = f"{drawn.name} leaves out {hole.cc:.1f} cc that it encloses"
    place = center_mm(hole.mask, hole.box, hole.grid)
    cut_out = _cut_out(view, hole)
    if not cut_out and hole.cc < GAS_CC:
        return []
    if not cut_out:
        message = f"{message}; they count as body."
        return [Finding("external-completed", "info", message, "", drawn.name, place)]
    message = f"{message}, among them {', '.join(cut_out)}; they count as body."
    remedy = (
        "If Segment Editor overwrote other segments, undo, set Modify other segments to Allow "
        "overlap, and edit again."
    )
    return [Finding("external-completed", "warning", message, remedy, drawn.name, place)]


def _cut_out(view: CaseView, hole: Region) -> list[str]:
    """Structures that lie in the hole, with how much of them."""
    texts = []
    for region in (*view.targets, *view.organs):
        shared, _ = shared_voxels(region, hole)
        voxels = int(np.count_nonzero(shared))
        cc = voxels * hole.grid.voxel_volume_cc
        if cc >= LEFT_OUT_CC and voxels >= LEFT_OUT_SHARE * region.voxels:
            texts.append(f"{cc:.1f} of {region.cc:.1f} cc of {region.name}")
    return texts
