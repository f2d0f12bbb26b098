"""Geometry of masks as arrays: bounding boxes and signed distances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "bounding_box", "signed_distance_mm"]

Box = tuple[slice, slice, slice]


def bounding_box(mask: NDArray, margin: int = 0) -> Box | None:
    """Slices of the block that holds every voxel of a mask `(z, y, x)` that is not 0.

    Args:
        margin: voxels around it, within the grid.

    Returns:
        None when there is no such voxel.
    """
    box: list[slice] = []
    block = mask
    for axis in range(3):
        # Each axis is searched in what the earlier ones leave.
        rows = np.moveaxis(block, axis, 0).reshape(block.shape[axis], -1)
        filled = np.flatnonzero(rows.any(axis=1))
        if filled.size == 0:
            return None
        start, stop = int(filled[0]), int(filled[-1]) + 1
        box.append(slice(start, stop))
        block = block[tuple(slice(None) if a != axis else slice(start, stop) for a in range(3))]
    return tuple(  # type: ignore[return-value]
        slice(max(0, s.start - margin), min(size, s.stop + margin))
        for s, size in zip(box, mask.shape, strict=True)
    )


def signed_distance_mm(
    mask: NDArray[np.bool_], spacing_mm: Sequence[float], limit_mm: float = np.inf
) -> NDArray[np.float32]:
    """Distance to the nearest voxel on the other side of a mask's edge, mm; negative inside.

    Between voxel centers, less half of the smallest spacing: the voxels on both sides of the edge
    hold that much, so that the map has no jump there. An empty mask is infinitely far. The grid's
    own edge is no edge of the mask.

    Args:
        mask: `(z, y, x)`, or an image `(y, x)`.
        spacing_mm: (x, y, z), or (x, y).
        limit_mm: distances are clipped to ± this, and sought no farther.
    """
    result = np.full(mask.shape, limit_mm, dtype=np.float32)
    inside = _box(mask, [0] * mask.ndim)
    if inside is None:
        return result
    if mask.all():
        result[:] = -limit_mm
        return result
    reach = [mask.shape[axis] for axis in range(mask.ndim)]
    if np.isfinite(limit_mm):
        steps = np.ceil(limit_mm / np.asarray(spacing_mm[::-1], dtype=float)).astype(int) + 1
        reach = [min(int(step), size) for step, size in zip(steps, reach, strict=True)]
    near = _box(mask, reach)
    assert near is not None
    block = np.ascontiguousarray(mask[near])
    distance = _distance_outside_mm(block, spacing_mm)
    half_step = min(spacing_mm) / 2
    distance -= half_step
    own = _box(block, [1] * mask.ndim)  # what lies inside is nowhere nearer to a voxel beyond
    assert own is not None
    depth = half_step - _distance_to_outside_mm(block[own], spacing_mm)
    np.copyto(distance[own], depth, where=block[own])
    result[near] = np.clip(distance, -limit_mm, limit_mm)
    return result


def _box(mask: NDArray[np.bool_], margin: Sequence[int]) -> tuple[slice, ...] | None:
    """As `bounding_box`, for any number of axes and a margin along each."""
    box = bounding_box(mask.reshape((1,) * (3 - mask.ndim) + mask.shape))
    if box is None:
        return None
    return tuple(
        slice(max(0, edge.start - more), min(size, edge.stop + more))
        for edge, more, size in zip(box[3 - mask.ndim :], margin, mask.shape, strict=True)
    )


def _distance_outside_mm(
    mask: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> NDArray[np.float32]:
    """From every voxel outside to the nearest one inside; of no use inside."""
    try:
        import SimpleITK as sitk
    except ImportError:  # a trainer's machine may have only torch, numpy and scipy
        return _distance_to_outside_mm(~mask, spacing_mm)
    image = sitk.GetImageFromArray(mask.view(np.uint8))
    image.SetSpacing([float(mm) for mm in spacing_mm])
    # Five times as fast as SciPy's on such volumes, and the same to the last bit of a float32.
    distance = sitk.SignedMaurerDistanceMap(image, False, False, True)
    return sitk.GetArrayFromImage(distance)


def _distance_to_outside_mm(
    mask: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> NDArray[np.float32]:
    """From every voxel inside to the nearest one outside."""
    from scipy import ndimage

    distance = ndimage.distance_transform_edt(mask, sampling=tuple(reversed(spacing_mm)))
    return distance.astype(np.float32)
