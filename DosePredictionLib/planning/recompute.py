"""The dose of a plan from its leaf positions and monitor units, as they are written.

Nothing of the optimizer enters: each control point's aperture becomes a fluence on a lattice of a
millimeter, with what the leaves let through and the gaps that they leave; see `kernels`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..beams.tracing import Anatomy
from ..delivery import TreatmentBeam
from ..errors import CaseError
from ..volume import Volume
from .kernels import FieldLattice, KernelModel
from .machine import Machine
from .seen import SeenVoxels

__all__ = ["fluence_mu", "passed_share", "plan_dose", "require_modelled"]

Array = NDArray[np.float64]
Progress = Callable[[float], None]


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
        require_modelled(beam)
        assert beam.isocenter_mm is not None
        seen = SeenVoxels.of(float(beam.gantry_degrees[0]), beam.isocenter_mm, anatomy, model)
        seen, lattice = seen.turned(float(beam.collimator_degrees[0])), seen.lattice()
        fluence = fluence_mu(beam, lattice, machine.transmission)
        total[seen.voxels] += scale * seen.raw_dose(fluence, model.kernels_on(lattice, seen.ssd_mm))
        progress((index + 1) / len(beams))
    return Volume(total.reshape(anatomy.grid.shape), anatomy.grid)


def require_modelled(beam: TreatmentBeam) -> None:
    """Refuse a beam that the dose models are not made for.

    Raises:
        CaseError: it turns, has no monitor units or isocenter, or leaves along Y.
    """
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


def fluence_mu(beam: TreatmentBeam, lattice: FieldLattice, transmission: float) -> Array:
    """Monitor units that pass each element `(v, u)`, collimator turned where the beam says so.

    A step between two control points counts with the mean of their apertures.
    """
    total = np.zeros(lattice.shape)
    for index, mu in enumerate(beam.step_mu):
        if mu <= 0:
            continue
        ends = {index, index + 1}
        if np.array_equal(beam.leaves_mm[index], beam.leaves_mm[index + 1]):
            ends = {index}
        for point in ends:
            jaws = (beam.jaws_x_mm[point], beam.jaws_y_mm[point])
            open_ = passed_share(
                beam.leaves_mm[point], beam.leaf_borders_mm, jaws, lattice, transmission
            )
            total += mu / len(ends) * open_
    return total


def passed_share(
    leaves_mm: Array,
    borders_mm: Array,
    jaws_mm: tuple[Array, Array],
    lattice: FieldLattice,
    transmission: float,
) -> Array:
    """Share of the fluence that passes leaves and jaws, `(v, u)`; jaws let nothing through.

    Args:
        leaves_mm: `(bank, leaf pair)`.
        borders_mm: across the leaves.
        jaws_mm: both along the leaves, both across them.
    """
    (x1, x2), (y1, y2) = jaws_mm
    left, right = leaves_mm
    low, high = np.maximum(left, x1), np.minimum(right, x2)
    across = lattice.coverage(
        np.maximum(borders_mm[:-1], y1), np.minimum(borders_mm[1:], y2), lattice.half_v
    )
    along = lattice.coverage(low, np.maximum(high, low), lattice.half_u)
    open_ = across.T @ along
    jaw_v = lattice.coverage(np.array([y1]), np.array([y2]), lattice.half_v)[0]
    jaw_u = lattice.coverage(np.array([x1]), np.array([x2]), lattice.half_u)[0]
    closed: Array = np.outer(jaw_v, jaw_u) - open_
    return open_ + transmission * closed
