"""The fields of a plan: fluence elements of each beam, the shapes that give them, and the beams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..delivery import TreatmentBeam
from .machine import Machine
from .sequence import FluenceMap, Shape, in_steps, sweep

__all__ = ["Field", "open_fluence", "sequenced", "treatment_beams"]

Array = NDArray[np.float64]
_DECIMALS_MM = 3
_DOSE_RATE_MU_MIN = 300.0


@dataclass(frozen=True, eq=False)
class Field:
    """One beam's elements among those of all beams, and the shapes that give them.

    Args:
        elements: where they stand among all.
        rows, columns: of each element in `map`.
        map: their fluence on the lattice that holds them all.
        shapes: none yet, before it is sequenced.
    """

    gantry_degrees: float
    elements: slice
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    map: FluenceMap
    shapes: tuple[Shape, ...] = ()

    @property
    def present(self) -> NDArray[np.bool_]:
        """Places of the lattice that have an element, `(row, column)`."""
        inside = np.zeros(self.map.values.shape, dtype=bool)
        inside[self.rows, self.columns] = True
        return inside


def fields_of(
    positions: Sequence[Array], gantry_degrees: Sequence[float], fluence: Array, step_mm: float
) -> list[Field]:
    """The fields of a fluence.

    Args:
        positions: of each beam, its elements `(element, 2)` along and across the leaves, mm.
        fluence: of all elements, beam by beam.
        step_mm: edge of an element.
    """
    fields, start = [], 0
    for places, degrees in zip(positions, gantry_degrees, strict=True):
        stop = start + len(places)
        low = places.min(axis=0)
        at = np.rint((places - low) / step_mm).astype(np.intp)
        values = np.zeros(at.max(axis=0)[::-1] + 1)
        values[at[:, 1], at[:, 0]] = fluence[start:stop]
        lattice = FluenceMap(values, (float(low[0]), float(low[1])), step_mm)
        fields.append(Field(degrees, slice(start, stop), at[:, 1], at[:, 0], lattice))
        start = stop
    return fields


def sequenced(fields: Sequence[Field], steps: int, machine: Machine) -> list[Field]:
    """Fields with the shapes that give them, those that leave too little open left out.

    Args:
        steps: in which the highest fluence of any beam is given; the others take as many as they
            need of the same size, at least half as many.

    Raises:
        CaseError: a field lies beyond the leaves.
    """
    highest = max(float(field.map.values.max()) for field in fields)
    done = []
    for field in fields:
        own = max(float(field.map.values.max()), highest / 2)
        shapes = sweep(field.map, in_steps(field.map, own / steps), machine)
        kept = [
            s for s in shapes if _area_mm2(s, field.map, machine) >= machine.min_segment_area_mm2
        ]
        done.append(replace(field, shapes=tuple(kept)))
    return done


def _area_mm2(shape: Shape, lattice: FluenceMap, machine: Machine) -> float:
    return float(shape.open_elements(lattice, machine.borders_mm).sum()) * lattice.step_mm**2


def open_fluence(fields: Sequence[Field], machine: Machine, elements: int) -> NDArray[np.float32]:
    """Fluence that one unit of each shape gives, leaves' transmission included.

    Returns:
        `(element, shape)`, the shapes of all fields in their order.
    """
    columns = []
    for field in fields:
        for shape in field.shapes:
            open_ = shape.open_elements(field.map, machine.borders_mm)
            passed = open_ + machine.transmission * (1 - open_)
            column = np.zeros(elements, dtype=np.float32)
            column[field.elements] = passed[field.rows, field.columns]
            columns.append(column)
    return np.stack(columns, axis=1)


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
    x, y = field.map.x_edges_mm, field.map.y_edges_mm
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
        jaws_x_mm=np.tile([x[0], x[-1]], (points, 1)),
        jaws_y_mm=np.tile([y[0], y[-1]], (points, 1)),
        leaves_mm=np.round(leaves, _DECIMALS_MM),
        leaf_borders_mm=machine.borders_mm,
        leaves_along=machine.leaves_along,
        isocenter_mm=isocenter_mm,
        dose_rate_mu_min=constant * min(_DOSE_RATE_MU_MIN, machine.dose_rate_mu_min[1]),
        stated_points=points,
        sad_mm=machine.sad_mm,
    )
