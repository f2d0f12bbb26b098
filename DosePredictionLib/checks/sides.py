"""Left and right."""

from __future__ import annotations

import numpy as np

from ..findings import Finding
from .thresholds import (
    ORDER_MM,
    SIDE_MM,
)
from .view import CaseView, Region

__all__ = ["check_sides"]


def check_sides(view: CaseView) -> list[Finding]:
    """Left organs lie to the left: by the other of the pair, or by the body's middle."""
    findings = []
    inputs = view.protocol.inputs
    for index, partner in enumerate(view.protocol.mirrored):
        left, right = (view.regions.get(inputs[i].name) for i in (index, partner))
        if index == partner or inputs[index].side != "left":
            continue
        if left is not None and right is not None:
            apart = left.center_mm[0] - right.center_mm[0]
            if apart < -SIDE_MM:
                findings.append(_swapped(left, right, -apart))
        elif (one := left or right) is not None:
            findings += _check_one_side(view, one)
    return findings


def _swapped(left: Region, right: Region, apart_mm: float) -> Finding:
    message = (
        f"Left and right are swapped: {left.name} lies {apart_mm:.0f} mm to the patient's right of "
        f"{right.name} (x = {left.center_mm[0]:.0f} and {right.center_mm[0]:.0f} mm)."
    )
    remedy = (
        f"Rename the contours or map them the other way round (--map {left.channel.name}=…), or "
        "check that the CT is not mirrored."
    )
    return Finding("left-right-swapped", "warning", message, remedy, left.name, left.center_mm)


def _check_one_side(view: CaseView, region: Region) -> list[Finding]:
    """An organ without its partner, against the middle of the body at its own height."""
    middle = _middle_x_mm(view, region)
    if middle is None:
        return []
    offset = region.center_mm[0] - middle
    wrong = offset < -ORDER_MM if region.channel.side == "left" else offset > ORDER_MM
    if not wrong:
        return []
    side = "right" if region.channel.side == "left" else "left"
    message = (
        f"{region.name} ({region.channel.label}) lies {abs(offset):.0f} mm to the patient's {side} "
        "of the body's middle."
    )
    remedy = "Check its side, its name, and that the CT is not mirrored."
    return [
        Finding("left-right-swapped", "warning", message, remedy, region.name, region.center_mm)
    ]


def _middle_x_mm(view: CaseView, region: Region) -> float | None:
    """x of the body's middle at the height of a structure, LPS mm."""
    if view.external is not None:
        return view.external.center_mm[0]
    grid = view.coarse_ct.grid
    plane = round(float(grid.index_from_world(region.center_mm)[2]))
    columns = np.flatnonzero(view.body[np.clip(plane, 0, grid.size[2] - 1)].any(axis=0))
    if columns.size == 0:
        return None
    return grid.origin[0] + grid.spacing[0] * float(columns[0] + columns[-1]) / 2
