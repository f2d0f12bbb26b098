"""The fields of a plan: fluence elements of each beam, the shapes that give them, and the beams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..delivery import TreatmentBeam
from .machine import Machine
from .sequence import Elements, Shape

__all__ = ["Field", "fields_of", "shaped_fluence", "treatment_beams"]

Array = NDArray[np.float64]
_DECIMALS_MM = 3
_DOSE_RATE_MU_MIN = 300.0


@dataclass(frozen=True, eq=False)
class Field:
    """One beam's elements among those of all beams, and the shapes of its segments.

    Args:
        elements: where they stand among all.
        rows, columns: of each element in `elements_on`.
        elements_on: the lattice that holds them all.
        shapes: none yet, before they are sought.
    """

    gantry_degrees: float
    elements: slice
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    elements_on: Elements
    shapes: tuple[Shape, ...] = ()

    def of_elements(self, lattice: Array) -> Array:
        """Values `(element,)` from those on the lattice."""
        return lattice[self.rows, self.columns]

    def on_lattice(self, values: NDArray, elsewhere: float) -> Array:
        """Values `(element,)` on the lattice."""
        lattice = np.full(self.elements_on.shape, elsewhere)
        lattice[self.rows, self.columns] = values
        return lattice


def fields_of(
    positions: Sequence[Array], gantry_degrees: Sequence[float], step_mm: float
) -> list[Field]:
    """The fields of a plan, without shapes.

    Args:
        positions: of each beam, its elements `(element, 2)` along and across the leaves, mm.
        step_mm: edge of an element.
    """
    fields, start = [], 0
    for places, degrees in zip(positions, gantry_degrees, strict=True):
        stop = start + len(places)
        low = places.min(axis=0)
        at = np.rint((places - low) / step_mm).astype(np.intp)
        columns, rows = at.max(axis=0) + 1
        lattice = Elements((float(low[0]), float(low[1])), (int(rows), int(columns)), step_mm)
        fields.append(Field(degrees, slice(start, stop), at[:, 1], at[:, 0], lattice))
        start = stop
    return fields


def shaped_fluence(
    fields: Sequence[Field], mu: Array, machine: Machine, elements: int
) -> NDArray[np.float32]:
    """Fluence of all elements that segments give together, leaves' transmission included.

    Args:
        mu: of each shape, in the fields' order.
    """
    fluence = np.zeros(elements, dtype=np.float32)
    units = iter(mu)
    for field in fields:
        for shape in field.shapes:
            passed = shape.passed(field.elements_on, machine, machine.transmission)
            fluence[field.elements] += next(units) * field.of_elements(passed)
    return fluence


def treatment_beams(
    fields: Sequence[Field],
    mu: Array,
    machine: Machine,
    isocenter_mm: tuple[float, float, float],
) -> tuple[TreatmentBeam, ...]:
    """Beams in segments; a shape without monitor units is left out, and a beam without shapes.

    Args:
        mu: of each shape, in the fields' order.
    """
    beams: list[TreatmentBeam] = []
    start = 0
    for field in fields:
        own = mu[start : start + len(field.shapes)]
        start += len(field.shapes)
        given = [
            (shape, float(units))
            for shape, units in zip(field.shapes, own, strict=True)
            if units > 0
        ]
        if given:
            beams.append(_beam(len(beams) + 1, field, given, machine, isocenter_mm))
    return tuple(beams)


def _beam(
    number: int,
    field: Field,
    given: Sequence[tuple[Shape, float]],
    machine: Machine,
    isocenter_mm: tuple[float, float, float],
) -> TreatmentBeam:
    units = np.array([mu for _, mu in given])
    total = float(units.sum())
    ends = np.cumsum(units) / total
    ends[-1] = 1.0
    starts = np.concatenate([[0.0], ends[:-1]])
    points = 2 * len(given)
    leaves = np.repeat(np.stack([shape.leaves_mm for shape, _ in given]), 2, axis=0)
    jaws_x, jaws_y = (
        np.repeat(np.stack([getattr(shape, name) for shape, _ in given]), 2, axis=0)
        for name in ("jaws_x_mm", "jaws_y_mm")
    )
    constant = np.ones(points)
    return TreatmentBeam(
        number=number,
        name=f"G{field.gantry_degrees:g}",
        machine=machine.id,
        kind="DYNAMIC" if len(given) > 1 else "STATIC",
        radiation="PHOTON",
        energy_mv=machine.energies_mv[0],
        meterset=total,
        weight=np.stack([starts, ends], axis=1).ravel(),
        gantry_degrees=constant * field.gantry_degrees,
        collimator_degrees=constant * 0,
        couch_degrees=constant * 0,
        jaws_x_mm=jaws_x,
        jaws_y_mm=jaws_y,
        leaves_mm=np.round(leaves, _DECIMALS_MM),
        leaf_borders_mm=machine.borders_mm,
        leaves_along=machine.leaves_along,
        isocenter_mm=isocenter_mm,
        dose_rate_mu_min=constant * min(_DOSE_RATE_MU_MIN, machine.dose_rate_mu_min[1]),
        stated_points=points,
        sad_mm=machine.sad_mm,
    )
