"""Small dose models that guide, and batches with plans for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from support import pelvis_case, random_network, write_case_folder

from DosePredictionLib.encoding.encoder import EncodingSettings, network_channels
from DosePredictionLib.models.dose_model import Architecture, DoseModel, ModelManifest
from DosePredictionLib.models.expectations import ModelExpectations
from DosePredictionLib.networks import build_network
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.tasks.task import LabelledBatch
from training.config import TrainingConfig
from training.data import TrainingCase
from training.recipes.pelvis_dose_guided import recipe as guided
from training.recipes.pelvis_occupancy import recipe as occupancy
from training.recipes.pelvis_wishes_coarse import recipe as coarse
from training.sampling import training_batches

PELVIS = StructureProtocol.load("pelvis")
SPACING = (10.0, 10.0, 10.0)


def on_coarse_grid(encoding: EncodingSettings) -> EncodingSettings:
    return replace(encoding, grid=replace(encoding.grid, spacing_mm=SPACING))


BEAMS = {"beam": {"open_fields": True}}
"""What `beam_model` sees beside contours, as an encoding's `further` says it."""

ENCODING, DOSE_ENCODING = on_coarse_grid(guided.encoding), on_coarse_grid(occupancy.encoding)


def dose_model(folder: Path, name: str = "guide", **encoding: Any) -> DoseModel:
    """A dose model with random weights."""
    settings = replace(DOSE_ENCODING, **encoding)
    arguments = network_channels(PELVIS, settings) | {"stage1_filters": 2, "stage2_filters": 2}
    network = build_network("two_stage", arguments)
    plain = random_network(filters=(2, 2)).state_dict()
    torch.manual_seed(5)
    weights = {
        key: plain[key] if plain[key].shape == value.shape else torch.randn_like(value) / 10
        for key, value in network.state_dict().items()
    }
    return _model(folder, name, Architecture("two_stage", arguments), settings, weights)


def beam_model(folder: Path, name: str = "coarse", seed: int = 5) -> DoseModel:
    """A coarse network of beams and wishes with random weights."""
    settings = on_coarse_grid(coarse.encoding)
    arguments = network_channels(PELVIS, settings) | {"filters": 4, "head_filters": 4}
    torch.manual_seed(seed)
    network = build_network("half_resolution", arguments)
    torch.nn.init.constant_(network.look_norm.bias, 1.0)  # so few filters may all be silent
    architecture = Architecture("half_resolution", arguments)
    return _model(folder, name, architecture, settings, network.state_dict())


def small_organs(folder: Path) -> DoseModel:
    """A network of organs with random weights, as the recipe's but for its size."""
    arguments = network_channels(PELVIS, ENCODING) | {"filters": 2, "passes": 2}
    torch.manual_seed(7)
    weights = build_network("multipass_unet3d", arguments).state_dict()
    architecture = Architecture("multipass_unet3d", arguments)
    return _model(folder, "organs", architecture, ENCODING, weights, "segmentation")


def _model(
    folder: Path,
    name: str,
    architecture: Architecture,
    settings: EncodingSettings,
    weights: dict[str, torch.Tensor],
    task: str = "dose_regression",
) -> DoseModel:
    manifest = ModelManifest(
        schema_version=1,
        name=name,
        title=name,
        protocol="pelvis",
        architecture=architecture,
        encoding=settings,
        expectations=ModelExpectations(prescription_gy={"PTV": 45.0}, fractions=25),
        weights_sha256="",
        task=task,
    )
    return DoseModel.create(folder / name, manifest, weights)


def config(kind: str | None, model: Path | None = None, **changes: Any) -> TrainingConfig:
    """The guided recipe, small; of no kind: as without guidance."""
    options = {} if kind is None else {"kind": kind, "dose_model": str(model or "")}
    small: dict[str, Any] = {
        "encoding": ENCODING,
        "crop": (32, 32, 32),
        "precision": "fp32",
        "deterministic": True,
        "steps": 10,
        "task_options": options,
        "network": replace(guided.network, options={"filters": 2, "passes": 2}),
    }
    return replace(guided, **{**small, **changes})


def planned_case(folder: Path, encoding: EncodingSettings = ENCODING) -> TrainingCase:
    """A pelvis with a plan, read as the recipe reads it."""
    write_case_folder(folder, pelvis_case())
    return TrainingCase.read(folder, PELVIS, encoding)


def batch_of(case: TrainingCase, settings: TrainingConfig) -> LabelledBatch:
    """One step's batch."""
    batch = next(training_batches([case], settings, PELVIS))
    return LabelledBatch(batch.input, batch.labels, batch.spacing_mm)
