"""From a run folder to a model folder, with its card filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

import DosePredictionLib
from DosePredictionLib.beams.arrangement import BeamArrangement, parse_beams
from DosePredictionLib.encoding.beams import beam_inputs
from DosePredictionLib.errors import ModelError
from DosePredictionLib.files import write_json
from DosePredictionLib.interpolation import BetweenVoxels
from DosePredictionLib.models.dose_model import (
    SCHEMA_VERSION,
    Architecture,
    DoseModel,
    ModelManifest,
)
from DosePredictionLib.models.expectations import ModelExpectations
from DosePredictionLib.models.manifest import MANIFEST_FILE, SCHEMA_MINOR, check_model_name
from DosePredictionLib.ranges import DoseGy, Fractions
from DosePredictionLib.schema import (
    FreeText,
    Length,
    Name,
    Range,
    from_json,
    read_json,
    to_json,
    validated,
)
from DosePredictionLib.structures.protocol import StructureProtocol

from .checkpoints import load_checkpoint
from .config import TrainingConfig, model_prescription_gy, stored_config
from .loop import network_arguments
from .mimicking import CoarseRun, coarse_weights
from .splits import (
    DATA_FILE,
    PATIENTS,
    held_out,
    patients_of_run,
    require_apart_from_held_out,
)

__all__ = [
    "CARD_FIGURES",
    "Described",
    "Evaluated",
    "ScoredCase",
    "export_run",
    "fill_card",
    "read_evaluated",
]

ErrorGy = Annotated[float, Range(0, 1000)]

CARD_FIGURES = ("dose_score_gy", "dvh_score_gy", "mae_body_gy", "mae_above_5gy_gy", "ssim")


@dataclass(frozen=True)
@validated
class Described:
    """What `data.json` in a run folder says for the card.

    Args:
        training: data and its citation, hardware and whatever else the card is to say.
        licence: of the weights.
        prescription_gy: target channel → Gy; empty: the levels of the protocol's targets.
        fractions, technique: of the plans that were learned.
        patients: everyone whose plan shaped the weights; the trainer writes it.
        beams: of the plans, as `--beams` takes them; none: the recipe's own.
        between_voxels: see `ModelManifest`.
    """

    training: dict[str, Any]
    licence: FreeText
    prescription_gy: Annotated[dict[Name, DoseGy], Length(0, 100)] | None = None
    fractions: Fractions | None = None
    technique: Name | None = None
    patients: Annotated[tuple[Name, ...], Length(0, 1_000_000)] | None = None
    beams: Annotated[tuple[Name, ...], Length(0, 100)] = ()
    between_voxels: BetweenVoxels = "linear"


def export_run(
    run: Path,
    name: str,
    title: str,
    root: Path,
    checkpoint: str = "last.pt",
    default: bool = False,
    mirror: bool = False,
    coarse: Sequence[CoarseRun] = (),
) -> DoseModel:
    """Write `root/name` from the averaged weights of a run, in half precision.

    What the card says about data, technique and licence comes from `data.json` in the run folder.

    Args:
        root: folder of model folders.
        checkpoint: which one of the run.
        default: whether the model is its protocol's default.
        mirror: whether prediction averages with the mirrored patient's dose.
        coarse: whose networks predict as the coarse ones; none: the run's own.

    Raises:
        ModelError: the run is incomplete, saw a patient who is held out or does not say whom it
            saw, or the model folder exists.
        DosePredictionError: the coarse networks are not as the run's.
    """
    check_model_name(name)
    config = stored_config(run)
    path = run / DATA_FILE
    described = from_json(Described, read_json(path, ModelError), str(path), ModelError)
    state = _state(run, checkpoint)
    protocol = StructureProtocol.load(config.protocol)
    weights = state["average"]
    if coarse:
        weights = coarse_weights(coarse, config, protocol, weights) or weights
        described = _with_patients_of(coarse, described, run)
    rides_on = tuple(config.task_options.get("weights_sha256", ()))
    if held_out(protocol.id):
        seen = described.patients or patients_of_run(run)
        if not rides_on:  # a head learns from patients whom its model has not seen
            require_apart_from_held_out(seen, protocol.id, f"The run {run}")
    manifest = ModelManifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        title=title,
        protocol=protocol.id,
        architecture=Architecture(config.network.architecture, network_arguments(config, protocol)),
        encoding=config.encoding.of_network,
        expectations=_expectations(config, protocol, described),
        weights_sha256="",
        training=_training(config, described, state["step"]),
        licence=described.licence,
        default=default,
        mirror=mirror,
        between_voxels=described.between_voxels,
        task=config.task,
        rides_on=rides_on,
    )
    return DoseModel.create(root / name, manifest, half_precision(weights))


def _state(run: Path, checkpoint: str) -> Mapping[str, Any]:
    """A checkpoint of a run.

    Raises:
        ModelError: there is none of that name, or it is of something else.
    """
    if not (run / checkpoint).is_file():
        raise ModelError(f"{run} holds no checkpoint {checkpoint}.")
    state = load_checkpoint(run / checkpoint, torch.device("cpu"))
    if not isinstance(state, Mapping) or not {"step", "average"} <= set(state):
        raise ModelError(f"{run / checkpoint} is no checkpoint of this trainer.")
    return state


def _with_patients_of(coarse: Sequence[CoarseRun], described: Described, run: Path) -> Described:
    seen = patients_of_run(run).union(*(each.patients for each in coarse))
    return replace(described, patients=tuple(sorted(seen)))


def _training(config: TrainingConfig, described: Described, steps: int) -> dict[str, Any]:
    """What the card says of the training."""
    return {
        **described.training,
        **({} if described.patients is None else {PATIENTS: list(described.patients)}),
        "steps": steps,
        "samples_seen": steps * config.batch_size,
        "config": to_json(config),
        "code_version": DosePredictionLib.__version__,
        "torch": torch.__version__,
    }


def _expectations(
    config: TrainingConfig, protocol: StructureProtocol, described: Described
) -> ModelExpectations:
    """The cases that the model is made for.

    Where doses were scaled to one prescription in training, the model stands for that one, whatever
    the cohort's own was.
    """
    grid, inputs = config.encoding.grid, beam_inputs(config.encoding.of_network)
    return ModelExpectations(
        spacing_mm_min=grid.spacing_mm_min,
        spacing_mm_max=grid.spacing_mm_max,
        prescription_gy=model_prescription_gy(config, protocol) or described.prescription_gy or {},
        fractions=described.fractions,
        technique=described.technique,
        beams=() if inputs is None else _beams(described) or (inputs.arrangement,),
    )


def _beams(described: Described) -> tuple[BeamArrangement, ...]:
    return tuple(parse_beams(text, f"{DATA_FILE}.beams") for text in described.beams)


def half_precision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convolutions in float16; norms and biases, few but wide in range, stay float32."""
    return {name: value.half() if value.dim() > 1 else value for name, value in weights.items()}


@dataclass(frozen=True)
@validated
class ScoredCase:
    """What a card needs of a case's scores; None: not defined."""

    case: Name
    dose_score_gy: ErrorGy | None = None
    dvh_score_gy: ErrorGy | None = None


@dataclass(frozen=True)
@validated
class Evaluated:
    """What a card needs of the object that `evaluate --cohort --json` prints."""

    summary: dict[str, Any]
    cases: Annotated[tuple[ScoredCase, ...], Length(1, 100_000)]


def read_evaluated(path: Path) -> Evaluated:
    """A cohort's figures from a file.

    Raises:
        ModelError: it cannot be read, or is no evaluation of a cohort.
    """
    return from_json(Evaluated, read_json(path, ModelError), str(path), ModelError, ignored=[])


def fill_card(
    model: DoseModel,
    summary: Mapping[str, Any],
    cases: Sequence[ScoredCase],
    description: str,
) -> DoseModel:
    """Write a cohort's figures, as `evaluate --cohort --json` printed them, into the card."""
    figures = {key: summary[key] for key in CARD_FIGURES if key in summary}
    per_case = {
        case.case: {
            "dose_score_gy": case.dose_score_gy and round(case.dose_score_gy, 4),
            "dvh_score_gy": case.dvh_score_gy and round(case.dvh_score_gy, 4),
        }
        for case in cases
    }
    validation = {"cases": description, **figures, "per_case": per_case}
    manifest = replace(model.manifest, validation=validation, schema_minor=SCHEMA_MINOR)
    write_json(model.folder / MANIFEST_FILE, to_json(manifest))
    return replace(model, manifest=manifest)
