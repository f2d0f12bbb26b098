"""Options that programs share, as plain data: what `argparse` takes of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..beams.arrangement import ARRANGEMENTS
from ..io.volumes import FORMATS
from .choices import (
    BeamsChoice,
    MappingChoice,
    PrescriptionChoice,
    WishesChoice,
    chosen_goals,
)
from .outputs import OutputRequest
from .predict import PredictRequest

__all__ = [
    "DELIVERABLE_OPTION",
    "GOALS_OPTION",
    "MAPPING_OPTIONS",
    "PREDICTION_OPTIONS",
    "Options",
    "prediction_request",
]

Options = Mapping[str, Mapping[str, Any]]

MAPPING_OPTIONS: Options = {
    "--map": {
        "action": "append",
        "default": [],
        "metavar": "CHANNEL=NAME",
        "help": "take structure NAME for CHANNEL (repeatable)",
    },
    "--mapping": {"type": Path, "metavar": "FILE", "help": "mapping file (JSON)"},
}

GOALS_OPTION: Options = {
    "--goals": {
        "default": "default",
        "metavar": "NAME|FILE",
        "help": "clinical goals: a shipped set, a JSON file, or none "
        "(default: the shipped set for the protocol and the prescription)",
    }
}

DELIVERABLE_OPTION: Options = {
    "--deliverable": {
        "action": "store_true",
        "help": "say how near the beams can come to the dose, and whether plans leave less",
    }
}

PREDICTION_OPTIONS: Options = {
    "--output": {"type": Path, "required": True, "help": "folder for DIR/<case>/dose…"},
    "--model": {"help": "name or folder (default: the one that fits the case)"},
    "--device": {"default": "auto", "help": "auto, cpu, cuda or cuda:n"},
    "--precision": {"default": "auto", "choices": ("auto", "fp32", "bf16", "fp16")},
    "--format": {"default": "nifti", "choices": (*FORMATS, "rtdose")},
    "--prescription": {
        "action": "append",
        "default": [],
        "metavar": "TARGET=GY",
        "help": "repeatable",
    },
    "--fractions": {"type": int, "metavar": "N"},
    "--beams": {
        "metavar": "NAME|ANGLES",
        "help": "gantry angles in degrees, as 0,40,80 (181-179 is an arc), or "
        f"{', '.join(ARRANGEMENTS)} (default: the case's own, else the model's)",
    },
    "--goal": {
        "action": "append",
        "default": [],
        "metavar": "GOAL",
        "help": "wish for an organ, as 'Rectum V40Gy <= 25 %%' (repeatable; default: the case's "
        "own, else none)",
    },
    **GOALS_OPTION,
    "--spread": {
        "action": "store_true",
        "help": "write spread… and expected_error… too: how an ensemble's doses differ, and how "
        "large their errors are expected to be",
    },
    "--samples": {
        "type": int,
        "default": 0,
        "metavar": "N",
        "help": "draw N doses about the predicted one, by a model that can",
    },
    "--seed": {"type": int, "default": 0, "metavar": "S", "help": "of the first sample"},
    "--calibration": {
        "type": Path,
        "metavar": "FILE",
        "help": "bands of this calibration (default: the model's own calibration.json, if any)",
    },
    "--force-model": {
        "action": "store_true",
        "help": "predict with a model of another body site, too (a warning stays)",
    },
    "--recompute-strips": {"action": "store_true", "help": "ignore stored strips"},
}


def prediction_request(cases: Sequence[Path], values: Mapping[str, Any]) -> PredictRequest:
    """The request that options say, by the names that `argparse` gives them.

    Raises:
        DosePredictionError: a mapping, a prescription or the goals cannot be read.
    """
    output = OutputRequest(
        folder=values["output"],
        format=values["format"],
        goals=chosen_goals(values["goals"]),
        report=bool(values.get("report")),
        figures=bool(values.get("figures")),
        published_names=bool(values.get("published_names")),
        spread=values["spread"],
        calibration=values.get("calibration"),
    )
    return PredictRequest(
        cases=tuple(cases),
        output=output,
        model=values["model"],
        device=values["device"],
        precision=values["precision"],
        mapping=MappingChoice.parse(values["map"], values["mapping"]),
        prescription=PrescriptionChoice.parse(values["prescription"], values["fractions"]),
        beams=BeamsChoice.parse(values.get("beams")),
        wishes=WishesChoice.parse(values.get("goal") or ()),
        recompute_strips=values["recompute_strips"],
        force_model=values["force_model"],
        deliverable=bool(values.get("deliverable")),
        samples=values.get("samples") or 0,
        seed=values.get("seed") or 0,
    )
