"""Phantoms of water for beams, and a small model that knows beams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from support import centered_grid

from DosePredictionLib.beams.arrangement import Aperture, Beam, BeamArrangement
from DosePredictionLib.beams.ray_dose import RayDose
from DosePredictionLib.beams.ray_model import RayModel
from DosePredictionLib.beams.tracing import Anatomy, trace
from DosePredictionLib.encoding.encoder import EncodingSettings, network_channels
from DosePredictionLib.models.dose_model import Architecture, DoseModel
from DosePredictionLib.models.expectations import ModelExpectations
from DosePredictionLib.models.manifest import SCHEMA_VERSION, ModelManifest
from DosePredictionLib.networks import build_network
from DosePredictionLib.structures.protocol import StructureProtocol

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


def beam_model(folder: Path, settings: EncodingSettings, beams: BeamArrangement) -> DoseModel:
    """A beam-aware pelvis model of random weights that averages with the mirrored patient.

    Args:
        beams: those of the plans that it is said to have learned.
    """
    sizes = {"coarse_filters": 2, "coarse_head_filters": 2, "filters": 2, "head_filters": 2}
    arguments = {**network_channels(StructureProtocol.load("pelvis"), settings), **sizes}
    torch.manual_seed(3)
    network = build_network("beam_cascade", arguments)
    for part in network.coarse:  # type: ignore[union-attr]
        torch.nn.init.constant_(part.out_conv.bias, 0.5)
    torch.nn.init.normal_(network.refine.out_conv.weight, std=0.3)  # type: ignore[arg-type,union-attr]
    manifest = ModelManifest(
        schema_version=SCHEMA_VERSION,
        name="beams",
        title="beams",
        protocol="pelvis",
        architecture=Architecture("beam_cascade", arguments),
        encoding=settings,
        expectations=ModelExpectations(prescription_gy={"PTV": 45.0}, beams=(beams,)),
        weights_sha256="",
        mirror=True,
        task="beam_dose",
    )
    return DoseModel.create(folder, manifest, network.state_dict())
