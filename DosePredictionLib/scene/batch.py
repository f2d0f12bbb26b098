"""The batch in Slicer: cases in; dose, tables, report and scene out, one folder a case.

The same options as `dose-prediction predict` where they mean the same. It predicts in the worker,
so that Slicer itself neither loads torch nor can be lost with it.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import slicer

from ..app.codes import EXIT_INTERRUPTED, EXIT_SOME_FAILED, EXIT_WRONG
from ..app.options import MAPPING_OPTIONS, PREDICTION_OPTIONS, prediction_request
from ..app.output import Output, json_ready
from ..app.outputs import PredictedCase, require_writable, write_outputs
from ..app.predict import PredictRequest
from ..app.several import CaseFailure, work_on_cases
from ..errors import CaseError, DosePredictionError, WorkerError
from ..evaluation.goals import GoalSet
from ..files import whole_file, write_json
from ..io import find_cases, read_case
from ..prediction import Prediction
from ..worker.client import WorkerClient
from ..worker.messages import PredictOptions
from .display import DisplaySettings, apply_display
from .export import write_tables
from .loading import load_case
from .reading import case_from_nodes
from .results import add_result

__all__ = ["main"]

_SUMMARY = "summary.json"
_REPORT_EVERY = 0.1  # of the work, so that a log stays readable
_OF_THE_PROGRAM = ("--beams", "--goal")  # the worker takes a case's own


def main(arguments: Sequence[str], interpreter: Path | None = None) -> int:
    """Run the batch; the exit code, and a summary in `OUTPUT/summary.json`. Raises nothing.

    Args:
        arguments: without the program's name.
        interpreter: the Python of the worker; None: Slicer's own.
    """
    output = _FileOutput()
    try:
        call = _parser().parse_args(list(arguments))
        require_writable(call.output)
        output.path = call.output / _SUMMARY
        request = prediction_request((), vars(call))
        request = replace(request, cases=tuple(find_cases(call.cases)))
        with WorkerClient(interpreter) as worker:
            return _run(request, _Work(request, worker, output, call.timeout), output)
    except KeyboardInterrupt:
        output.note("Interrupted; nothing half-written was left behind.")
        return EXIT_INTERRUPTED
    except Exception as exception:  # Slicer would stay up with it
        if not isinstance(exception, (DosePredictionError, OSError)):
            output.note(traceback.format_exc())
        output.error(exception)
        return EXIT_WRONG


def _run(request: PredictRequest, work: _Work, output: Output) -> int:
    """Work on each case, and say what became of them; the exit code."""

    def failed(failure: CaseFailure) -> None:
        output.note(f"error: {failure.case}: {failure.error}")

    several = work_on_cases(request.cases, work, failed)
    lines = [case.outputs.text() for case in several.done]
    lines.append(f"{len(several.done)} of {len(request.cases)} cases done.")
    output.result(several.as_json(), "\n".join(lines))
    return EXIT_SOME_FAILED if several.failed else 0


class _Parser(argparse.ArgumentParser):
    """Raises instead of ending the process; Slicer keeps -h and --help for itself."""

    def error(self, message: str) -> NoReturn:
        raise DosePredictionError(f"{message}. {self.format_usage().strip()}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="slicer_batch.py", add_help=False, allow_abbrev=False)
    parser.add_argument("--cases", type=Path, required=True, help="a case, or a folder of cases")
    for name, settings in {**PREDICTION_OPTIONS, **MAPPING_OPTIONS}.items():
        if name not in _OF_THE_PROGRAM:
            parser.add_argument(name, **settings)
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="for each prediction")
    parser.set_defaults(report=True, figures=False, published_names=False)
    return parser


class _FileOutput(Output):
    """The result as JSON in a file, which Slicer's own messages cannot spoil; text on stdout."""

    def __init__(self) -> None:
        super().__init__(as_json=True)
        self.path: Path | None = None

    def result(self, result: Mapping[str, Any], text: str) -> None:
        if self.path is not None:
            write_json(self.path, json_ready(result))
        if text:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()


@dataclass(frozen=True)
class _BatchCase:
    """A case's files and its scene."""

    outputs: PredictedCase
    scene: Path

    def as_json(self) -> dict[str, Any]:
        return {**self.outputs.as_json(), "scene": str(self.scene)}


class _Work:
    """Predicts one case after the other with one warm worker."""

    def __init__(
        self,
        request: PredictRequest,
        worker: WorkerClient,
        output: Output,
        timeout_seconds: float | None,
    ) -> None:
        self._request, self._worker, self._output = request, worker, output
        self._timeout_seconds = timeout_seconds
        self._mapping = request.mapping.of()
        self._options = PredictOptions(
            request.device,
            request.precision,
            request.recompute_strips,
            force_model=request.force_model,
        )

    def __call__(self, path: Path) -> _BatchCase:
        """Predict and write; any defect counts as the failure of this case alone."""
        try:
            return self._predict(path)
        except (DosePredictionError, OSError):
            raise
        except Exception as exception:
            self._output.note(traceback.format_exc())
            message = f"{path} failed unexpectedly: {type(exception).__name__}: {exception}"
            raise WorkerError(message) from exception
        finally:
            slicer.mrmlScene.Clear(False)

    def _predict(self, path: Path) -> _BatchCase:
        request, started = self._request, time.perf_counter()
        case = read_case(path)
        read_seconds = time.perf_counter() - started
        prediction = self._worker.predict(
            case,
            request.model,
            self._mapping,
            request.prescription.of(case),
            self._options,
            self._timeout_seconds,
            _progress(case.name, self._output),
        )
        self._output.findings(prediction.findings)
        outputs = write_outputs(prediction, request.output, read_seconds, started)
        return _BatchCase(outputs, self._write_scene(prediction, outputs.folder))

    def _write_scene(self, prediction: Prediction, folder: Path) -> Path:
        """Build the scene as a person would have it, and write it with its tables."""
        case = prediction.case
        by_name = {c.name: c.color for c in prediction.model.protocol.channels}
        assigned = prediction.mapping.assigned
        colors = {structure: by_name[channel] for channel, structure in assigned.items()}
        ct, segmentation, plan = load_case(case, colors)
        source = case_from_nodes(ct, segmentation, plan, case.prescription, name=case.name)
        goals = self._request.output.goals
        if goals == "default":
            levels = prediction.prescription.target_gy
            goals = GoalSet.default(prediction.model.protocol.id, levels)
        result = add_result(replace(prediction, case=source.case), source, goals=goals)
        apply_display(result, DisplaySettings())
        write_tables(result, folder / "tables")
        path = folder / "scene.mrb"
        with whole_file(path) as partial:
            if not slicer.mrmlScene.WriteToMRB(str(partial)):
                raise CaseError(f"{path} could not be written. Is the disk full?")
        return path


def _progress(case: str, output: Output) -> Callable[[float, str], None]:
    """Progress as lines on stderr, one a stage or a tenth of the work."""
    stated: tuple[str, int] = ("", -1)

    def progress(share: float, stage: str) -> None:
        nonlocal stated
        state = (stage, int(share / _REPORT_EVERY))
        if state != stated:
            stated = state
            output.note(f"{case}: {100 * share:3.0f} % {stage}")

    return progress
