"""A prediction as files: dose, record, report. They are one set, all in place or none."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import CaseError, DosePredictionError
from ..evaluation.goal_probability import probability_words
from ..evaluation.plan_review import review_line, review_summary
from ..files import file_set, json_text
from ..io.nifti import PUBLISHED_PREDICTION
from ..io.outputs import output_record, write_further
from ..io.volumes import FORMATS, write_volume
from ..prediction import Prediction
from .bands import BANDS_MISSING
from .output import goals_in_words, json_ready
from .samples import sample_lines
from .summary import prediction_summary, report_input

if TYPE_CHECKING:
    from ..evaluation.goals import GoalSet

__all__ = [
    "RECORD",
    "OutputRequest",
    "PredictedCase",
    "earlier_files",
    "require_no_foreign",
    "require_writable",
    "write_outputs",
]

RECORD = "prediction.json"
"""The file that names the others of a set, under `files`."""

_SUFFIXES = {**FORMATS, "rtdose": ".dcm"}
_REPORT = "report.html"
_DESCRIPTION = "PREDICTED dose in Gy - research only, not for clinical use"


@dataclass(frozen=True)
class OutputRequest:
    """What is written of a prediction.

    Args:
        folder: the case's files go into a folder of its name in it.
        format: of the dose: `nifti`, `nrrd` or `rtdose`.
        goals: what the dose is judged by; "default": the shipped set for the case.
        report: write the HTML report, too.
        figures: write its figures as PNG, too.
        published_names: call the dose as published predictions are called.
        spread: write an ensemble's spread and a head's expected error, too.
        calibration: goes before the model's own; None: its own, if it has one.
    """

    folder: Path
    format: str = "nifti"
    goals: GoalSet | Literal["default"] | None = "default"
    report: bool = False
    figures: bool = False
    published_names: bool = False
    spread: bool = False
    calibration: Path | None = None


@dataclass(frozen=True)
class PredictedCase:
    """A prediction that has been written; `summary` is the content of `prediction.json`."""

    folder: Path
    summary: Mapping[str, Any]
    seconds: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """The record of `predict`."""
        summary, files = self.summary, self.summary["files"]
        spread = summary["spread"]
        return {
            "case": summary["case"],
            "dose": str(self.folder / summary["dose"]),
            "prediction": str(self.folder / RECORD),
            "report": str(self.folder / _REPORT) if _REPORT in files else None,
            "spread": str(self.folder / spread) if spread else None,
            "outputs": [
                {**each, "file": str(self.folder / each["file"])} for each in summary["outputs"]
            ],
            "model": summary["model"]["name"],
            "device": summary["device"],
            "precision": summary["precision"],
            "seconds": self.seconds["total"],
            "timings": dict(self.seconds),
            "checks": summary["checks"],
            "fallbacks": summary["fallbacks"],
            "scores": summary["evaluation"],
            "goals": summary["goals"],
        }

    def text(self) -> str:
        """The record in a few lines for people."""
        record = self.as_json()
        lines = [
            f"{record['case']}: {record['model']} on {record['device']} in {record['precision']}, "
            f"{record['seconds']:.1f} s",
            f"  dose    {record['dose']}",
        ]
        lines += [f"  {each['key']:<8}{each['file']}" for each in record["outputs"][1:]]
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
        if self.summary["samples"]:
            lines += sample_lines(self.summary["samples"])
        if self.summary["bands"]:
            patients = self.summary["bands"]["calibration"]["patients"]
            lines.append(f"  bands       of the DVHs, from {patients} calibration patients")
        missing = [each for each in record["checks"] if each["id"] == BANDS_MISSING]
        lines += [f"  {each['message']}" for each in missing]
        if record["goals"]:
            lines.append(f"  goals       {goals_in_words(record['goals'])}")
        lines += [
            f"              {goal['structure']} {goal['goal']}: {words}"
            for goal in record["goals"]
            if (words := probability_words(goal))
        ]
        if self.summary["review"]:
            lines.append(f"  {review_summary(self.summary['review'])}")
            lines += [f"    {review_line(row)}" for row in self.summary["review"]["rows"]]
        lines += [f"  fallback: {text}" for text in record["fallbacks"]]
        return "\n".join([*lines, "  Research only; not for clinical use."])


def require_writable(folder: Path) -> None:
    """Refuse a folder of outputs that cannot be written or made, before work starts."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent  # the folder itself is made with the first file in it
    if not place.is_dir():
        raise DosePredictionError(f"{place} is no folder: choose another --output than {folder}.")
    if not os.access(place, os.W_OK):
        raise DosePredictionError(f"{place} is read-only: choose another --output than {folder}.")


def write_outputs(
    prediction: Prediction, request: OutputRequest, read_seconds: float, started: float
) -> PredictedCase:
    """Write a prediction's files as one set; those of an earlier prediction go.

    Args:
        read_seconds: that reading the case took.
        started: `time.perf_counter()` when work on the case began.
    """
    name = PUBLISHED_PREDICTION if request.published_names else "dose"
    dose_name = name + _SUFFIXES[request.format]
    folder = request.folder / prediction.case.name
    summary = prediction_summary(prediction, request.goals, None, request.calibration)
    with file_set(folder, earlier_files(folder)) as aside:
        _write_dose(aside / dose_name, prediction)
        suffix = FORMATS.get(request.format, FORMATS["nifti"])
        drawn = len(prediction.of_roles(["sample"])) > 1
        further = write_further(aside, prediction, suffix, with_spread=request.spread or drawn)
        spread_name = next((each["file"] for each in further if each["role"] == "spread"), None)
        if request.report:
            from ..report import write_report

            write_report(report_input(prediction, summary), aside / _REPORT)
        if request.figures:
            from ..report import write_figures

            write_figures(report_input(prediction, summary), aside)
        seconds = {"read": round(read_seconds, 3), **prediction.seconds}
        seconds["total"] = round(time.perf_counter() - started, 3)
        files = sorted([*(path.name for path in aside.iterdir()), RECORD])
        summary |= {"seconds": seconds, "dose": dose_name, "spread": spread_name, "files": files}
        summary["outputs"] = [output_record(prediction.main, dose_name), *further]
        (aside / RECORD).write_text(json_text(json_ready(summary)), encoding="utf-8")
    return PredictedCase(folder, summary, seconds)


def earlier_files(folder: Path, record_name: str = RECORD) -> frozenset[str]:
    """Names of the files that an earlier prediction left in a case's folder."""
    try:
        record = json.loads((folder / record_name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return frozenset()
    if not isinstance(record, dict):
        return frozenset()
    # Records without `files` are of an earlier version.
    named = record.get("files") or [record.get("dose"), record.get("spread"), _REPORT]
    named = list(named.values()) if isinstance(named, dict) else named
    names = {name for name in named if isinstance(name, str)} if isinstance(named, list) else set()
    # A record may come from anywhere: only files of this very folder go.
    return frozenset(
        name for name in names if Path(name).name == name and (folder / name).is_file()
    )


def require_no_foreign(folder: Path, names: Iterable[str], earlier: frozenset[str]) -> None:
    """Refuse to replace files that no earlier call wrote.

    Args:
        names: what is to be written into the folder.
        earlier: what an earlier call left there; see `earlier_files`.

    Raises:
        CaseError: names them.
    """
    foreign = [name for name in names if (folder / name).exists() and name not in earlier]
    if foreign:
        raise CaseError(
            f"{folder} holds {', '.join(foreign)}, which no earlier call wrote: choose another "
            "--output."
        )


def _write_dose(path: Path, prediction: Prediction) -> None:
    """The dose in the format that the suffix names."""
    if path.suffix != ".dcm":
        write_volume(path, prediction.dose, _DESCRIPTION)
        return
    from ..io.dicom.rtdose import Equipment, write_rtdose

    equipment = Equipment.of_model(prediction.model.manifest)
    write_rtdose(path, prediction.dose, prediction.case, equipment)
