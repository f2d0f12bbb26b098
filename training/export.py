"""From a run folder to a model folder, with its card filled in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import DosePredictionLib
from DosePredictionLib.checks.preflight import ModelExpectations
from DosePredictionLib.errors import ModelError
from DosePredictionLib.models.dose_model import (
    SCHEMA_VERSION,
    Architecture,
    DoseModel,
    ModelManifest,
)
from DosePredictionLib.schema import read_json, to_json
from DosePredictionLib.structures.protocol import StructureProtocol

from .config import stored_config
from .loop import network_arguments

__all__ = ["CARD_FIGURES", "export_run", "fill_card"]

CARD_FIGURES = ("dose_score_gy", "dvh_score_gy", "mae_body_gy", "mae_above_5gy_gy", "ssim")


def export_run(
    run: Path,
    name: str,
    title: str,
    root: Path,
    checkpoint: str = "last.pt",
    default: bool = False,
    mirror: bool = False,
) -> DoseModel:
    """Write `root/name` from the averaged weights of a run, in half precision.

    What the card says about data, technique and licence comes from `data.json` in the run folder.

    Args:
        root: folder of model folders.
        checkpoint: which one of the run.
        default: whether the model is its protocol's default.
        mirror: whether prediction averages with the mirrored patient's dose.

    Raises:
        ModelError: the run is incomplete, or the model folder exists.
    """
    config = stored_config(run)
    described = read_json(run / "data.json", ModelError)
    if not (run / checkpoint).is_file():
        raise ModelError(f"{run} holds no checkpoint {checkpoint}.")
    state = torch.load(run / checkpoint, map_location="cpu", weights_only=True)
    protocol = StructureProtocol.load(config.protocol)
    levels = {c.name: c.level_gy for c in protocol.targets if c.level_gy is not None}
    expectations = ModelExpectations(
        spacing_mm_min=config.encoding.grid.spacing_mm_min,
        spacing_mm_max=config.encoding.grid.spacing_mm_max,
        prescription_gy=described.get("prescription_gy") or levels,
        fractions=described.get("fractions"),
        technique=described.get("technique"),
    )
    manifest = ModelManifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        title=title,
        protocol=protocol.id,
        architecture=Architecture(config.network.architecture, network_arguments(config, protocol)),
        encoding=config.encoding,
        expectations=expectations,
        weights_sha256="",
        training={
            **described["training"],
            "steps": state["step"],
            "samples_seen": state["step"] * config.batch_size,
            "config": to_json(config),
            "code_version": DosePredictionLib.__version__,
            "torch": torch.__version__,
        },
        licence=described["licence"],
        default=default,
        mirror=mirror,
        task=config.task,
    )
    return DoseModel.create(root / name, manifest, half_precision(state["average"]))


def half_precision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convolutions in float16; norms and biases, few but wide in range, stay float32."""
    return {name: value.half() if value.dim() > 1 else value for name, value in weights.items()}


def fill_card(
    model: DoseModel,
    summary: Mapping[str, Any],
    cases: Sequence[Mapping[str, Any]],
    description: str,
) -> DoseModel:
    """Write a cohort's figures, as `evaluate --cohort --json` printed them, into the card."""
    figures = {key: summary[key] for key in CARD_FIGURES if key in summary}
    per_case = {
        case["case"]: {key: round(case[key], 4) for key in ("dose_score_gy", "dvh_score_gy")}
        for case in cases
    }
    validation = {"cases": description, **figures, "per_case": per_case}
    manifest = replace(model.manifest, validation=validation)
    path = model.folder / "model.json"
    partial = path.with_suffix(".partial")
    text = json.dumps(to_json(manifest), indent=2, ensure_ascii=False) + "\n"
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return replace(model, manifest=manifest)
