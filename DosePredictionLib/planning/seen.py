"""The voxels that a beam reaches, as it sees them: what its dose model asks of the patient."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..beams.arrangement import Aperture, Beam, BeamArrangement
from ..beams.geometry import BeamFrame
from ..beams.ray_model import RayModel
from ..beams.tracing import Anatomy, trace
from .kernels import FieldKernels, FieldLattice, KernelModel

__all__ = ["SeenVoxels", "projected"]

Single = NDArray[np.float32]

_SURFACE_DENSITY = 0.05
_STEP_MM = 2.0
_FIELD_REACH_MM = 180.0
_MARGIN_MM = 5.0
_PLAIN = RayModel(bixel_mm=5.0, reach_mm=_FIELD_REACH_MM, depth_step_mm=2.5)


@dataclass(frozen=True, eq=False)
class SeenVoxels:
    """Voxels that one beam reaches.

    Args:
        voxels: flat indices on the anatomy's grid.
        u_mm, v_mm: projected onto the plane of the isocenter.
        parts: what multiplies each convolved fluence, `(component, voxel)`; Gy of a whole field
            are `model.gy_per_mu` times their sum.
        ssd_mm: from the source to the surface along the axis.
        reach_mm: how far they lie from the axis, along u and v.
    """

    voxels: NDArray[np.intp]
    u_mm: Single
    v_mm: Single
    parts: Single
    ssd_mm: float
    reach_mm: tuple[float, float]

    @classmethod
    def of(
        cls,
        gantry_degrees: float,
        isocenter_mm: tuple[float, float, float],
        anatomy: Anatomy,
        model: KernelModel,
        only: NDArray[np.bool_] | None = None,
    ) -> SeenVoxels:
        """What a coplanar beam sees.

        Args:
            only: voxels that count, flat; None: the anatomy's region.
        """
        beam = Beam(gantry_degrees % 360.0, aperture=Aperture())
        arrangement = replace(BeamArrangement((beam,), isocenter_mm), sad_mm=model.sad_mm)
        (field,) = trace(arrangement, anatomy, _PLAIN)
        kept = slice(None) if only is None else only[field.voxels]
        voxels, depth = field.voxels[kept], field.depth_mm[kept]
        u, v, distance = projected(voxels, field.frame, anatomy)
        reach = tuple(
            float(np.abs(places).max()) + _MARGIN_MM
            for places in (field.lattice.u_mm, field.lattice.v_mm)
        )
        ssd = _ssd_mm(field.frame, anatomy)
        return cls(voxels, u, v, model.places(depth, distance), ssd, reach)  # type: ignore[arg-type]

    def turned(self, collimator_degrees: float) -> SeenVoxels:
        """The same as the turned collimator sees them."""
        turn = np.radians(collimator_degrees)
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        u, v = self.u_mm * cos + self.v_mm * sin, self.v_mm * cos - self.u_mm * sin
        return replace(self, u_mm=u, v_mm=v)

    def lattice(self, step_mm: float = 1.0) -> FieldLattice:
        """A lattice of fluence that covers them."""
        return FieldLattice.covering(*self.reach_mm, step_mm)

    def raw_dose(self, fluence: NDArray[np.float64], kernels: FieldKernels) -> Single:
        """Dose `(voxel,)` of a fluence `(v, u)`, but for what one monitor unit is."""
        maps = kernels.convolved(fluence).at(self.u_mm, self.v_mm)
        dose: Single = (self.parts * maps).sum(axis=0)
        return dose


def projected(voxels: NDArray, frame: BeamFrame, anatomy: Anatomy) -> tuple[Single, Single, Single]:
    """u and v in the plane of the isocenter, and the distance from the source, of voxels."""
    grid = anatomy.grid
    z, row, column = np.unravel_index(voxels, grid.shape)
    x_mm, y_mm, z_mm = (
        (grid.origin[axis] + grid.spacing[axis] * at).astype(np.float32)
        for axis, at in enumerate((column, row, z))
    )
    axial, u = frame.plane(x_mm, y_mm)
    v = frame.height(z_mm, axial)
    slant = 1 + (u**2 + v**2) / np.float32(frame.sad_mm) ** 2
    return u, v, axial * np.sqrt(slant)


def _ssd_mm(frame: BeamFrame, anatomy: Anatomy) -> float:
    """From the source to the surface along the beam's axis; the isocenter's, if it meets none."""
    along = np.arange(0.0, 2 * frame.sad_mm, _STEP_MM)
    source = np.asarray(frame.source_mm)
    toward = np.array([*frame.toward, 0.0])
    index = np.round(anatomy.grid.index_from_world(source + along[:, None] * toward)).astype(int)
    inside = np.all((index >= 0) & (index < np.asarray(anatomy.grid.size)), axis=1)
    x, y, z = index[inside].T
    dense = np.flatnonzero(anatomy.density[z, y, x] > _SURFACE_DENSITY)
    return float(along[inside][dense[0]]) if dense.size else frame.sad_mm
