"""From a patient and an arrangement to the dose operator of its beams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from ..errors import CaseError
from ..volume import Grid
from .arrangement import BeamArrangement, Field
from .geometry import BeamFrame, Lattice, beam_frame
from .ray_model import RayModel

__all__ = ["Anatomy", "TracedField", "bilinear", "isocenter_of", "trace"]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What rays pass and beams aim at.

    Args:
        grid: axis-aligned, LPS-ordered.
        density: relative to water `(z, y, x)`; 0 outside the patient.
        region: where dose is calculated `(z, y, x)`.
        targets: name → bool `(z, y, x)`.
    """

    grid: Grid
    density: Array
    region: Mask
    targets: Mapping[str, Mask]


@dataclass(frozen=True, eq=False)
class TracedField:
    """One field's rays through a patient.

    Args:
        field: its angle and aperture.
        frame: its axes.
        lattice: its fluence elements.
        opened: target → elements that see it or its margin, bool `(v, u)`; those of the aperture.
        voxels: flat indices of the grid's voxels that it reaches.
        depth_mm: in water, of each of them.
        matrix: dose of the blurred fluence, `(one of these voxels, element of the lattice)`.
    """

    field: Field
    frame: BeamFrame
    lattice: Lattice
    opened: Mapping[str, Mask]
    voxels: NDArray[np.int32]
    depth_mm: Array
    matrix: sparse.csr_array

    @cached_property
    def open(self) -> Mask:
        """Elements that the aperture leaves open, bool `(v, u)`."""
        result: Mask = np.any(list(self.opened.values()), axis=0)
        return result


def isocenter_of(arrangement: BeamArrangement, anatomy: Anatomy) -> tuple[float, float, float]:
    """The arrangement's isocenter, or the center of the box around all targets, LPS mm."""
    if arrangement.isocenter_mm is not None:
        return arrangement.isocenter_mm
    union = np.any(list(anatomy.targets.values()), axis=0)
    center = []
    for axis in (2, 1, 0):
        filled = np.flatnonzero(union.any(axis=tuple(a for a in range(3) if a != axis)))
        center.append((filled[0] + filled[-1]) / 2)
    x, y, z = anatomy.grid.world_from_index(center)
    return (float(x), float(y), float(z))


def trace(arrangement: BeamArrangement, anatomy: Anatomy, model: RayModel) -> list[TracedField]:
    """The rays of every field.

    Raises:
        CaseError: a field sees no target, or its aperture names one that there is not.
    """
    for field in arrangement.fields:
        _require_seen(field, anatomy)
    isocenter = isocenter_of(arrangement, anatomy)
    return [
        _Tracer(anatomy, model, beam_frame(arrangement, field.gantry_degrees, isocenter), field)()
        for field in arrangement.fields
    ]


def _require_seen(field: Field, anatomy: Anatomy) -> None:
    """Refuse a field without a target.

    Raises:
        CaseError: names it.
    """
    filled = [name for name, mask in anatomy.targets.items() if mask.any()]
    wanted = field.aperture.targets
    if any(name in filled for name in wanted or filled):
        return
    raise CaseError(
        f"The beam from {field.gantry_degrees:g}° sees no target: its aperture is for "
        f"{', '.join(wanted) or 'any'}, and there is {', '.join(filled) or 'none'}. Correct the "
        "beams."
    )


class _Tracer:
    def __init__(self, anatomy: Anatomy, model: RayModel, frame: BeamFrame, field: Field) -> None:
        self.anatomy, self.model, self.frame, self.field = anatomy, model, frame, field
        grid = anatomy.grid
        self.x_mm, self.y_mm, self.z_mm = (
            (grid.origin[axis] + grid.spacing[axis] * np.arange(grid.size[axis])).astype(np.float32)
            for axis in range(3)
        )
        # (y, x): everything of a coplanar beam but v depends on the axial plane alone.
        self.axial_mm, self.u_mm = frame.plane(self.x_mm[None, :], self.y_mm[:, None])

    def __call__(self) -> TracedField:
        targets = self.anatomy.targets
        chosen = [n for n in self.field.aperture.targets or targets if n in targets]
        seen = {name: self._projected(self.anatomy.targets[name]) for name in chosen}
        u, v = (np.concatenate(each) for each in zip(*seen.values(), strict=True))
        lattice = Lattice.around(u, v, self.model.bixel_mm, self.model.reach_mm)
        opened = {name: self._opened(*places, lattice) for name, places in seen.items()}
        z, row, column = self._reached(lattice)
        axial = self.axial_mm[row, column]
        at_u, at_v = lattice.index(self.u_mm[row, column], self.frame.height(self.z_mm[z], axial))
        depth = self._depth(lattice, axial, at_u, at_v)
        dose = self.model.depth_dose(depth) * (np.float32(self.frame.sad_mm) / axial) ** 2
        shape = self.anatomy.density.shape
        voxels = ((z * shape[1] + row) * shape[2] + column).astype(np.int32)
        matrix = bilinear(at_u, at_v, dose, lattice)
        return TracedField(self.field, self.frame, lattice, opened, voxels, depth, matrix)

    def _projected(self, target: Mask) -> tuple[Array, Array]:
        z, row, column = np.nonzero(target)
        axial = self.axial_mm[row, column]
        return self.u_mm[row, column], self.frame.height(self.z_mm[z], axial)

    def _opened(self, u_mm: Array, v_mm: Array, lattice: Lattice) -> Mask:
        """Elements within the margin of a ray through a target's voxel."""
        hit = np.zeros(lattice.shape, dtype=bool)
        at_u, at_v = (np.round(at).astype(int) for at in lattice.index(u_mm, v_mm))
        hit[at_v, at_u] = True
        # Voxels may lie farther apart than elements.
        grid = self.anatomy.grid
        margin = max(self.field.aperture.margin_mm, max(grid.spacing) / 2)
        apart = ndimage.distance_transform_edt(~hit) * lattice.step_mm
        opened: Mask = apart <= margin
        return opened

    def _reached(self, lattice: Lattice) -> tuple[NDArray, NDArray, NDArray]:
        """Indices (z, y, x) of the region's voxels between the lattice's outer centers."""
        u, v = lattice.u_mm, lattice.v_mm
        inside = (self.u_mm > u[0]) & (self.u_mm < u[-1])
        height = self.frame.height(self.z_mm[:, None, None], self.axial_mm[None])
        reached = self.anatomy.region & inside[None]
        reached &= (height > v[0]) & (height < v[-1])
        z, row, column = np.nonzero(reached)
        return z, row, column

    def _depth(self, lattice: Lattice, axial: Array, at_u: Array, at_v: Array) -> Array:
        """Depth in water, mm, at places with an axial distance and lattice indices."""
        step = self.model.depth_step_mm
        body = np.flatnonzero((self.anatomy.density > 0).any(axis=(0)).ravel())
        first = float(self.axial_mm.ravel()[body].min()) - step
        count = int(np.ceil((float(axial.max(initial=first)) - first) / step)) + 2
        along = (first + step * np.arange(count)).astype(np.float32)
        sad = np.float32(self.frame.sad_mm)
        slope_u, slope_v = lattice.u_mm / sad, lattice.v_mm / sad
        grid, frame = self.anatomy.grid, self.frame
        # (along, v, u), in voxels.
        shape = (count, slope_v.size, slope_u.size)
        places = np.empty((3, *shape), dtype=np.float32)
        for axis in range(2):
            lateral = slope_u[None] * frame.across[axis] + np.float32(frame.toward[axis])
            mm = frame.source_mm[axis] + along[:, None] * lateral
            places[2 - axis] = ((mm - grid.origin[axis]) / grid.spacing[axis])[:, None, :]
        mm = frame.source_mm[2] + along[:, None] * slope_v[None]
        places[0] = ((mm - grid.origin[2]) / grid.spacing[2])[:, :, None]
        density = ndimage.map_coordinates(
            self.anatomy.density, places, output=np.float32, order=1, mode="constant"
        )
        # Trapezoids along the ray, which is longer than the axis the more it is inclined.
        depth = np.zeros(shape, dtype=np.float32)
        np.cumsum((density[1:] + density[:-1]) * np.float32(step / 2), axis=0, out=depth[1:])
        depth *= np.sqrt(1 + slope_v[:, None] ** 2 + slope_u[None] ** 2)
        at = np.stack([(axial - np.float32(first)) / np.float32(step), at_v, at_u])
        return ndimage.map_coordinates(depth, at, output=np.float32, order=1, mode="nearest")


def bilinear(at_u: Array, at_v: Array, dose: Array, lattice: Lattice) -> sparse.csr_array:
    """Dose of fluence that is interpolated between four elements, `(place, element)`."""
    rows, columns = lattice.shape
    u, v = at_u.astype(np.int32), at_v.astype(np.int32)
    np.clip(u, 0, columns - 2, out=u)
    np.clip(v, 0, rows - 2, out=v)
    right, up = at_u - u, at_v - v
    data = np.empty((at_u.size, 4), dtype=np.float32)
    data[:, 0] = (1 - up) * (1 - right) * dose
    data[:, 1] = (1 - up) * right * dose
    data[:, 2] = up * (1 - right) * dose
    data[:, 3] = up * right * dose
    first = v * columns + u
    indices = first[:, None] + np.array([0, 1, columns, columns + 1], dtype=np.int32)
    starts = np.arange(0, 4 * at_u.size + 1, 4, dtype=np.int32)
    return sparse.csr_array(
        (data.ravel(), indices.ravel(), starts), shape=(at_u.size, rows * columns)
    )
