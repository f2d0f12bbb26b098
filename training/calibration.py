"""`python -m training calibrate`: a model's bands from plans that it has not seen."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from DosePredictionLib.app.calibrate import CalibrateRequest, calibrate
from DosePredictionLib.app.choices import chosen_goals
from DosePredictionLib.app.codes import EXIT_SOME_FAILED
from DosePredictionLib.app.options import GOALS_OPTION
from DosePredictionLib.app.output import Output
from DosePredictionLib.evaluation.calibration import CALIBRATION_FILE
from DosePredictionLib.files import require_file_place, write_json
from DosePredictionLib.schema import to_json

from .arguments import WORKERS, within
from .splits import known_patients_of_model

if TYPE_CHECKING:
    from DosePredictionLib.models.dose_model import DoseModel

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("--model", required=True, help="name or folder")
    parser.add_argument("--cases", type=Path, required=True, help="folder of cases with plan dose")
    parser.add_argument(
        "--predictions",
        type=Path,
        required=True,
        help="what `dose-prediction predict` made of them",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"instead of {CALIBRATION_FILE} in the model's folder",
    )
    options = {
        **GOALS_OPTION["--goals"],
        "help": "goals whose probabilities are wanted: a shipped set, a JSON file, or none "
        "(default: the shipped set for the cases)",
    }
    parser.add_argument("--goals", **options)
    parser.add_argument("--description", default="", help="what the patients are, in words")
    parser.add_argument("--workers", type=within(WORKERS), default=None)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _seen(model: DoseModel) -> frozenset[str]:
    """Everyone whose plan shaped the weights of a model or of the heads that it predicts with.

    A card that does not say it is warned of.
    """
    from DosePredictionLib.models.heads import usable_heads

    heads, _ = usable_heads(model)
    found: set[str] = set()
    for each in (model, *heads.values()):
        known = known_patients_of_model(each.manifest)
        if known is None:
            name = each.manifest.name
            sys.stderr.write(f"warning: the card of {name} does not list whom it has seen.\n")
        found |= known or set()
    return frozenset(found)


def run(arguments: argparse.Namespace) -> int:
    """Calibrate, and write the file."""
    from DosePredictionLib.models.dose_model import DoseModel

    model = DoseModel.load(arguments.model)
    path = arguments.output or model.folder / CALIBRATION_FILE
    require_file_place(path)
    request = CalibrateRequest(
        model,
        arguments.cases,
        arguments.predictions,
        _seen(model),
        arguments.description,
        arguments.workers,
        chosen_goals(arguments.goals),
    )
    done = calibrate(request)
    write_json(path, to_json(done.calibration))
    output = Output(arguments.json)
    for failure in done.failed:
        output.note(f"failed: {failure.case}: {failure.error}")
    if done.unpaired:
        output.note(f"not paired: {', '.join(done.unpaired)}")
    output.result({**done.as_json(), "calibration": str(path)}, f"{done.text()}\nWrote {path}.")
    return EXIT_SOME_FAILED if done.failed else 0
