"""`predict`: cases in, doses out."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tqdm import tqdm

from ..app.summary import prediction_summary, report_input
from ..errors import DosePredictionError, ModelError
from ..inference.allocator import keep_freed_memory
from ..io import read_case
from ..io.nifti import PUBLISHED_PREDICTION
from ..io.volumes import FORMATS, write_volume
from ..prediction import Prediction
from ..structures.protocol import StructureProtocol
from .options import (
    add_case_options,
    add_goals_option,
    chosen_goals,
    chosen_mapping,
    chosen_prescription,
)
from .output import Output, goals_in_words, json_ready
from .several import run_cases

if TYPE_CHECKING:
    from ..evaluation.goals import GoalSet
    from ..models.dose_model import DoseModel

__all__ = ["add_parser", "add_prediction_options", "describe", "require_writable", "write_outputs"]

_SUFFIXES = {**FORMATS, "rtdose": ".dcm"}
_DESCRIPTION = "PREDICTED dose in Gy - research only, not for clinical use"
_SPREAD_DESCRIPTION = "Standard deviation of predicted doses in Gy - research only"


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("predict", help="predict the dose of one or more cases")
    add_case_options(parser)
    add_prediction_options(parser)
    parser.add_argument("--report", action="store_true", help="write report.html, too")
    parser.add_argument("--figures", action="store_true", help="write its figures as PNG, too")
    parser.add_argument(
        "--published-names", action="store_true", help=f"write {PUBLISHED_PREDICTION}.nii.gz"
    )
    parser.set_defaults(run=run)


def add_prediction_options(parser: argparse.ArgumentParser) -> None:
    """What to predict with, and where to; Slicer's batch script has the same."""
    parser.add_argument("--output", type=Path, required=True, help="folder for DIR/<case>/dose…")
    parser.add_argument("--model", help="name or folder (default: the one that fits the case)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:n")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--format", default="nifti", choices=tuple(_SUFFIXES))
    parser.add_argument(
        "--prescription", action="append", default=[], metavar="TARGET=GY", help="repeatable"
    )
    parser.add_argument("--fractions", type=int, metavar="N")
    add_goals_option(parser)
    parser.add_argument(
        "--spread", action="store_true", help="write spread… too: how an ensemble's doses differ"
    )
    parser.add_argument("--recompute-strips", action="store_true", help="ignore stored strips")


def run(call: argparse.Namespace, output: Output) -> int:
    """Predict each case."""
    from ..inference.predictor import Predictor
    from ..models.dose_model import DoseModel

    keep_freed_memory()
    require_writable(call.output)
    goals = chosen_goals(call)
    predictors: dict[Path, Predictor] = {}
    if call.model is not None:
        model = DoseModel.load(call.model)
        predictors[model.folder] = Predictor(model, call.device, call.precision)

    def one(path: Path) -> dict[str, Any]:
        started = time.perf_counter()
        case = read_case(path)
        read_seconds = time.perf_counter() - started
        model = _model(call, case)
        if call.spread and len(model.members) < 2:
            raise ModelError(
                f"{model.manifest.name} is a single network, whose dose has no spread. Choose an "
                "ensemble (models combine), or leave out --spread."
            )
        if model.folder not in predictors:
            predictors[model.folder] = Predictor(model, call.device, call.precision)
        with _progress(case.name) as progress:
            prediction = predictors[model.folder].predict(
                case,
                chosen_mapping(call, model.protocol),
                chosen_prescription(call, case),
                call.recompute_strips,
                progress,
            )
        output.findings(prediction.findings)
        return write_outputs(prediction, goals, call, read_seconds, started)

    return run_cases(call.case, one, output, describe)


def require_writable(folder: Path) -> None:
    """Make the folder of outputs; refuse one that cannot be written before work starts."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise DosePredictionError(f"{folder} is read-only: choose another --output.")


def _model(call: argparse.Namespace, case: Any) -> DoseModel:
    """The named model, or the default one; `--map` may speak of any protocol's channels."""
    from ..inference.predictor import default_model
    from ..models.dose_model import DoseModel

    if call.model is not None:
        return DoseModel.load(call.model)
    chosen: dict[str, str | None] = {}
    for name in StructureProtocol.available():
        try:
            chosen = chosen_mapping(call, StructureProtocol.load(name))
            return default_model(case, chosen)
        except DosePredictionError:
            continue
    return default_model(case)


@contextmanager
def _progress(name: str) -> Iterator[Any]:
    """A progress bar on stderr for one case."""
    with tqdm(total=100, desc=name, unit="%", leave=False, disable=None) as bar:

        def progress(share: float, stage: str) -> None:
            bar.set_postfix_str(stage, refresh=False)
            bar.update(int(100 * share) - bar.n)

        yield progress


def write_outputs(
    prediction: Prediction,
    goals: GoalSet | Literal["suiting"] | None,
    call: argparse.Namespace,
    read_seconds: float,
    started: float,
) -> dict[str, Any]:
    """Write everything aside, then move it into `DIR/<case>`."""
    name = PUBLISHED_PREDICTION if call.published_names else "dose"
    dose_name = name + _SUFFIXES[call.format]
    folder = call.output / prediction.case.name
    summary = prediction_summary(prediction, goals)
    with _staging(folder) as aside:
        _write_dose(aside / dose_name, prediction)
        spread_name = None
        if call.spread and prediction.spread is not None:
            spread_name = "spread" + FORMATS.get(call.format, FORMATS["nifti"])
            write_volume(aside / spread_name, prediction.spread, _SPREAD_DESCRIPTION)
        seconds = {"read": round(read_seconds, 3), **prediction.seconds}
        if call.report:
            from ..report import write_report

            write_report(report_input(prediction, summary), aside / "report.html")
        if call.figures:
            from ..report import write_figures

            write_figures(report_input(prediction, summary), aside)
        seconds["total"] = round(time.perf_counter() - started, 3)
        summary["seconds"] = seconds
        summary["dose"] = dose_name
        summary["spread"] = spread_name
        text = json.dumps(json_ready(summary), indent=2, ensure_ascii=False, allow_nan=False)
        (aside / "prediction.json").write_text(text + "\n", encoding="utf-8")
    return {
        "case": prediction.case.name,
        "dose": str(folder / dose_name),
        "prediction": str(folder / "prediction.json"),
        "report": str(folder / "report.html") if call.report else None,
        "spread": str(folder / spread_name) if spread_name else None,
        "model": prediction.model.manifest.name,
        "device": prediction.device,
        "precision": prediction.precision,
        "seconds": seconds["total"],
        "timings": seconds,
        "checks": [finding.as_json() for finding in prediction.findings],
        "fallbacks": list(prediction.fallbacks),
        "scores": summary["evaluation"],
        "goals": summary["goals"],
    }


def _write_dose(path: Path, prediction: Prediction) -> None:
    """The dose in the format that the suffix names."""
    if path.suffix != ".dcm":
        write_volume(path, prediction.dose, _DESCRIPTION)
        return
    from ..io.dicom.rtdose import Equipment, write_rtdose

    equipment = Equipment.of_model(prediction.model.manifest)
    write_rtdose(path, prediction.dose, prediction.case, equipment)


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A folder aside, whose files are moved into `folder` when the block ends well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    try:
        yield aside
        folder.mkdir(exist_ok=True)
        for file in sorted(aside.iterdir()):
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def describe(record: dict[str, Any]) -> str:
    """A case's record in a few lines for people."""
    lines = [
        f"{record['case']}: {record['model']} on {record['device']} in {record['precision']}, "
        f"{record['seconds']:.1f} s",
        f"  dose    {record['dose']}",
    ]
    if record["spread"]:
        lines.append(f"  spread  {record['spread']}")
    if record["report"]:
        lines.append(f"  report  {record['report']}")
    scores = record["scores"] or {}
    for key, label in (
        ("dose_score_gy", "dose score"),
        ("dvh_score_gy", "DVH score"),
        ("mae_body_gy", "MAE in body"),
    ):
        if scores.get(key) is not None:
            lines.append(f"  {label:<12}{scores[key]:6.2f} Gy against the plan")
    if record["goals"]:
        lines.append(f"  goals       {goals_in_words(record['goals'])}")
    lines += [f"  fallback: {text}" for text in record["fallbacks"]]
    lines.append("  Research only; not for clinical use.")
    return "\n".join(lines)
