"""`python -m training distribution`: what a model's patients were like, for its check of cases."""

from __future__ import annotations

import argparse
from pathlib import Path

from DosePredictionLib.app.codes import EXIT_SOME_FAILED
from DosePredictionLib.app.distribution import (
    DistributionRequest,
    cohort_paths,
    describe_patients,
)
from DosePredictionLib.app.output import Output
from DosePredictionLib.checks.distribution import DISTRIBUTION_FILE
from DosePredictionLib.files import require_file_place, write_json
from DosePredictionLib.io import case_name
from DosePredictionLib.schema import to_json

from .arguments import WORKERS, within
from .splits import known_patients_of_model

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("--model", required=True, help="name or folder")
    parser.add_argument(
        "--cases",
        type=Path,
        required=True,
        help="folder of its training cases; if the model's card lists whom it has seen, the others "
        "are left out",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"instead of {DISTRIBUTION_FILE} in the model's folder",
    )
    parser.add_argument("--description", default="", help="what the patients are, in words")
    parser.add_argument("--workers", type=within(WORKERS), default=None)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Measure the patients, and write the file."""
    from DosePredictionLib.models.dose_model import DoseModel

    model = DoseModel.load(arguments.model)
    path = arguments.output or model.folder / DISTRIBUTION_FILE
    require_file_place(path)
    paths = cohort_paths(arguments.cases)
    seen = known_patients_of_model(model.manifest)
    if seen is not None:
        paths = tuple(each for each in paths if case_name(each) in seen)
    request = DistributionRequest(model, paths, arguments.description, arguments.workers)
    done = describe_patients(request)
    write_json(path, to_json(done.distribution))
    output = Output(arguments.json)
    for failure in done.failed:
        output.note(f"failed: {failure.case}: {failure.error}")
    output.result({**done.as_json(), "distribution": str(path)}, f"{done.text()}\nWrote {path}.")
    return EXIT_SOME_FAILED if done.failed else 0
