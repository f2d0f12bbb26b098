"""Tangent strip masks: where opposed beams that just cover the target pass through the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from ..errors import CaseError, GeometryError
from ..mask import majority
from ..schema import FieldError, Length, Range, validated
from ..structures.bound import BoundCase
from ..volume import Grid, Volume

__all__ = [
    "EDGE_TOLERANCE",
    "STRIP_ANGLES",
    "StripSettings",
    "case_strips",
    "mirrored_angle",
    "strip_masks",
    "tangent_strips",
]

STRIP_ANGLES = (0, 45, 90, 135)
"""Angles of the projection direction, degrees from the patient's left toward posterior."""

EDGE_TOLERANCE = 1e-3  # of the smaller in-plane spacing: ties at 45° round either way
_MAX_OBLIQUITY_DEGREES = 5.0


@dataclass(frozen=True)
@validated
class StripSettings:
    """How a model's strips are made: angles in degrees and a margin around the target, mm."""

    angles: Annotated[tuple[Annotated[int, Range(0, 179)], ...], Length(0, 36, unique=True)] = (
        STRIP_ANGLES
    )
    margin_mm: Annotated[float, Range(0, 200)] = 0.0

    def __post_init__(self) -> None:
        alone = [angle for angle in self.angles if mirrored_angle(angle) not in self.angles]
        if alone:
            raise FieldError(
                "angles",
                f"must hold {mirrored_angle(alone[0])}, which {alone[0]} becomes in a mirrored "
                f"patient; got {list(self.angles)}.",
            )


def case_strips(bound: BoundCase, margin_mm: float = 0.0) -> Mapping[int, Volume]:
    """Strips of all targets of a case together, through its whole body; see `tangent_strips`.

    Raises:
        CaseError: it has no target.
    """
    case = bound.case
    if not bound.targets:
        reasons = [f.message for f in bound.findings if f.id in ("no-protocol", "structure-empty")]
        raise CaseError(f"{case.name} has no target: map one by --map. {' '.join(reasons)}".strip())
    target = case.ct.with_array(np.logical_or.reduce([t.majority() for t in bound.targets]))
    return tangent_strips(target, bound.external, STRIP_ANGLES, margin_mm)


def mirrored_angle(angle: int) -> int:
    """The angle that a strip has in the left–right mirrored patient: 45 and 135 change places."""
    return (180 - angle) % 180


def tangent_strips(
    ptv: Volume,
    body: Volume,
    angles: Sequence[int] = STRIP_ANGLES,
    margin_mm: float = 0.0,
) -> Mapping[int, Volume]:
    """Strip masks of a case, on its own grid with axes reordered to LPS.

    On each axial slice the PTV is projected on n = (cos θ, sin θ), x to the patient's left and y
    posterior, in mm; every body voxel whose projection lies within the PTV's interval, inclusive,
    belongs to the strip of θ. A slice without PTV has none. Nothing is resampled.

    Args:
        ptv, body: masks on one grid; above 0.5 counts as inside.
        angles: θ in degrees.
        margin_mm: added at both ends of the interval.

    Returns:
        For each angle a boolean volume on the LPS-ordered grid.

    Raises:
        GeometryError: the grids differ, the margin is negative or not finite, or slices lie more
            than 5° off the axial plane.
    """
    if not 0 <= margin_mm < np.inf:
        raise GeometryError(f"The margin of the strips must be 0 mm or more; got {margin_mm}.")
    if not ptv.grid.matches(body.grid):
        raise GeometryError(f"The PTV lies on {ptv.grid}, the body on {body.grid}.")
    if ptv.grid.obliquity_degrees > _MAX_OBLIQUITY_DEGREES:
        raise GeometryError(
            f"The grid is oblique by {ptv.grid.obliquity_degrees:.1f}° and strips are defined on "
            f"axial slices (at most {_MAX_OBLIQUITY_DEGREES:g}°). Resample the case to an "
            "axis-aligned grid first."
        )
    ptv, body = ptv.reordered_to_lps(), body.reordered_to_lps()
    inside_ptv, inside_body = majority(ptv.array), majority(body.array)
    masks = strip_masks(inside_ptv, inside_body, ptv.grid, angles, margin_mm)
    return {angle: Volume(mask, ptv.grid) for angle, mask in zip(angles, masks, strict=True)}


def strip_masks(
    ptv: NDArray[np.bool_],
    body: NDArray[np.bool_],
    grid: Grid,
    angles: Sequence[int] = STRIP_ANGLES,
    margin_mm: float = 0.0,
) -> NDArray[np.bool_]:
    """`tangent_strips` on boolean arrays `(z, y, x)` of an LPS-ordered grid: `(angle, z, y, x)`."""
    masks = np.zeros((len(angles), *ptv.shape), dtype=bool)
    z, y, x = np.nonzero(ptv)
    if z.size == 0:
        return masks
    slices, starts = np.unique(z, return_index=True)
    spacing_x, spacing_y, _ = grid.spacing
    tolerance = margin_mm + EDGE_TOLERANCE * min(spacing_x, spacing_y)
    for mask, angle in zip(masks, angles, strict=True):
        cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        projection = (
            spacing_x * cosine * np.arange(ptv.shape[2])[None, :]
            + spacing_y * sine * np.arange(ptv.shape[1])[:, None]
        )
        of_ptv = projection[y, x]
        low = np.minimum.reduceat(of_ptv, starts) - tolerance
        high = np.maximum.reduceat(of_ptv, starts) + tolerance
        for index, slice_low, slice_high in zip(slices, low, high, strict=True):
            inside = (projection >= slice_low) & (projection <= slice_high)
            np.logical_and(inside, body[index], out=mask[index])
    return masks
