"""How well a contour agrees with another: overlap, distance of surfaces, volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import GeometryError
from ..mask import Mask

__all__ = ["SURFACE_TOLERANCE_MM", "ContourAgreement", "compare_contours"]

SURFACE_TOLERANCE_MM = 3.0


@dataclass(frozen=True)
class ContourAgreement:
    """Two contours of one organ; None: one of them is empty.

    Args:
        dice: 2 |A ∩ B| / (|A| + |B|); None where both are empty.
        hd95_mm: the larger of the 95th percentiles of the distances from each surface to the other.
        surface_dice: share of both surfaces that lies within `SURFACE_TOLERANCE_MM` of the other
            (Nikolov et al. 2021, doi 10.2196/26151), surfaces taken as their voxels.
        volume_cc, reference_cc: of the contour, and of the one that it is held against.
    """

    dice: float | None
    hd95_mm: float | None
    surface_dice: float | None
    volume_cc: float
    reference_cc: float


def compare_contours(contour: Mask, reference: Mask) -> ContourAgreement:
    """Compare two masks by the voxels of which more than half lies inside.

    A surface is the voxels of a mask that have a face neighbour outside, as in MONAI; distances are
    those of voxel centers, mm.

    Raises:
        GeometryError: the masks lie on different grids.
    """
    if not contour.grid.matches(reference.grid):
        raise GeometryError(
            f"A contour on {contour.grid} cannot be held against one on {reference.grid}: "
            "resample it first."
        )
    one, other = contour.majority(), reference.majority()
    voxel_cc = contour.grid.voxel_volume_cc
    counts = np.count_nonzero(one), np.count_nonzero(other)
    volumes = counts[0] * voxel_cc, counts[1] * voxel_cc
    if not all(counts):
        return ContourAgreement(0.0 if any(counts) else None, None, None, *volumes)
    dice = 2 * np.count_nonzero(one & other) / sum(counts)
    box = ndimage.find_objects((one | other).astype(np.uint8))[0]
    z, y, x = reversed(contour.grid.spacing)
    there = _distances(one[box], other[box], (z, y, x))
    back = _distances(other[box], one[box], (z, y, x))
    hd95 = max(float(np.percentile(each, 95)) for each in (there, back))
    near = sum(np.count_nonzero(each <= SURFACE_TOLERANCE_MM) for each in (there, back))
    return ContourAgreement(dice, hd95, near / (len(there) + len(back)), *volumes)


def _distances(
    one: NDArray[np.bool_], other: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> NDArray[np.float64]:
    """From every surface voxel of a mask to the other's surface."""
    to_other = ndimage.distance_transform_edt(~_surface(other), spacing_mm)
    distances: NDArray[np.float64] = to_other[_surface(one)]
    return distances


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    surface: NDArray[np.bool_] = mask & ~ndimage.binary_erosion(mask)
    return surface
