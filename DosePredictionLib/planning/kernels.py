"""Photon dose of a fluence by pencil beams decomposed into a few separable parts.

Bortfeld, T., Schlegel, W. and Rhein, B., Med. Phys. 20 (1993) 311, doi 10.1118/1.597070:

    D(u, v, d) = (SAD/r)² Σᵢ βᵢ/(βᵢ − m) · (e^{−m d} − e^{−βᵢ d}) · (F ⊗ wᵢ)(u, v)

with F the fluence in the plane of the isocenter, blurred by the penumbra, wᵢ the kernels, d the
depth in water and r the distance from the source. A whole field is convolved at once, on a lattice
of a millimeter: nothing of an optimizer's influence matrix, its elements, its cut-off or its grid
enters. What the model leaves out: output factors of the head, beam hardening off the axis, the
tongue of the leaves, backscatter, and scatter that depends on density.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from .machine import Calibration

__all__ = ["FieldKernels", "FieldLattice", "KernelModel", "PlaneMaps"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FieldLattice:
    """Square elements in the plane of the isocenter, centers at whole multiples of their edge.

    Args:
        half_u, half_v: elements on either side of the axis.
        step_mm: edge.
    """

    half_u: int
    half_v: int
    step_mm: float = 1.0

    @classmethod
    def covering(cls, reach_u_mm: float, reach_v_mm: float, step_mm: float = 1.0) -> FieldLattice:
        """What reaches at least so far from the axis."""
        return cls(int(np.ceil(reach_u_mm / step_mm)), int(np.ceil(reach_v_mm / step_mm)), step_mm)

    @property
    def shape(self) -> tuple[int, int]:
        """(v, u)."""
        return (2 * self.half_v + 1, 2 * self.half_u + 1)

    def edges_mm(self, half: int) -> Array:
        """Borders of the elements along one axis."""
        return np.asarray((np.arange(2 * half + 2) - half - 0.5) * self.step_mm, dtype=float)

    def coverage(self, low_mm: Array, high_mm: Array, half: int) -> Array:
        """Share of each element that intervals cover, `(interval, element)`."""
        edges = self.edges_mm(half)
        low = np.maximum(edges[None, :-1], low_mm[:, None])
        high = np.minimum(edges[None, 1:], high_mm[:, None])
        covered: Array = np.maximum(high - low, 0.0) / self.step_mm
        return covered


@dataclass(frozen=True, eq=False)
class PlaneMaps:
    """Convolved fluences in the plane of the isocenter `(component, v, u)` on a lattice."""

    lattice: FieldLattice
    maps: NDArray[np.float32]

    def at(self, u_mm: NDArray, v_mm: NDArray) -> NDArray[np.float32]:
        """Bilinear values `(component, place)`; 0 beyond the lattice."""
        places = np.stack(
            [
                v_mm / self.lattice.step_mm + self.lattice.half_v,
                u_mm / self.lattice.step_mm + self.lattice.half_u,
            ]
        ).astype(np.float32)
        return np.stack([ndimage.map_coordinates(each, places, order=1) for each in self.maps])


@dataclass(frozen=True, eq=False)
class FieldKernels:
    """Kernels of one field, as the spectra of a padded lattice `(component, v, u)`."""

    lattice: FieldLattice
    padded_shape: tuple[int, ...]
    spectra: NDArray[np.complex64]

    def convolved(self, fluence: Array) -> PlaneMaps:
        """A fluence `(v, u)` on the lattice, blurred and convolved with each kernel."""
        spectrum = fft.rfft2(fluence.astype(np.float32), self.padded_shape)
        rows, columns = self.lattice.shape
        fields = [fft.irfft2(spectrum * each, self.padded_shape) for each in self.spectra]
        return PlaneMaps(self.lattice, np.stack([each[:rows, :columns] for each in fields]))

    def summed(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """The adjoint of `convolved`: maps `(component, v, u)`, each with its kernel, summed."""
        spectra = fft.rfft2(maps, self.padded_shape) * self.spectra
        rows, columns = self.lattice.shape
        total: NDArray[np.float32] = fft.irfft2(spectra.sum(axis=0), self.padded_shape)
        return total[:rows, :columns]


@dataclass(frozen=True, eq=False)
class KernelModel:
    """Kernels of one energy.

    Args:
        attenuation_per_mm: m.
        betas_per_mm: βᵢ, `(component,)`.
        ssds_mm: source to surface distances that kernels are stated for.
        radii_mm: rising, `(radius,)`.
        kernels_per_mm2: wᵢ, `(ssd, component, radius)`.
        penumbra_mm: full width at half maximum of the blur at a field's edge.
        sad_mm: from the source to the isocenter.
    """

    attenuation_per_mm: float
    betas_per_mm: Array
    ssds_mm: Array
    radii_mm: Array
    kernels_per_mm2: Array
    penumbra_mm: float
    sad_mm: float

    def _depth_parts(self, depth_mm: NDArray) -> NDArray[np.float32]:
        """βᵢ/(βᵢ − m) · (e^{−m d} − e^{−βᵢ d}), `(component, place)`."""
        m, betas = self.attenuation_per_mm, self.betas_per_mm
        depth = np.asarray(depth_mm, dtype=np.float32)
        parts = [
            np.float32(beta / (beta - m))
            * (np.exp(np.float32(-m) * depth) - np.exp(np.float32(-beta) * depth))
            for beta in betas
        ]
        return np.stack(parts)

    def kernels_on(
        self, lattice: FieldLattice, ssd_mm: float, beyond_mm: float = 0.0
    ) -> FieldKernels:
        """What convolves the fluences of a lattice.

        The lattice is padded by the kernels' reach, so that nothing wraps around; what scatters
        beyond the lattice itself is lost.

        Args:
            beyond_mm: what the kernels give nearer than that is left out.
        """
        half = int(np.ceil(self.radii_mm[-1] / lattice.step_mm))
        size = 2 * half + 1
        padded_shape = tuple(fft.next_fast_len(n + half, real=True) for n in lattice.shape)
        rows, columns = ((np.arange(size) - half) % n for n in padded_shape)
        blur = self._blur(padded_shape, lattice.step_mm)
        spectra = []
        for kernel in self._elements(half, lattice.step_mm, ssd_mm, beyond_mm):
            padded = np.zeros(padded_shape)
            np.add.at(padded, np.ix_(rows, columns), kernel)
            spectra.append((fft.rfft2(padded) * blur).astype(np.complex64))
        return FieldKernels(lattice, padded_shape, np.stack(spectra))

    def places(
        self, depth_mm: NDArray[np.float32], distance_mm: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """What multiplies each convolved fluence, `(component, place)`; see the head of the file.

        Args:
            depth_mm: in water.
            distance_mm: from the source.
        """
        return self._depth_parts(depth_mm) * (np.float32(self.sad_mm) / distance_mm) ** 2

    def gy_per_mu(self, calibration: Calibration) -> float:
        """Dose of one monitor unit over the raw dose of a fluence of 1: what defines the MU."""
        half = calibration.field_mm / 2
        lattice = FieldLattice.covering(half, half)
        edge = np.array([half])
        cover = lattice.coverage(-edge, edge, lattice.half_u)[0]
        maps = self.kernels_on(lattice, calibration.ssd_mm).convolved(np.outer(cover, cover))
        here, depth = np.zeros(1), np.full(1, calibration.depth_mm, dtype=np.float32)
        parts = self.places(depth, depth + np.float32(calibration.ssd_mm))
        return calibration.gy_per_mu / float((parts * maps.at(here, here)).sum())

    def _blur(self, shape: tuple[int, ...], step_mm: float) -> Array:
        """Spectrum of the penumbra's Gaussian."""
        sigma = self.penumbra_mm / np.sqrt(8 * np.log(2))
        v = fft.fftfreq(shape[0], step_mm)[:, None]
        u = fft.rfftfreq(shape[1], step_mm)[None]
        blurred: Array = np.exp(-2 * (np.pi * sigma) ** 2 * (u**2 + v**2))
        return blurred

    def _elements(self, half: int, step_mm: float, ssd_mm: float, beyond_mm: float) -> Array:
        """Each kernel's sum over elements, `(component, v, u)`.

        A kernel is what its values say at the spacing that it is tabulated with: the first holds
        the primary, all of which is given to the element in the middle.
        """
        fine_mm = float(self.radii_mm[1] - self.radii_mm[0])
        ratio = max(1, round(step_mm / fine_mm))
        places = np.arange(-half * ratio, half * ratio + 1) * fine_mm
        radius = np.hypot(places[:, None], places[None]).ravel()
        window = np.ones(ratio + 1 - ratio % 2)
        if ratio % 2 == 0:  # an element's border halves what lies on it
            window[[0, -1]] = 0.5
        at_ssd = self.kernels_per_mm2[int(np.argmin(np.abs(self.ssds_mm - ssd_mm)))]
        elements = []
        for values in at_ssd:
            sampled = np.interp(radius, self.radii_mm, values, right=0.0) * (radius >= beyond_mm)
            summed = sampled.reshape(places.size, places.size) * fine_mm**2
            for axis in (0, 1):
                summed = ndimage.convolve1d(summed, window, axis=axis, mode="constant")
            elements.append(summed[::ratio, ::ratio])
        return np.stack(elements)
