"""`predict`: cases in, doses out."""

from __future__ import annotations

import argparse
from typing import Any

from tqdm import tqdm

from ..app.options import PREDICTION_OPTIONS, prediction_request
from ..app.output import Output
from ..app.outputs import PredictedCase
from ..app.predict import Watch, predict_cases
from ..io.nifti import PUBLISHED_PREDICTION
from .options import add_case_options, add_options
from .several import finish, note_failure

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("predict", help="predict the dose of one or more cases")
    add_case_options(parser)
    add_options(parser, PREDICTION_OPTIONS)
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
    bars = _Bars()
    try:
        several = predict_cases(request, Watch(bars, output.findings, note_failure(output)))
    finally:
        bars.close()
    return finish(several, output, PredictedCase.text)


class _Bars:
    """A progress bar on stderr for each case in turn."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._case = ""

    def __call__(self, case: str, share: float, stage: str) -> None:
        if self._bar is None or case != self._case:
            self.close()
            self._case = case
            self._bar = tqdm(total=100, desc=case, unit="%", leave=False, disable=None)
        self._bar.set_postfix_str(stage, refresh=False)
        self._bar.update(int(100 * share) - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
