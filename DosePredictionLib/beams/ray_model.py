"""A fast model of photon dose: divergent rays, depth by electron density, attenuation, scatter.

The dose of a beam at a voxel is

    D = (SAD/a)² · e^{−µ d} · (1 − β e^{−d/b}) · [(1 − s) F_p + s F_w](u, v)

with a the distance from the source along the beam's axis, (u, v) the voxel's projection onto the
plane of the isocenter, d the depth in water to which the electron density of the ray amounts, F_p
the fluence blurred by the penumbra, and F_w the fluence blurred by what scatters far. It is linear
in the fluence, and its operator has no negative entry. What it leaves out: beam hardening, scatter
that depends on density and depth, leakage and the collimator. It says which doses a set of beams
can give, not what a machine gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from ..schema import Range, Share, validated
from .geometry import Lattice

__all__ = ["RayModel"]

Array = NDArray[np.float32]
_Mm = Annotated[float, Range(0, 200)]
_PerCm = Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
@validated
class RayModel:
    """The model's numbers, of a 6 MV beam.

    Attenuation is that of pyRadPlan's generic machine for a field of 8 cm; the others were chosen
    among few for how well nine fields reproduce OpenKBP doses (`python -m benchmarks.beams`). The
    surface lacks less than a measured depth dose does: voxels of 4 mm see a mean.

    Args:
        bixel_mm: edge of a fluence element in the plane of the isocenter.
        attenuation_per_cm: of the primary and what it scatters near, in water.
        surface_share: what the dose lacks at the surface, of its value without build-up.
        buildup_mm: depth over which that falls to 1/e.
        penumbra_mm: standard deviation of the primary's blur.
        scatter_share: of the dose, that comes from far.
        scatter_mm: standard deviation of the far scatter.
        reach_mm: how far beyond an aperture its dose is calculated.
        depth_step_mm: between the places of a ray where density is read.
    """

    bixel_mm: Annotated[float, Range(1, 50)] = 5.0
    attenuation_per_cm: _PerCm = 0.038
    surface_share: Share = 0.25
    buildup_mm: Annotated[float, Range(0, 100, above=True)] = 4.0
    penumbra_mm: _Mm = 3.0
    scatter_share: Share = 0.07
    scatter_mm: _Mm = 20.0
    reach_mm: _Mm = 40.0
    depth_step_mm: Annotated[float, Range(0.5, 20)] = 4.0

    def depth_dose(self, depth_mm: Array) -> Array:
        """Dose over that without attenuation and build-up."""
        build_up = 1 - self.surface_share * np.exp(-depth_mm / np.float32(self.buildup_mm))
        attenuated: Array = np.exp(-np.float32(self.attenuation_per_cm / 10) * depth_mm) * build_up
        return attenuated

    def blurs(self, lattice: Lattice) -> list[tuple[float, Array, Array]]:
        """(share, along v, along u) of each blur of a fluence `(v, u)`: share · Bᵥ F Bᵤᵀ."""
        parts = [(1 - self.scatter_share, self.penumbra_mm), (self.scatter_share, self.scatter_mm)]
        return [
            (share, _gaussian(lattice.v_mm, sigma), _gaussian(lattice.u_mm, sigma))
            for share, sigma in parts
            if share > 0
        ]


def _gaussian(centers_mm: Array, sigma_mm: float) -> Array:
    """Blur along one axis; each element gives all it has, and what leaves the lattice is lost."""
    if sigma_mm == 0:
        return np.eye(centers_mm.size, dtype=np.float32)
    apart = centers_mm[:, None] - centers_mm[None]
    step = float(centers_mm[1] - centers_mm[0]) if centers_mm.size > 1 else 1.0
    reach = step * np.arange(-200, 201)
    whole = np.exp(-0.5 * (reach / sigma_mm) ** 2).sum()
    return (np.exp(-0.5 * (apart / sigma_mm) ** 2) / whole).astype(np.float32)
