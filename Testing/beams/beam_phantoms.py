"""Phantoms of water for beams."""

from __future__ import annotations

import numpy as np
from support import centered_grid

from DosePredictionLib.beams.arrangement import Aperture, Beam, BeamArrangement
from DosePredictionLib.beams.ray_dose import RayDose
from DosePredictionLib.beams.ray_model import RayModel
from DosePredictionLib.beams.tracing import Anatomy, trace

PLAIN = RayModel(surface_share=0.0, scatter_share=0.0, penumbra_mm=0.0)


def water(
    size: tuple = (60, 50, 30),
    spacing: tuple = (5.0, 5.0, 5.0),
    target_mm: tuple = (40.0, 40.0, 40.0),
    center_mm: tuple = (0.0, 0.0, 0.0),
) -> Anatomy:
    """A box of water that fills the grid, with a box as target."""
    grid = centered_grid(size, spacing)
    z, y, x = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    place = grid.world_from_index(np.stack([x, y, z], axis=-1))
    target = (np.abs(place - center_mm) <= np.asarray(target_mm) / 2).all(axis=-1)
    everywhere = np.ones(grid.shape, dtype=bool)
    return Anatomy(grid, everywhere.astype(np.float32), everywhere, {"PTV": target})


def arrangement(*degrees: float, margin_mm: float = 5.0, **more: object) -> BeamArrangement:
    aperture = Aperture((), margin_mm)
    return BeamArrangement(tuple(Beam(d, aperture=aperture) for d in degrees), **more)  # type: ignore[arg-type]


def operator(beams: BeamArrangement, anatomy: Anatomy, model: RayModel = PLAIN) -> RayDose:
    return RayDose(trace(beams, anatomy, model), model, anatomy.grid.shape)


def open_dose(beams: BeamArrangement, anatomy: Anatomy, model: RayModel = PLAIN) -> np.ndarray:
    """Dose `(z, y, x)` of open apertures."""
    made = operator(beams, anatomy, model)
    return made.as_volume(made.dose(np.ones(made.elements, dtype=np.float32)))
