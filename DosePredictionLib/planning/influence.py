"""What fluence elements give to voxels: pyRadPlan's matrix, and what scatters beyond its cut-off.

A matrix ends some centimeters from the axis of each element, for its size's sake. What lies beyond
is small for one element and not for a field: 1.8 Gy of 45 in the shipped simulated pelvis. It is
smooth, so that a convolution of the elements' own lattice with the kernels' far part gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..beams.geometry import Lattice
from ..beams.operator import MatrixOperator
from ..beams.tracing import bilinear
from .fields import Field
from .kernels import FieldKernels, KernelModel
from .seen import SeenVoxels

__all__ = ["FarScatter", "Influence", "only_rows"]

Single = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Part:
    """One beam's share: bilinear weights of its voxels, and their places among those that count."""

    field: Field
    kernels: FieldKernels
    weights: sparse.csr_array
    seen: SeenVoxels
    at: NDArray[np.intp]

    def dose(self, fluence: Single) -> Single:
        maps = self.kernels.convolved(self._on_lattice(fluence)).maps
        return np.asarray(
            sum(
                factor * (self.weights @ each.ravel())
                for factor, each in zip(self.seen.parts, maps, strict=True)
            )
        )

    def adjoint(self, dose: Single) -> Single:
        spread = [self.weights.T @ (factor * dose) for factor in self.seen.parts]
        shape = self.kernels.lattice.shape
        # The kernels are symmetric: each is its own adjoint.
        total = self.kernels.summed(np.stack(spread).reshape(-1, *shape))
        return np.asarray(total[self._rows, self._columns], dtype=np.float32)

    @property
    def _rows(self) -> NDArray[np.intp]:
        return self.field.rows + self._offset(1)

    @property
    def _columns(self) -> NDArray[np.intp]:
        return self.field.columns + self._offset(0)

    def _offset(self, axis: int) -> int:
        """Of the field's first element on the lattice."""
        lattice, elements = self.kernels.lattice, self.field.elements_on
        half = (lattice.half_u, lattice.half_v)[axis]
        return int(np.floor(elements.first_mm[axis] / elements.step_mm + 1e-6)) + half

    def _on_lattice(self, fluence: Single) -> NDArray[np.float64]:
        lattice = np.zeros(self.kernels.lattice.shape)
        lattice[self._rows, self._columns] = fluence
        return lattice


class FarScatter:
    """Dose that fluence elements give beyond a distance from their axes. See `DoseOperator`.

    Args:
        fields: their elements, in the order of the fluence.
        seen: what each field's beam sees.
        model: kernels.
        beyond_mm: from the axis of an element.
        voxels: that count, flat and rising.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        seen: Sequence[SeenVoxels],
        model: KernelModel,
        beyond_mm: float,
        voxels: NDArray[np.intp],
    ) -> None:
        self._voxels = voxels.size
        self._parts = [
            self._part(field, each, model, beyond_mm, voxels)
            for field, each in zip(fields, seen, strict=True)
        ]
        self.elements = fields[-1].elements.stop

    @staticmethod
    def _part(
        field: Field,
        seen: SeenVoxels,
        model: KernelModel,
        beyond_mm: float,
        voxels: NDArray[np.intp],
    ) -> _Part:
        on = field.elements_on
        step = on.step_mm
        lattice = seen.lattice(step)
        kernels = model.kernels_on(lattice, seen.ssd_mm, beyond_mm)
        # Centers of the elements lie beside whole multiples of their edge.
        first = tuple(
            (on.first_mm[axis] / step + 1e-6) % 1.0 * step - half * step
            for axis, half in enumerate((lattice.half_u, lattice.half_v))
        )
        places = Lattice(first, lattice.shape, step)  # type: ignore[arg-type]
        u, v = places.index(seen.u_mm, seen.v_mm)
        weights = bilinear(u, v, np.ones(u.size, dtype=np.float32), places)
        return _Part(field, kernels, weights, seen, np.searchsorted(voxels, seen.voxels))

    def dose(self, fluence: Single) -> Single:
        """See `DoseOperator`."""
        total = np.zeros(self._voxels, dtype=np.float32)
        for part in self._parts:
            total[part.at] += part.dose(fluence[part.field.elements])
        return total

    def adjoint(self, dose: Single) -> Single:
        """See `DoseOperator`."""
        return np.concatenate([part.adjoint(dose[part.at]) for part in self._parts])


class Influence:
    """A matrix and what scatters beyond it, Gy of a monitor unit. See `DoseOperator`.

    Args:
        matrix: `(voxel, element)`.
        far: beyond its cut-off.
        gy: of what both are stated in.
    """

    def __init__(self, matrix: sparse.csc_array, far: FarScatter, gy: np.float32) -> None:
        self._near, self._far, self._gy = MatrixOperator(matrix), far, gy
        self.elements = self._near.elements

    def dose(self, fluence: Single) -> Single:
        """See `DoseOperator`."""
        return self._gy * (self._near.dose(fluence) + self._far.dose(fluence))

    def adjoint(self, dose: Single) -> Single:
        """See `DoseOperator`."""
        return self._gy * (self._near.adjoint(dose) + self._far.adjoint(dose))


def only_rows(matrix: sparse.csc_array, rows: NDArray[np.intp]) -> sparse.csc_array:
    """Some rows of a matrix, without a copy of it by rows."""
    place = np.full(matrix.shape[0], -1, dtype=np.int32)
    place[rows] = np.arange(rows.size, dtype=np.int32)
    at = place[matrix.indices]
    kept = at >= 0
    before = np.concatenate(([0], np.cumsum(kept)))
    parts = (matrix.data[kept], at[kept], before[matrix.indptr])
    return sparse.csc_array(parts, shape=(rows.size, matrix.shape[1]))
