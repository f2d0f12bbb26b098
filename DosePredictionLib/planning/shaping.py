"""The segments whose dose comes nearest to a wanted one: column generation.

    repeat   what would a little more fluence be worth at each element of each beam?
             the shape of the leaves that gains most joins, one of each beam
             the monitor units of all shapes are fitted to the wanted dose

(Romeijn et al., SIAM J. Optim. 15 (2005) 838, doi 10.1137/040606612.) What a shape gives is the
dose of its leaf positions as `recompute` has it, leakage, scatter and penumbra included, so that
what is fitted is what is written. The influence matrix only says where to look for shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..beams.operator import DoseOperator
from .fields import Field
from .kernels import FieldKernels, KernelModel
from .machine import Machine
from .recompute import passed_share
from .seen import SeenVoxels
from .sequence import Shape, best_shape
from .units import fit_units

__all__ = ["SegmentDoses", "Segments", "Shaper"]

Array = NDArray[np.float64]
Single = NDArray[np.float32]

_CLOSED = -1e-3  # worth of fluence where a beam has no element, of the largest


class SegmentDoses:
    """Dose of one monitor unit of any shape of one beam at voxels that count.

    Args:
        seen: by the beam.
        model, machine: as `recompute.plan_dose` takes them.
        gy: of the whole treatment, for a raw dose of 1.
        voxels: that count, flat and rising.
    """

    def __init__(
        self,
        seen: SeenVoxels,
        model: KernelModel,
        machine: Machine,
        gy: np.float32,
        voxels: NDArray[np.intp],
    ) -> None:
        self._seen, self._machine, self._gy = seen, machine, gy
        self._kernels: FieldKernels = model.kernels_on(seen.lattice(), seen.ssd_mm)
        self._at, self._voxels = np.searchsorted(voxels, seen.voxels), voxels.size

    def dose(self, shape: Shape) -> Single:
        """`(voxel,)`, Gy."""
        machine = self._machine
        fluence = passed_share(
            shape.leaves_mm,
            machine.borders_mm,
            (shape.jaws_x_mm, shape.jaws_y_mm),
            self._kernels.lattice,
            machine.transmission,
        )
        dose = np.zeros(self._voxels, dtype=np.float32)
        dose[self._at] = self._gy * self._seen.raw_dose(fluence, self._kernels)
        return dose


@dataclass(eq=False)
class Segments:
    """Shapes of all beams, their doses of one monitor unit, and the units that come nearest.

    Args:
        wanted: Gy `(voxel,)`.
        weights: by how much each voxel counts.
    """

    wanted: Single
    weights: Single
    owners: list[int] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    doses: list[Single] = field(default_factory=list)
    gram: Array = field(default_factory=lambda: np.zeros((0, 0)))
    right: Array = field(default_factory=lambda: np.zeros(0))
    units: Array = field(default_factory=lambda: np.zeros(0))

    def add(self, found: Sequence[tuple[int, Shape, Single]]) -> None:
        """Shapes with the beams that they belong to and their doses, as yet without units."""
        start = len(self.shapes)
        self.owners += [owner for owner, _, _ in found]
        self.shapes += [shape for _, shape, _ in found]
        self.doses += [dose for _, _, dose in found]
        fresh = np.stack(self.doses[start:]) * self.weights
        cross = np.stack([fresh @ dose for dose in self.doses]).astype(float)
        gram = np.empty((len(self.doses),) * 2)
        gram[:start, :start] = self.gram
        gram[:, start:], gram[start:, :] = cross, cross.T
        self.gram = gram
        self.right = np.append(self.right, fresh @ self.wanted)
        self.units = np.append(self.units, np.zeros(len(found)))

    def want(self, wanted: Single) -> None:
        """Another dose of the same shapes, Gy `(voxel,)`."""
        self.wanted = wanted
        counted = self.weights * wanted
        self.right = np.array([dose @ counted for dose in self.doses])

    def fit(self, least: float = 0.0) -> None:
        """Monitor units anew; shapes that get none leave."""
        units = fit_units(self.gram, self.right, least, self.units)
        kept = units > 1e-6 * units.max(initial=0)
        chosen = np.flatnonzero(kept)
        self.owners = [self.owners[index] for index in chosen]
        self.shapes = [self.shapes[index] for index in chosen]
        self.doses = [self.doses[index] for index in chosen]
        self.gram, self.right = self.gram[np.ix_(kept, kept)], self.right[kept]
        self.units = units[kept]

    def missing(self) -> Single:
        """What the wanted dose has more, Gy `(voxel,)`."""
        left = self.wanted
        for units, dose in zip(self.units, self.doses, strict=True):
            left = left - np.float32(units) * dose
        return left

    def of(self, fields: Sequence[Field]) -> tuple[list[Field], Array]:
        """The fields with their shapes, and the monitor units of each shape, in their order."""
        order = np.argsort(self.owners, kind="stable")
        done = [
            replace(
                each,
                shapes=tuple(self.shapes[index] for index in order if self.owners[index] == owner),
            )
            for owner, each in enumerate(fields)
        ]
        return done, self.units[order]


@dataclass(frozen=True, eq=False)
class Shaper:
    """Looks for shapes of a plan's fields.

    Args:
        fields: of all beams.
        operator: dose of a monitor unit of each element.
        doses: of each field's segments.
        machine: its leaves and jaws.
        most: shapes with monitor units.
        least_gain: of a round, as a share of what the fit leaves: less ends the search.
    """

    fields: Sequence[Field]
    operator: DoseOperator
    doses: Sequence[SegmentDoses]
    machine: Machine
    most: int
    least_gain: float

    def grow(self, segments: Segments, rounds: int, heard: Callable[[float], None]) -> None:
        """Let shapes join segments as long as they gain, then give none too few monitor units.

        Args:
            rounds: at most.
            heard: hears the share done, of the most rounds; may raise to cancel.
        """
        before = np.inf
        for round_ in range(rounds):
            missing = segments.missing()
            counted = segments.weights * missing
            left = float(missing @ counted)
            if len(segments.shapes) >= self.most or before - left < self.least_gain * left:
                break
            before = left
            found = self._found(self.operator.adjoint(counted))
            if not found:
                break
            segments.add(found)
            segments.fit()
            heard((round_ + 1) / rounds)
        segments.fit(self.machine.min_segment_mu)

    def _found(self, worth: Single) -> list[tuple[int, Shape, Single]]:
        """The shape of each beam that gains most, as a little more of each element is worth."""
        closed = _CLOSED * float(np.abs(worth).max())
        found = []
        for owner, (each, dose) in enumerate(zip(self.fields, self.doses, strict=True)):
            gain = each.on_lattice(worth[each.elements], closed)
            shape = best_shape(gain, each.elements_on, self.machine)
            if shape is not None:
                found.append((owner, shape, dose.dose(shape)))
        return found
