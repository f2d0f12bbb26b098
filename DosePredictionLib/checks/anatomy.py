"""What a case is like in numbers that a person can read: sizes, places, CT values, extent.

Each number has a name, `part.measure`: `Rectum.volume`, `body.noise`. What a case lacks has no
numbers. Places are relative to the body's middle in the target's slices (to the left, backward) and
to the target's center (upward), so that no frame of reference counts.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .model_delivery import technique_differs
from .thresholds import METAL_HU
from .view import CaseView, Region, shared_voxels

__all__ = ["BODY", "MEASURES", "PLAN", "PRESENT", "TARGETS", "anatomy"]

TARGETS, BODY, PLAN = "targets", "body", "plan"
"""Parts that are no channels: all targets together, the patient, and what is prescribed."""

PRESENT = "present"
"""The measure that is 1 for an organ that is there, and 0 for one that is not."""

MEASURES = {
    "volume": "cc",
    "left": "mm",
    "back": "mm",
    "up": "mm",
    "length": "mm",
    "hu_low": "HU",
    "hu_middle": "HU",
    "hu_high": "HU",
    "apart": "mm",
    "cut": "%",
    "in_target": "%",
    "in_organ": "%",
    "area": "cm²",
    "flatness": "",
    "above": "mm",
    "below": "mm",
    "soft_tissue": "HU",
    "fat": "%",
    "bone": "%",
    "air": "%",
    "noise": "HU",
    "metal": "cc",
    "spacing": "mm",
    "prescription": "%",
    "technique": "",
    PRESENT: "",
}
"""Measure → unit. Of sizes, distances of pairs, shares with others and metal it is the logarithm.
"""

_HU = (-1000.0, 2000.0)
_SOFT_HU, _FAT_HU, _BONE_HU, _AIR_HU = (0.0, 120.0), (-200.0, -30.0), 250.0, -400.0
_PERCENTILES = (10, 50, 90)
_HU_MEASURES = ("hu_low", "hu_middle", "hu_high")


def anatomy(view: CaseView) -> dict[str, float]:
    """The numbers of a case by `part.measure`; empty without a target.

    Args:
        view: of a case bound to a protocol.
    """
    if not view.targets or not view.body.any():
        return {}
    found = _targets(view)
    middle = _middle(view)
    origin = np.array([*middle, found[f"{TARGETS}.up"]])
    for axis, measure in enumerate(("left", "back", "up")):
        found[f"{TARGETS}.{measure}"] -= origin[axis]
    del found[f"{TARGETS}.up"]  # 0 by definition
    for region in view.organs:
        part = region.channel.name
        place = np.asarray(region.center_mm) - origin
        found[f"{part}.volume"] = math.log(region.cc)
        found |= {
            f"{part}.{m}": float(v) for m, v in zip(("left", "back", "up"), place, strict=True)
        }
        low, high = region.z_range_mm
        found[f"{part}.length"] = high - low
        shared = sum(int(shared_voxels(region, target)[0].sum()) for target in view.targets)
        found[f"{part}.in_target"] = math.log1p(100.0 * min(1.0, shared / region.voxels))
        others = [other for other in view.organs if other is not region]
        overlaps = [int(shared_voxels(region, other)[0].sum()) for other in others]
        found[f"{part}.in_organ"] = math.log1p(100.0 * max(overlaps, default=0) / region.voxels)
        found |= _hu(part, view.case.ct.array[region.box][region.mask])
    for channel in view.protocol.organs:
        found[f"{channel.name}.{PRESENT}"] = float(channel.name in view.regions)
    return found | _apart(view) | _body(view) | _plan(view)


def _targets(view: CaseView) -> dict[str, float]:
    """All targets as one; nested and disjoint levels give the same."""
    union = np.zeros(view.case.ct.array.shape, dtype=bool)
    for region in view.targets:
        union[region.box] |= region.mask
    whole = Region(
        view.targets[0].channel, TARGETS, _box(union), union[_box(union)], view.case.grid
    )
    low, high = whole.z_range_mm
    place = dict(zip(("left", "back", "up"), whole.center_mm, strict=True))
    numbers = {"volume": math.log(whole.cc), "length": high - low, **place}
    found = {f"{TARGETS}.{measure}": value for measure, value in numbers.items()}
    found[f"{TARGETS}.cut"] = _cut(view)
    return found | _hu(TARGETS, view.case.ct.array[whole.box][whole.mask])


def _cut(view: CaseView) -> float:
    """The targets' area in the body's first or last slice, percent of their largest."""
    areas = np.logical_or.reduce([view.coarse_mask(r) for r in view.targets]).sum(axis=(1, 2))
    reached = np.flatnonzero(view.body.any(axis=(1, 2)))
    return 100.0 * float(max(areas[reached[0]], areas[reached[-1]]) / max(areas.max(), 1))


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    planes = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    z, y, x = (slice(int(p[0]), int(p[-1]) + 1) for p in planes)
    return z, y, x


def _hu(part: str, values: NDArray) -> dict[str, float]:
    levels = np.percentile(np.clip(values, *_HU), _PERCENTILES)
    return {f"{part}.{m}": float(v) for m, v in zip(_HU_MEASURES, levels, strict=True)}


def _apart(view: CaseView) -> dict[str, float]:
    """How far the two organs of a pair lie apart, by the name of the one to the left."""
    found = {}
    inputs = view.protocol.inputs
    for index, partner in enumerate(view.protocol.mirrored):
        left, right = (view.regions.get(inputs[i].name) for i in (index, partner))
        if inputs[index].side == "left" and left is not None and right is not None:
            apart_mm = math.dist(left.center_mm, right.center_mm)
            found[f"{inputs[index].name}.apart"] = math.log(max(apart_mm, 1.0))
    return found


def _target_planes(view: CaseView) -> slice:
    """Slices of the thinned CT that the targets span and the body reaches."""
    ranges = [region.z_range_mm for region in view.targets]
    grid = view.coarse_ct.grid
    ends = (min(low for low, _ in ranges), max(high for _, high in ranges))
    first, last = (round((end - grid.origin[2]) / grid.spacing[2]) for end in ends)
    most = grid.size[2] - 1
    return slice(int(np.clip(first, 0, most)), int(np.clip(last, 0, most)) + 1)


def _middle(view: CaseView) -> tuple[float, float]:
    """The middle of the body's box in the target's slices, LPS mm (x, y)."""
    shadow = np.asarray(view.body[_target_planes(view)].any(axis=0))
    shadow = shadow if shadow.any() else np.asarray(view.body.any(axis=0))
    grid = view.coarse_ct.grid
    rows, columns = (np.flatnonzero(shadow.any(axis=axis)) for axis in (1, 0))
    return (
        grid.origin[0] + grid.spacing[0] * float(columns[0] + columns[-1]) / 2,
        grid.origin[1] + grid.spacing[1] * float(rows[0] + rows[-1]) / 2,
    )


def _body(view: CaseView) -> dict[str, float]:
    grid, planes = view.coarse_ct.grid, _target_planes(view)
    body = view.body
    reached = np.flatnonzero(body.any(axis=(1, 2)))
    held = body[planes]
    held = held if held.any() else body
    values = np.clip(
        view.coarse_ct.array[planes] if held is not body else view.coarse_ct.array, *_HU
    )
    inside = values[held].astype(np.float32)
    shadow = np.asarray(held.any(axis=0))
    rows, columns = (np.flatnonzero(shadow.any(axis=axis)) for axis in (1, 0))
    pixel_cm2 = grid.spacing[0] * grid.spacing[1] / 100
    soft = inside[(inside > _SOFT_HU[0]) & (inside < _SOFT_HU[1])]
    metal_cc = float((view.coarse_ct.array[body] > METAL_HU).sum()) * grid.voxel_volume_cc
    numbers = {
        "area": math.log(held.sum() * pixel_cm2 / held.any(axis=(1, 2)).sum()),
        "flatness": math.log(np.ptp(columns) + 1) - math.log(np.ptp(rows) + 1),
        "above": float(np.clip(reached[-1] - planes.stop + 1, -20, 40) * grid.spacing[2]),
        "below": float(np.clip(planes.start - reached[0], -20, 40) * grid.spacing[2]),
        "fat": 100.0 * float(((inside > _FAT_HU[0]) & (inside < _FAT_HU[1])).mean()),
        "bone": 100.0 * float((inside > _BONE_HU).mean()),
        "air": 100.0 * float((inside < _AIR_HU).mean()),
        "noise": _noise(values, held),
        "metal": math.log1p(metal_cc),
        "spacing": math.log(math.sqrt(view.case.grid.spacing[0] * view.case.grid.spacing[1])),
    }
    if soft.size:
        numbers["soft_tissue"] = float(np.median(soft))
    return {f"{BODY}.{measure}": value for measure, value in numbers.items()}


def _noise(values: NDArray, body: NDArray[np.bool_]) -> float:
    """Robust standard deviation of the CT's second differences along x in soft tissue, HU."""
    values = values.astype(np.float32)
    bend = (values[..., 2:] + values[..., :-2]) / 2 - values[..., 1:-1]
    soft = body[..., 1:-1] & body[..., 2:] & body[..., :-2]
    soft &= (values[..., 1:-1] > -150) & (values[..., 1:-1] < 250)
    chosen = bend[soft]
    return float(1.4826 * np.median(np.abs(chosen)) / math.sqrt(1.5)) if chosen.size else 0.0


def _plan(view: CaseView) -> dict[str, float]:
    """The highest dose over the one that the model was made for, and whether techniques differ."""
    found = {}
    levels, expected = view.bound.prescriptions_gy, view.expected
    if levels and expected.prescription_gy:
        highest_gy = max(expected.prescription_gy.values())
        found[f"{PLAN}.prescription"] = 100 * max(levels.values()) / highest_gy
    if expected.technique:
        found[f"{PLAN}.technique"] = float(technique_differs(view))
    return found
