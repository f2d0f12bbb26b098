"""What the planner's process does: make a plan of a prediction, and install its own packages.

Of torch only what compares two doses (gamma) needs it; it comes with the interpreter, not with the
planner's packages.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..app.bands import Bands
from ..app.choices import BeamsChoice
from ..app.plan import PlanInputs, PlannedCase, PlanRequest, plan_inputs
from ..case import Prescription
from ..errors import DosePredictionError, PredictionCancelled
from ..findings import Finding
from ..planner_environment import install_planner
from ..prediction import Output, Prediction
from .exchange import read_exchanged_case, read_prediction, write_prediction
from .messages import InstallPlanner, MakePlan, Result

if TYPE_CHECKING:
    from ..evaluation.evaluate import Evaluation

__all__ = ["PLAN_FILES", "install", "make_plan"]

PLAN_FILES = "plan"
"""Folder beside the plan's dose that holds RTPLAN, RTDOSE, report, pictures and record."""

_USUAL_GY = 2.0  # of a fraction
_CANCELLED = "Cancelled; no plan was made, and nothing was written."
Report = Callable[[float, str], None]


def make_plan(request: MakePlan, report: Report, cancelled: Callable[[], bool]) -> Result:
    """Plan for a predicted dose; the plan's dose and its numbers lie in the folder asked for.

    Raises:
        PredictionCancelled: `cancelled()` returned true.
        DosePredictionError: case or prediction cannot be read, or no plan can be made of them.
    """

    def heard(share: float, stage: str) -> None:
        if cancelled():
            raise PredictionCancelled(_CANCELLED)
        report(0.95 * share, stage)

    if importlib.util.find_spec("torch") is None:
        raise DosePredictionError(
            "PyTorch, which compares the plan with the prediction, is missing: install it by the "
            "panel's Installation section."
        )
    heard(0.0, "reading the case")
    case = read_exchanged_case(Path(request.case))
    prediction = read_prediction(Path(request.prediction), case)
    chosen = BeamsChoice(request.beams).of(replace(prediction.case, origin=request.origin))
    prediction = replace(prediction, case=chosen)
    output = Path(request.output)
    files = output.with_name(f"{output.name}-files")
    try:
        planned = plan_inputs(_inputs(prediction), _request(request, files), heard)
        of_plan = _as_prediction(prediction, planned)
        measures = _measured(of_plan, heard)
        bands = Bands(missing="A plan has no bands: it is one plan, not what plans may give.")
        write_prediction(output, of_plan, measures=measures, bands=bands)
        planned.folder.rename(output / PLAN_FILES)
    finally:
        shutil.rmtree(files, ignore_errors=True)
    return Result(request.id, request.output, warm=True)


def install(request: InstallPlanner, report: Report, cancelled: Callable[[], bool]) -> Result:
    """Install the planner; raises as `install_planner`."""
    install_planner(Path(request.folder), report, cancelled)
    return Result(request.id, request.folder, warm=True)


def _inputs(prediction: Prediction) -> PlanInputs:
    prescription, findings = prediction.prescription, []
    if prescription.fractions is None:
        count = max(1, round(prescription.highest_gy / _USUAL_GY))
        prescription = Prescription(prescription.target_gy, count)
        message = f"No number of fractions is known: {count} are assumed, {_USUAL_GY:g} Gy each."
        findings.append(Finding("fractions-assumed", "warning", message))
    source = f"predicted by {prediction.model.manifest.name}"
    return PlanInputs(prediction.bound, prescription, prediction.dose, source, findings)


def _request(request: MakePlan, files: Path) -> PlanRequest:
    from ..evaluation.goals import GoalSet

    return PlanRequest(
        case=Path(request.case),
        output=files,
        machine=request.machine,
        goals=GoalSet.load(request.goals) if request.goals else None,
        wishes=tuple(wish.text for wish in request.wishes),
        wish_weights=tuple(wish.weight for wish in request.wishes) or (1.0,),
    )


def _as_prediction(prediction: Prediction, planned: PlannedCase) -> Prediction:
    """The plan's dose in the form that doses are exchanged in."""
    from ..beams.arrangement import BeamArrangement

    case = prediction.case
    beams = BeamArrangement.of_angles(planned.record["gantry_degrees"])
    if case.beams is not None:
        beams = replace(beams, patient_position=case.beams.patient_position)
    return replace(
        prediction,
        case=replace(case, beams=beams, origin=None),
        outputs=(Output("dose", planned.dose, "dose", "Gy"),),
        findings=planned.findings,
        fallbacks=(),
        device="cpu",
        precision="fp32",
        seconds=dict(planned.record["seconds"]),
        strips=None,
    )


def _measured(prediction: Prediction, heard: Report) -> Evaluation:
    from ..evaluation.evaluate import QUICK_SCORES, EvaluationParts, evaluate

    parts = EvaluationParts(scores=QUICK_SCORES)
    return evaluate(prediction.bound, prediction.dose, parts, lambda stage: heard(1.0, stage))
