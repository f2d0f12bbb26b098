"""A case as the checks look at it: everything is computed once, when first asked for.

Masks are cropped to their boxes, and the CT is thinned to about 4 mm where a check looks at the
whole patient. Positions are LPS mm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..case import Case
from ..errors import CaseError
from ..external import derive_external, holes_filled
from ..hounsfield import SKIN_HU
from ..kept import kept
from ..mask import Mask, to_binary
from ..models.expectations import ModelExpectations
from ..structures.bound import BoundCase
from ..structures.mapping import StructureMapping
from ..structures.protocol import Channel, StructureProtocol
from ..volume import Grid, Volume
from .thresholds import (
    COARSE_MM,
    SHEET_MM,
)

if TYPE_CHECKING:
    from .distribution import Distribution

__all__ = [
    "CaseView",
    "Region",
    "array_axis",
    "center_mm",
    "center_of",
    "grown",
    "position",
    "shared_voxels",
    "wide_rows",
    "within",
]


@dataclass(frozen=True, eq=False)
class Region:
    """A structure cropped to its box.

    Args:
        channel: the channel it fills.
        name: as the clinic typed it.
        box: slices `(z, y, x)` into the CT's array.
        mask: bool, the box's content.
        grid: the CT's grid.
    """

    channel: Channel
    name: str
    box: tuple[slice, slice, slice]
    mask: NDArray[np.bool_]
    grid: Grid

    @cached_property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(np.count_nonzero(self.mask))

    @property
    def cc(self) -> float:
        """Volume, cm³."""
        return self.voxels * self.grid.voxel_volume_cc

    @cached_property
    def center_mm(self) -> tuple[float, float, float]:
        """Centroid, LPS mm."""
        return center_mm(self.mask, self.box, self.grid)

    @cached_property
    def z_range_mm(self) -> tuple[float, float]:
        """Lowest and highest z, voxel edges included, LPS mm."""
        start = [self.box[2 - axis].start for axis in range(3)]
        low, high = self.grid.cropped(start, self.mask.shape[::-1]).bounds_mm()
        return float(low[2]), float(high[2])


@dataclass(eq=False)
class CaseView:
    """A case as the checks look at it.

    Args:
        bound: a case bound to a protocol.
        expected: what the model's card states.
        dose: the predicted dose, Gy, for checks after the prediction.
        distribution: what the model's patients were like, where its folder says it.
    """

    bound: BoundCase
    expected: ModelExpectations = field(default_factory=ModelExpectations)
    dose: Volume | None = None
    distribution: Distribution | None = None

    @property
    def case(self) -> Case:
        """The case itself."""
        return self.bound.case

    @property
    def protocol(self) -> StructureProtocol:
        """Whose channels count."""
        assert self.bound.protocol is not None
        return self.bound.protocol

    @property
    def mapping(self) -> StructureMapping:
        """Which structure fills which channel."""
        assert self.bound.mapping is not None
        return self.bound.mapping

    @cached_property
    def regions(self) -> dict[str, Region]:
        """Channel → structure; channels without one, or with an all-zero one, are left out."""
        regions = {}
        for channel in self.protocol.channels:
            name = self.mapping.structure(channel.name)
            if name is not None:
                region = region_of(channel, name, self.case.structures[name])
                if region is not None:
                    regions[channel.name] = region
        return regions

    @property
    def targets(self) -> list[Region]:
        """Structures in target channels."""
        return [r for r in self.regions.values() if r.channel.role == "target"]

    @property
    def organs(self) -> list[Region]:
        """Structures in organ channels."""
        return [r for r in self.regions.values() if r.channel.role == "organ"]

    @property
    def external(self) -> Region | None:
        """The external contour, if one is mapped."""
        channel = self.protocol.external
        return None if channel is None else self.regions.get(channel.name)

    @cached_property
    def outline(self) -> Region | None:
        """The external contour without the holes that other segments left in it."""
        drawn = self.external
        if drawn is None:
            return None
        axis = self.axial_axis
        return replace(drawn, mask=holes_filled(drawn.mask, axis))

    def by_tg263(self, name: str) -> Region | None:
        """The structure in the channel with this TG-263 name."""
        return next((r for r in self.regions.values() if r.channel.tg263 == name), None)

    @cached_property
    def hu_range(self) -> tuple[float, float]:
        """Lowest and highest CT value, HU."""
        return float(self.case.ct.array.min()), float(self.case.ct.array.max())

    @cached_property
    def axial_axis(self) -> int:
        """The array axis that runs along the patient."""
        return array_axis(self.case.grid, 2)

    @cached_property
    def coarse_ct(self) -> Volume:
        """The CT thinned to about 4 mm, LPS-ordered, HU."""
        return thinned(self.case.ct)

    @cached_property
    def densest_ct(self) -> Volume:
        """As `coarse_ct`, but the highest value along y: a thin couch top is not lost."""
        return thinned(self.case.ct, keep_highest_along_y=True)

    @cached_property
    def patient(self) -> NDArray[np.bool_]:
        """The patient on the coarse grid by threshold, couch removed; all false when none."""
        try:
            return derive_external(self.coarse_ct).array
        except CaseError:
            return np.zeros(self.coarse_ct.array.shape, dtype=bool)

    @cached_property
    def body(self) -> NDArray[np.bool_]:
        """The external contour on the coarse grid; without one, all tissue with its holes filled.

        Rather too much than too little: couch and straps stay in.
        """
        if self.external is not None:
            return self.coarse_mask(self.external)
        tissue = self.coarse_ct.array > SKIN_HU
        return np.stack([ndimage.binary_fill_holes(plane) for plane in tissue])

    def coarse_mask(self, region: Region) -> NDArray[np.bool_]:
        """A structure on the coarse grid."""
        return to_binary(thinned(self.case.structures[region.name]).array)


def region_of(channel: Channel, name: str, mask: Mask) -> Region | None:
    """The structure in its box; None when it is all-zero."""
    box = mask.bounding_box()
    return None if box is None else Region(channel, name, box, to_binary(mask.block), mask.grid)


@kept
def thinned(volume: Volume, keep_highest_along_y: bool = False) -> Volume:
    """Every n-th voxel, to about 4 mm, LPS-ordered."""
    grid = volume.grid
    steps = [max(1, int(COARSE_MM / spacing)) for spacing in grid.spacing]
    along_y = array_axis(grid, 1)
    picks = [slice(None, None, steps[2 - axis]) for axis in range(3)]
    if keep_highest_along_y and steps[2 - along_y] > 1:
        picks[along_y] = slice(None)
        starts = np.arange(0, volume.array.shape[along_y], steps[2 - along_y])
        array = np.maximum.reduceat(volume.array[tuple(picks)], starts, axis=along_y)
    else:
        array = volume.array[tuple(picks)].copy()  # a view would keep the whole array alive
    spacing = tuple(s * step for s, step in zip(grid.spacing, steps, strict=True))
    thin = Grid(array.shape[::-1], spacing, grid.origin, grid.direction)  # type: ignore[arg-type]
    return Volume(array, thin).reordered_to_lps()


def array_axis(grid: Grid, patient_axis: int) -> int:
    """The array axis that runs nearest to L (0), P (1) or S (2)."""
    return 2 - grid.axis_order()[0][patient_axis]


def center_mm(
    mask: NDArray[np.bool_], box: tuple[slice, slice, slice], grid: Grid
) -> tuple[float, float, float]:
    """Centroid of a cropped mask, LPS mm."""
    counts = mask.sum(axis=2, dtype=np.int64)  # (z, y)
    columns = mask.sum(axis=0, dtype=np.int64).sum(axis=0)
    profiles = (counts.sum(axis=1), counts.sum(axis=0), columns)
    index = [
        place.start + float(np.average(np.arange(profile.size), weights=profile))
        for place, profile in zip(box, profiles, strict=True)
    ]
    return position(grid.world_from_index(index[::-1]))


def position(world: NDArray[np.float64]) -> tuple[float, float, float]:
    """A place as findings hold it, LPS mm."""
    return (float(world[0]), float(world[1]), float(world[2]))


def shared_voxels(
    one: Region, other: Region
) -> tuple[NDArray[np.bool_], tuple[slice, slice, slice]]:
    """Voxels of `one` that `other` has too, on the box that both share (may be of size zero)."""
    box = tuple(
        slice(max(a.start, b.start), max(min(a.stop, b.stop), max(a.start, b.start)))
        for a, b in zip(one.box, other.box, strict=True)
    )
    shared = one.mask[within(box, one.box)] & other.mask[within(box, other.box)]
    return shared, (box[0], box[1], box[2])


def within(box: Iterable[slice], outer: Iterable[slice]) -> tuple[slice, ...]:
    """The box counted from the corner of another one."""
    return tuple(
        slice(b.start - o.start, b.stop - o.start) for b, o in zip(box, outer, strict=True)
    )


def center_of(mask: NDArray[np.bool_], grid: Grid) -> tuple[float, float, float]:
    """Centroid of a mask on its whole grid, LPS mm."""
    whole = tuple(slice(0, n) for n in mask.shape)
    return center_mm(mask, (whole[0], whole[1], whole[2]), grid)


def grown(mask: NDArray[np.bool_], grid: Grid, margin_mm: float) -> NDArray[np.bool_]:
    """The mask with a margin in plane."""
    reach = [2 * max(1, round(margin_mm / grid.spacing[axis])) + 1 for axis in (1, 0)]
    return ndimage.maximum_filter(mask, size=(1, *reach))


def wide_rows(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """`(z, y)`: rows of which the mask covers the width of a couch."""
    return mask.sum(axis=2) * grid.spacing[0] >= SHEET_MM
