"""`predict`: cases in, doses out."""

from __future__ import annotations

import argparse
from typing import Any

from ..app.options import DELIVERABLE_OPTION, PREDICTION_OPTIONS, prediction_request
from ..app.output import Output
from ..app.outputs import PredictedCase
from ..app.predict import Watch, predict_cases
from ..io.nifti import PUBLISHED_PREDICTION
from .options import add_case_options, add_options
from .progress import Bars
from .several import finish, note_failure

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("predict", help="predict the dose of one or more cases")
    add_case_options(parser)
    add_options(parser, PREDICTION_OPTIONS)
    add_options(parser, DELIVERABLE_OPTION)
    parser.add_argument("--report", action="store_true", help="write report.html, too")
    parser.add_argument("--figures", action="store_true", help="write its figures as PNG, too")
    parser.add_argument(
        "--published-names", action="store_true", help=f"write {PUBLISHED_PREDICTION}.nii.gz"
    )
    parser.set_defaults(run=run)


def run(call: argparse.Namespace, output: Output) -> int:
    """Predict each case."""
    from ..inference.allocator import keep_freed_memory

    request = prediction_request(call.case, vars(call))
    keep_freed_memory()
    bars = Bars()
    try:
        several = predict_cases(request, Watch(bars, output.findings, note_failure(output)))
    finally:
        bars.close()
    return finish(several, output, PredictedCase.text)
