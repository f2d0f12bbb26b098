"""Structures that lost to another one what they had in an earlier state of the same case."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from ..findings import Finding
from ..geometry import Box, bounding_box
from ..mask import Mask
from ..volume import Grid

__all__ = ["eaten_findings"]

_LEAST_SHARE, _LEAST_CC = 0.02, 0.5
_MOSTLY = 0.5  # of what is lost lies in what the other one gained


def eaten_findings(
    before: Mapping[str, Mask], now: Mapping[str, Mask], besides: Collection[str] = ()
) -> list[Finding]:
    """Structures of which another one took a part since then, as when a segment overwrites others.

    Nothing is said where the two states lie on different grids.

    Args:
        before, now: structures by name.
        besides: structures that are not looked at.
    """
    lost = {
        name: mask
        for name, mask in _differences(before, now)
        if name not in besides and _is_much(mask, before[name])
    }
    if not lost:
        return []
    gained = dict(_differences(now, before))
    findings = []
    for name, (box, mask) in lost.items():
        count = int(np.count_nonzero(mask))
        for other, theirs in gained.items():
            if other == name or _shared(box, mask, *theirs) < _MOSTLY * count:
                continue
            voxel_cc = now[name].grid.voxel_volume_cc
            all_cc = _voxels(before[name]) * voxel_cc
            message = (
                f"{name} lost {count * voxel_cc:.1f} of {all_cc:.1f} cc to {other} since the last "
                "prediction."
            )
            remedy = (
                "If Segment Editor overwrote it, undo, set Modify other segments to Allow "
                "overlap, and edit again."
            )
            place = _center_mm(mask, box, now[name].grid)
            findings.append(Finding("segment-eaten", "warning", message, remedy, name, place))
            break
    return findings


def _differences(
    these: Mapping[str, Mask], those: Mapping[str, Mask]
) -> Iterator[tuple[str, tuple[Box, np.ndarray]]]:
    """What of each structure is in the first state and not in the second, in its block."""
    for name, mask in these.items():
        other = those.get(name)
        if other is None or other is mask or not mask.grid.matches(other.grid):
            continue
        box = mask.bounding_box()
        if box is None:
            continue
        difference = mask.as_binary().within(box) & ~other.as_binary().within(box)
        inner = bounding_box(difference)
        if inner is not None:
            yield name, (_moved(inner, box), difference[inner])


def _moved(inner: Box, outer: Box) -> Box:
    z, y, x = (
        slice(i.start + o.start, i.stop + o.start) for i, o in zip(inner, outer, strict=True)
    )
    return (z, y, x)


def _is_much(difference: tuple[Box, np.ndarray], whole: Mask) -> bool:
    count = int(np.count_nonzero(difference[1]))
    is_large = count * whole.grid.voxel_volume_cc >= _LEAST_CC
    return is_large and count >= _LEAST_SHARE * _voxels(whole)


def _voxels(mask: Mask) -> int:
    return int(np.count_nonzero(mask.as_binary().block))


def _center_mm(mask: np.ndarray, box: Box, grid: Grid) -> tuple[float, float, float]:
    """Centroid of a block's voxels, LPS mm."""
    z, y, x = np.argwhere(mask).mean(axis=0) + [edge.start for edge in box]
    world = grid.world_from_index((x, y, z))
    return (float(world[0]), float(world[1]), float(world[2]))


def _shared(box: Box, mask: np.ndarray, other_box: Box, other: np.ndarray) -> int:
    """Voxels that two blocks of one grid have in common."""
    parts: list[list[slice]] = [[], []]
    for a, b in zip(box, other_box, strict=True):
        low, high = max(a.start, b.start), min(a.stop, b.stop)
        if low >= high:
            return 0
        parts[0].append(slice(low - a.start, high - a.start))
        parts[1].append(slice(low - b.start, high - b.start))
    return int(np.count_nonzero(mask[tuple(parts[0])] & other[tuple(parts[1])]))
