"""The dose of a plan from its leaf positions and monitor units, as they are written.

Nothing of the optimizer enters: each control point's aperture becomes a fluence on a lattice of a
millimeter, with what the leaves let through and the gaps that they leave; see `kernels`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..beams.arrangement import Aperture, Beam, BeamArrangement
from ..beams.geometry import BeamFrame
from ..beams.ray_model import RayModel
from ..beams.tracing import Anatomy, TracedField, trace
from ..delivery import TreatmentBeam
from ..errors import CaseError
from ..volume import Volume
from .kernels import FieldLattice, KernelModel
from .machine import Machine

__all__ = ["fluence_mu", "plan_dose"]

Array = NDArray[np.float64]
Progress = Callable[[float], None]

_SURFACE_DENSITY = 0.05
_STEP_MM = 2.0
_FIELD_REACH_MM = 180.0
_PLAIN = RayModel(bixel_mm=5.0, reach_mm=_FIELD_REACH_MM, depth_step_mm=2.5)


def plan_dose(
    beams: Sequence[TreatmentBeam],
    anatomy: Anatomy,
    model: KernelModel,
    machine: Machine,
    progress: Progress = lambda share: None,
) -> Volume:
    """Dose of one fraction, Gy, on the anatomy's grid, within its region.

    Args:
        beams: head first, supine; couch at 0°. Leaves move along X.
        anatomy: density, and the region of the dose.
        model: kernels of the beams' energy.
        machine: transmission and the monitor unit.
        progress: hears the share done after each beam; may raise to cancel.

    Raises:
        CaseError: a beam that the model is not made for, or one without monitor units.
    """
    scale = np.float32(model.gy_per_mu(machine.calibration))
    total = np.zeros(int(np.prod(anatomy.grid.shape)), dtype=np.float32)
    for index, beam in enumerate(beams):
        _require_modelled(beam)
        (field,) = trace(_arrangement(beam, model.sad_mm), anatomy, _PLAIN)
        total[field.voxels] += scale * _field_dose(beam, field, anatomy, model, machine)
        progress((index + 1) / len(beams))
    return Volume(total.reshape(anatomy.grid.shape), anatomy.grid)


def _require_modelled(beam: TreatmentBeam) -> None:
    fault = ""
    if not beam.meterset:
        fault = "has no monitor units"
    elif beam.isocenter_mm is None:
        fault = "has no isocenter"
    elif beam.leaves_along != "X":
        fault = "has no leaves along X"
    elif np.ptp(beam.gantry_degrees) > 0.1:
        fault = "turns the gantry"
    elif np.abs(beam.couch_degrees).max() > 0.1:
        fault = "turns the couch"
    if fault:
        raise CaseError(
            f"{beam.name} {fault}: doses are calculated of coplanar static beams with leaves "
            "along X."
        )


def _arrangement(beam: TreatmentBeam, sad_mm: float) -> BeamArrangement:
    degrees = float(beam.gantry_degrees[0]) % 360.0
    arrangement = BeamArrangement((Beam(degrees, aperture=Aperture()),), beam.isocenter_mm)
    return replace(arrangement, sad_mm=sad_mm)


def fluence_mu(beam: TreatmentBeam, lattice: FieldLattice, transmission: float) -> Array:
    """Monitor units that pass each element `(v, u)`, collimator turned where the beam says so.

    A step between two control points counts with the mean of their apertures.
    """
    total = np.zeros((2 * lattice.half_v + 1, 2 * lattice.half_u + 1))
    for index, mu in enumerate(beam.step_mu):
        if mu <= 0:
            continue
        ends = {index, index + 1}
        if np.array_equal(beam.leaves_mm[index], beam.leaves_mm[index + 1]):
            ends = {index}
        for point in ends:
            total += mu / len(ends) * _aperture(beam, point, lattice, transmission)
    return total


def _aperture(beam: TreatmentBeam, point: int, lattice: FieldLattice, transmission: float) -> Array:
    """Share of the fluence that passes leaves and jaws, `(v, u)`; jaws let nothing through."""
    borders = beam.leaf_borders_mm
    (x1, x2), (y1, y2) = beam.jaws_x_mm[point], beam.jaws_y_mm[point]
    left, right = beam.leaves_mm[point]
    low, high = np.maximum(left, x1), np.minimum(right, x2)
    across = lattice.coverage(
        np.maximum(borders[:-1], y1), np.minimum(borders[1:], y2), lattice.half_v
    )
    along = lattice.coverage(low, np.maximum(high, low), lattice.half_u)
    open_ = across.T @ along
    jaw_v = lattice.coverage(np.array([y1]), np.array([y2]), lattice.half_v)[0]
    jaw_u = lattice.coverage(np.array([x1]), np.array([x2]), lattice.half_u)[0]
    closed: Array = np.outer(jaw_v, jaw_u) - open_
    return open_ + transmission * closed


def _field_dose(
    beam: TreatmentBeam,
    field: TracedField,
    anatomy: Anatomy,
    model: KernelModel,
    machine: Machine,
) -> NDArray[np.float32]:
    """Raw dose of the voxels that a field reaches."""
    u, v, distance = _projected(field, anatomy)
    lattice = FieldLattice.covering(
        float(np.abs(field.lattice.u_mm).max()) + 5, float(np.abs(field.lattice.v_mm).max()) + 5
    )
    fluence = fluence_mu(beam, lattice, machine.transmission)
    maps = model.convolved(fluence, lattice, _ssd_mm(field.frame, anatomy))
    turn = np.radians(float(beam.collimator_degrees[0]))
    if abs(turn) > 1e-4:
        u, v = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
    return model.raw_dose(maps, u, v, field.depth_mm, distance)


def _projected(
    field: TracedField, anatomy: Anatomy
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """u and v in the plane of the isocenter, and the distance from the source, of its voxels."""
    frame, grid = field.frame, anatomy.grid
    z, row, column = np.unravel_index(field.voxels, grid.shape)
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
