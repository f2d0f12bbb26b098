"""The batch in Slicer: cases in; dose, tables, report and scene out, one folder a case.

The same options as `dose-prediction predict` where they mean the same. It predicts in the worker,
so that Slicer itself neither loads torch nor can be lost with it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import slicer

from ..cli.codes import EXIT_INTERRUPTED, EXIT_WRONG
from ..cli.options import (
    add_mapping_options,
    chosen_goals,
    chosen_mapping,
    chosen_prescription,
)
from ..cli.output import Output, json_ready
from ..cli.predict import add_prediction_options, describe, require_writable, write_outputs
from ..cli.several import run_cases
from ..errors import CaseError, DosePredictionError, MappingError, WorkerError
from ..io import find_cases, read_case
from ..io.volumes import whole_file
from ..prediction import Prediction
from ..schema import read_json
from ..structures.protocol import StructureProtocol
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
        with WorkerClient(interpreter) as worker:
            work = _Work(call, worker, output)
            return run_cases(find_cases(call.cases), work, output, describe)
    except KeyboardInterrupt:
        output.note("Interrupted; nothing half-written was left behind.")
        return EXIT_INTERRUPTED
    except Exception as exception:  # Slicer would stay up with it
        if not isinstance(exception, (DosePredictionError, OSError)):
            output.note(traceback.format_exc())
        output.error(exception)
        return EXIT_WRONG


class _Parser(argparse.ArgumentParser):
    """Raises instead of ending the process; Slicer keeps -h and --help for itself."""

    def error(self, message: str) -> NoReturn:
        raise DosePredictionError(f"{message}. {self.format_usage().strip()}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="slicer_batch.py", add_help=False, allow_abbrev=False)
    parser.add_argument("--cases", type=Path, required=True, help="a case, or a folder of cases")
    add_prediction_options(parser)
    add_mapping_options(parser)
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
            content = json.dumps(json_ready(result), indent=2, ensure_ascii=False, allow_nan=False)
            self.path.write_text(content + "\n", encoding="utf-8")
        if text:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()


class _Work:
    """Predicts one case after the other with one warm worker."""

    def __init__(self, call: argparse.Namespace, worker: WorkerClient, output: Output) -> None:
        self._call = call
        self._worker = worker
        self._output = output
        self._goals = chosen_goals(call)
        self._mapping = _mapping(call)
        self._options = PredictOptions(call.device, call.precision, call.recompute_strips)

    def __call__(self, path: Path) -> dict[str, Any]:
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

    def _predict(self, path: Path) -> dict[str, Any]:
        call, started = self._call, time.perf_counter()
        case = read_case(path)
        read_seconds = time.perf_counter() - started
        prediction = self._worker.predict(
            case,
            call.model,
            self._mapping,
            chosen_prescription(call, case),
            self._options,
            call.timeout,
            _progress(case.name, self._output),
        )
        self._output.findings(prediction.findings)
        record = write_outputs(prediction, self._goals, call, read_seconds, started)
        scene = self._write_scene(prediction, Path(record["dose"]).parent)
        return {**record, "scene": str(scene)}

    def _write_scene(self, prediction: Prediction, folder: Path) -> Path:
        """Build the scene as a person would have it, and write it with its tables."""
        from ..evaluation.goals import GoalSet

        case = prediction.case
        by_name = {c.name: c.color for c in prediction.model.protocol.channels}
        assigned = prediction.mapping.assigned
        colors = {structure: by_name[channel] for channel, structure in assigned.items()}
        ct, segmentation, plan = load_case(case, colors)
        source = case_from_nodes(ct, segmentation, plan, case.prescription, name=case.name)
        goals = self._goals
        if goals == "suiting":
            levels = prediction.prescription.target_gy
            goals = GoalSet.suiting(prediction.model.protocol.id, levels)
        result = add_result(replace(prediction, case=source.case), source, goals=goals)
        apply_display(result, DisplaySettings())
        write_tables(result, folder / "tables")
        path = folder / "scene.mrb"
        with whole_file(path) as partial:
            if not slicer.mrmlScene.WriteToMRB(str(partial)):
                raise CaseError(f"{path} could not be written. Is the disk full?")
        return path


def _mapping(call: argparse.Namespace) -> dict[str, str | None]:
    """What `--mapping` and `--map` say, for the protocol that the file names."""
    if call.mapping is None:
        return chosen_mapping(call, StructureProtocol.load(StructureProtocol.available()[0]))
    content = read_json(call.mapping, MappingError)
    protocol = content.get("protocol") if isinstance(content, dict) else None
    return chosen_mapping(call, StructureProtocol.load(str(protocol)))


def _progress(case: str, output: Output) -> Callable[[float, str], None]:
    """Progress as lines on stderr, one a stage or a tenth of the work."""
    told: tuple[str, int] = ("", -1)

    def progress(share: float, stage: str) -> None:
        nonlocal told
        state = (stage, int(share / _REPORT_EVERY))
        if state != told:
            told = state
            output.note(f"{case}: {100 * share:3.0f} % {stage}")

    return progress
