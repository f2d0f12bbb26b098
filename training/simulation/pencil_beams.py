"""Dose of many beams by pencil beams, without an influence matrix.

pyRadPlan computes what each fluence element gives to each voxel, which takes most of a plan's time
and ends 60 mm from an element's axis. The same decomposed kernels convolve a whole field at once
(`planning.kernels`): a beam is then a few convolved lattices, and twelve numbers a voxel say what
it gets of them. The kernels' whole reach costs nothing more, so that far scatter is in the dose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, sparse

from DosePredictionLib.beams.arrangement import BeamArrangement
from DosePredictionLib.beams.geometry import Lattice
from DosePredictionLib.beams.ray_model import RayModel
from DosePredictionLib.beams.tracing import Anatomy, TracedField, bilinear, trace
from DosePredictionLib.planning.kernels import FieldLattice, KernelModel
from DosePredictionLib.planning.seen import projected

__all__ = ["PencilBeams", "SeenField", "seen_fields"]

Single = NDArray[np.float32]

_DEPTH = RayModel(bixel_mm=10.0, reach_mm=180.0, depth_step_mm=5.0)
_ON_AXIS_MM = 12.0


@dataclass(frozen=True, eq=False)
class SeenField:
    """One field: the voxels that it reaches as it sees them, and its open elements.

    Args:
        voxels: flat indices on the anatomy's grid, rising.
        u_mm, v_mm: projected onto the plane of the isocenter.
        parts: what multiplies each convolved fluence `(component, voxel)`.
        ssd_mm: from the source to the surface along the axis.
        open: elements of the lattice that all fields share, bool `(v, u)`.
    """

    voxels: NDArray[np.int32]
    u_mm: Single
    v_mm: Single
    parts: Single
    ssd_mm: float
    open: NDArray[np.bool_]


def seen_fields(
    arrangement: BeamArrangement, anatomy: Anatomy, model: KernelModel, step_mm: float
) -> tuple[FieldLattice, list[SeenField]]:
    """All fields of an arrangement on one lattice of fluence elements.

    Args:
        step_mm: edge of an element.

    Raises:
        CaseError: a field sees no target.
    """
    fields = trace(arrangement, anatomy, _DEPTH)
    places = [projected(field.voxels, field.frame, anatomy) for field in fields]
    reach = [
        max(float(np.abs(axis).max()) for axis in axes)
        for axes in zip(*((u, v) for u, v, _ in places), strict=True)
    ]
    lattice = FieldLattice.covering(reach[0] + step_mm, reach[1] + step_mm, step_mm)
    return lattice, [
        SeenField(
            field.voxels,
            u,
            v,
            model.places(field.depth_mm, distance),
            _ssd_mm(field, distance, u, v),
            _opened(field, anatomy, lattice),
        )
        for field, (u, v, distance) in zip(fields, places, strict=True)
    ]


class PencilBeams:
    """Fluence of the open elements of all fields → dose of some voxels. See `DoseOperator`.

    Args:
        lattice, fields: see `seen_fields`.
        model: kernels.
        rows: flat voxels that count, rising.
        smoothing_mm: standard deviation of the Gaussian that each element stands for, so that what
            an optimizer finds is no ragged fluence; 0: the element itself.
    """

    def __init__(
        self,
        lattice: FieldLattice,
        fields: Sequence[SeenField],
        model: KernelModel,
        rows: NDArray[np.intp],
        smoothing_mm: float = 0.0,
    ) -> None:
        self._shape, self._open = lattice.shape, np.stack([field.open for field in fields])
        # Kernels are tabulated by the distance of the surface; fields of one entry share spectra.
        entries = [int(np.argmin(np.abs(model.ssds_mm - field.ssd_mm))) for field in fields]
        made = {
            entry: model.kernels_on(lattice, float(model.ssds_mm[entry])) for entry in set(entries)
        }
        self._padded = made[entries[0]].padded_shape
        self._spectra = np.stack([made[entry].spectra for entry in entries])
        if smoothing_mm:
            self._spectra *= _gaussian(self._padded, lattice.step_mm, smoothing_mm)
        self._matrix = _matrix(lattice, fields, rows)
        self._transposed = self._matrix.T

    @property
    def elements(self) -> int:
        """Number of fluence elements."""
        return int(np.count_nonzero(self._open))

    @property
    def elements_of(self) -> list[slice]:
        """Of each field, where its elements stand among all."""
        ends = np.cumsum([0, *np.count_nonzero(self._open, axis=(1, 2))])
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]

    def dose(self, fluence: Single) -> Single:
        """See `DoseOperator`."""
        rows, columns = self._shape
        lattices = np.zeros(self._open.shape, dtype=np.float32)
        lattices[self._open] = fluence
        spectrum = fft.rfft2(lattices, self._padded)
        maps = [
            fft.irfft2(of_field * own, self._padded)[:, :rows, :columns].ravel()
            for of_field, own in zip(spectrum, self._spectra, strict=True)
        ]
        return np.asarray(self._matrix @ np.concatenate(maps))

    def adjoint(self, dose: Single) -> Single:
        """See `DoseOperator`."""
        rows, columns = self._shape
        spread = np.asarray(self._transposed @ dose).reshape(
            *self._spectra.shape[:2], rows, columns
        )
        # The kernels are symmetric: each is its own adjoint.
        total = [
            fft.irfft2((fft.rfft2(maps, self._padded) * own).sum(axis=0), self._padded)
            for maps, own in zip(spread, self._spectra, strict=True)
        ]
        return np.asarray(np.stack(total)[:, :rows, :columns][self._open], dtype=np.float32)


def _matrix(
    lattice: FieldLattice, fields: Sequence[SeenField], rows: NDArray[np.intp]
) -> sparse.csr_array:
    """From the convolved lattices `(field, component, v, u)` to voxels, bilinear."""
    step, size = lattice.step_mm, lattice.shape[0] * lattice.shape[1]
    first = (-lattice.half_u * step, -lattice.half_v * step)
    places = Lattice(first, lattice.shape, step)
    components = fields[0].parts.shape[0]
    data = np.zeros((rows.size, len(fields), components, 4), dtype=np.float32)
    indices = np.zeros(data.shape, dtype=np.int32)
    for number, field in enumerate(fields):
        at = np.searchsorted(rows, field.voxels)
        here = (at < rows.size) & (rows[np.minimum(at, rows.size - 1)] == field.voxels)
        at = at[here]
        u, v = places.index(field.u_mm[here], field.v_mm[here])
        one = bilinear(u, v, np.ones(u.size, dtype=np.float32), places)
        weights, elements = one.data.reshape(-1, 1, 4), one.indices.reshape(-1, 4)
        data[at, number] = weights * field.parts[:, here].T[:, :, None]
        for component in range(components):
            indices[at, number, component] = elements + (number * components + component) * size
    each = data[0].size
    starts = np.arange(0, each * rows.size + 1, each, dtype=np.int32)
    shape = (rows.size, len(fields) * components * size)
    return sparse.csr_array((data.ravel(), indices.ravel(), starts), shape=shape)


def _gaussian(shape: tuple[int, ...], step_mm: float, sigma_mm: float) -> NDArray[np.float32]:
    """Spectrum of a Gaussian with a sum of one, on a padded lattice."""
    v = fft.fftfreq(shape[0], step_mm)[:, None]
    u = fft.rfftfreq(shape[1], step_mm)[None]
    spectrum: NDArray[np.float32] = np.exp(-2 * (np.pi * sigma_mm) ** 2 * (u**2 + v**2))
    return spectrum.astype(np.float32)


def _ssd_mm(field: TracedField, distance_mm: Single, u_mm: Single, v_mm: Single) -> float:
    """From the source to the nearest voxel on the axis; the isocenter's, if there is none."""
    near = (np.abs(u_mm) < _ON_AXIS_MM) & (np.abs(v_mm) < _ON_AXIS_MM) & (field.depth_mm > 0)
    return float(distance_mm[near].min(initial=field.frame.sad_mm))


def _opened(field: TracedField, anatomy: Anatomy, lattice: FieldLattice) -> NDArray[np.bool_]:
    """Elements within the aperture's margin of a ray through a target's voxel, bool `(v, u)`."""
    target = np.flatnonzero(np.any(list(anatomy.targets.values()), axis=0)).astype(np.int32)
    u, v, _ = projected(target, field.frame, anatomy)
    hit = np.zeros(lattice.shape, dtype=bool)
    row = np.round(v / lattice.step_mm).astype(int) + lattice.half_v
    column = np.round(u / lattice.step_mm).astype(int) + lattice.half_u
    hit[row, column] = True
    margin = max(field.field.aperture.margin_mm, lattice.step_mm / 2)
    opened: NDArray[np.bool_] = ndimage.distance_transform_edt(~hit) * lattice.step_mm <= margin
    return opened
