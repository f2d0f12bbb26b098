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

__all__ = ["FieldLattice", "KernelModel", "PlaneMaps"]

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

    def depth_parts(self, depth_mm: NDArray) -> NDArray[np.float32]:
        """βᵢ/(βᵢ − m) · (e^{−m d} − e^{−βᵢ d}), `(component, place)`."""
        m, betas = self.attenuation_per_mm, self.betas_per_mm
        depth = np.asarray(depth_mm, dtype=np.float32)
        parts = [
            np.float32(beta / (beta - m))
            * (np.exp(np.float32(-m) * depth) - np.exp(np.float32(-beta) * depth))
            for beta in betas
        ]
        return np.stack(parts)

    def convolved(self, fluence: Array, lattice: FieldLattice, ssd_mm: float) -> PlaneMaps:
        """A fluence `(v, u)` on a lattice, blurred and convolved with each kernel.

        The lattice is padded by the kernels' reach, so that nothing wraps around; what scatters
        beyond the lattice itself is lost.
        """
        step = lattice.step_mm
        half = int(np.ceil(self.radii_mm[-1] / step))
        shape = tuple(fft.next_fast_len(n + half, real=True) for n in fluence.shape)
        spectrum = fft.rfft2(fluence, shape) * self._blur(shape, step)
        maps = []
        for kernel in self._elements(half, step, ssd_mm):
            padded = np.zeros(shape)
            size = 2 * half + 1
            rows = (np.arange(size) - half) % shape[0]
            columns = (np.arange(size) - half) % shape[1]
            inside = np.ix_(rows, columns)
            np.add.at(padded, inside, kernel)
            field = fft.irfft2(spectrum * fft.rfft2(padded), shape)
            maps.append(field[: fluence.shape[0], : fluence.shape[1]].astype(np.float32))
        return PlaneMaps(lattice, np.stack(maps))

    def raw_dose(
        self, maps: PlaneMaps, u_mm: NDArray, v_mm: NDArray, depth_mm: NDArray, distance_mm: NDArray
    ) -> NDArray[np.float32]:
        """Dose of a convolved fluence at places; see the head of the file.

        Args:
            u_mm, v_mm: projected onto the plane of the isocenter.
            depth_mm: in water.
            distance_mm: from the source.
        """
        total = (self.depth_parts(depth_mm) * maps.at(u_mm, v_mm)).sum(axis=0)
        dose: NDArray[np.float32] = total * (np.float32(self.sad_mm) / distance_mm) ** 2
        return dose

    def gy_per_mu(self, calibration: Calibration) -> float:
        """Dose of one monitor unit over the raw dose of a fluence of 1: what defines the MU."""
        half = calibration.field_mm / 2
        lattice = FieldLattice.covering(half, half)
        edge = np.array([half])
        cover = lattice.coverage(-edge, edge, lattice.half_u)[0]
        maps = self.convolved(np.outer(cover, cover), lattice, calibration.ssd_mm)
        here, depth = np.zeros(1), np.full(1, calibration.depth_mm)
        distance = depth + calibration.ssd_mm
        return calibration.gy_per_mu / float(self.raw_dose(maps, here, here, depth, distance)[0])

    def _blur(self, shape: tuple[int, ...], step_mm: float) -> Array:
        """Spectrum of the penumbra's Gaussian."""
        sigma = self.penumbra_mm / np.sqrt(8 * np.log(2))
        v = fft.fftfreq(shape[0], step_mm)[:, None]
        u = fft.rfftfreq(shape[1], step_mm)[None]
        blurred: Array = np.exp(-2 * (np.pi * sigma) ** 2 * (u**2 + v**2))
        return blurred

    def _elements(self, half: int, step_mm: float, ssd_mm: float) -> Array:
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
            sampled = np.interp(radius, self.radii_mm, values, right=0.0)
            summed = sampled.reshape(places.size, places.size) * fine_mm**2
            for axis in (0, 1):
                summed = ndimage.convolve1d(summed, window, axis=axis, mode="constant")
            elements.append(summed[::ratio, ::ratio])
        return np.stack(elements)
