"""The dose operator of traced fields, on NumPy."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .operator import DoseOperator
from .ray_model import RayModel
from .tracing import TracedField

__all__ = ["RayDose"]

Array = NDArray[np.float32]


class RayDose:
    """Fluence of the open elements of all fields → dose of the voxels that any field reaches.

    Fluence is in units of the dose, Gy, that a wide field gives at the isocenter without
    attenuation.

    Args:
        fields: traced through one patient.
        model: that they were traced with.
        shape: of the patient's grid, (z, y, x).
        modulated: whether the fluence of a field varies; else each has a weight alone.

    Attributes:
        voxels: flat indices of the voxels that any field reaches, rising.
        blurs: of each field, see `RayModel.blurs`.
        elements_of: of each field, where its elements stand among all.
        matrix: `(voxel, element of any lattice)`, blur left out.
    """

    def __init__(
        self,
        fields: Sequence[TracedField],
        model: RayModel,
        shape: tuple[int, int, int],
        modulated: bool = True,
    ) -> None:
        self.fields, self.shape, self.modulated = tuple(fields), shape, modulated
        self.blurs = [model.blurs(field.lattice) for field in fields]
        counts = [int(np.count_nonzero(field.open)) for field in fields]
        ends = np.cumsum([0, *counts])
        self.elements_of = [slice(int(a), int(b)) for a, b in pairwise(ends)]
        reached = np.zeros(int(np.prod(shape)), dtype=bool)
        for field in fields:
            reached[field.voxels] = True
        self.voxels = np.flatnonzero(reached).astype(np.int32)
        place = np.zeros(reached.size, dtype=np.int32)
        place[self.voxels] = np.arange(self.voxels.size, dtype=np.int32)
        self.matrix = _side_by_side(fields, place, self.voxels.size)
        self._transposed = self.matrix.T

    @property
    def elements(self) -> int:
        """Number of fluence elements."""
        return self.elements_of[-1].stop if self.elements_of else 0

    @property
    def deliverable(self) -> DoseOperator:
        """From what a plan may choose to dose: the fluence, or the weights of open fields."""
        return self if self.modulated else _FieldWeights(self)

    def open_fluence(self, targets: Collection[str]) -> Array:
        """1 for elements that see one of the targets, else 0."""
        parts = []
        for field in self.fields:
            seen = [mask[field.open] for name, mask in field.opened.items() if name in targets]
            parts.append(np.any(seen, axis=0) if seen else np.zeros(field.open.sum(), dtype=bool))
        return np.concatenate(parts).astype(np.float32)

    def dose(self, fluence: Array) -> Array:
        """See `DoseOperator`."""
        blurred = [
            _blur(_on_lattice(field, fluence[part]), blurs, transposed=False)
            for field, part, blurs in zip(self.fields, self.elements_of, self.blurs, strict=True)
        ]
        return np.asarray(self.matrix @ np.concatenate(blurred))

    def adjoint(self, dose: Array) -> Array:
        """See `DoseOperator`."""
        spread, start, parts = np.asarray(self._transposed @ dose), 0, []
        for field, blurs in zip(self.fields, self.blurs, strict=True):
            count = field.open.size
            part = spread[start : start + count].reshape(field.lattice.shape)
            parts.append(_blur(part, blurs, transposed=True).reshape(field.open.shape)[field.open])
            start += count
        return np.concatenate(parts)

    def of_volume(self, volume: NDArray) -> Array:
        """The values of `(z, y, x)` at the voxels that are reached."""
        values: Array = volume.ravel()[self.voxels].astype(np.float32, copy=False)
        return values

    def as_volume(self, dose: Array) -> Array:
        """A dose `(voxel,)` as `(z, y, x)`; 0 where no field reaches."""
        result = np.zeros(int(np.prod(self.shape)), dtype=np.float32)
        result[self.voxels] = dose
        return result.reshape(self.shape)


class _FieldWeights:
    """Weights of open fields → dose. See `DoseOperator`."""

    def __init__(self, rays: RayDose) -> None:
        self._rays = rays

    @property
    def elements(self) -> int:
        """Number of fields."""
        return len(self._rays.fields)

    def dose(self, weights: Array) -> Array:
        """See `DoseOperator`."""
        counts = [part.stop - part.start for part in self._rays.elements_of]
        return self._rays.dose(np.repeat(weights, counts))

    def adjoint(self, dose: Array) -> Array:
        """See `DoseOperator`."""
        fluence = self._rays.adjoint(dose)
        return np.array([fluence[part].sum() for part in self._rays.elements_of], dtype=np.float32)


def _side_by_side(
    fields: Sequence[TracedField], place: NDArray[np.int32], voxels: int
) -> sparse.csc_array:
    columns = [field.matrix.tocsc() for field in fields]
    starts, total = [np.zeros(1, dtype=np.int32)], 0
    for each in columns:
        starts.append(each.indptr[1:].astype(np.int32) + np.int32(total))
        total += each.nnz
    indices = [
        place[field.voxels[each.indices]] for field, each in zip(fields, columns, strict=True)
    ]
    return sparse.csc_array(
        (
            np.concatenate([c.data for c in columns]),
            np.concatenate(indices),
            np.concatenate(starts),
        ),
        shape=(voxels, sum(field.open.size for field in fields)),
    )


def _on_lattice(field: TracedField, fluence: Array) -> Array:
    lattice = np.zeros(field.lattice.shape, dtype=np.float32)
    lattice[field.open] = fluence
    return lattice


def _blur(fluence: Array, blurs: Sequence[tuple[float, Array, Array]], transposed: bool) -> Array:
    """The weighted sum of the blurs of `(v, u)`, flat."""
    total = np.zeros_like(fluence)
    for share, along, across in blurs:
        if transposed:
            along, across = along.T, across.T
        total += np.float32(share) * (along @ fluence @ across.T)
    return total.ravel()
