"""From a prediction in the scene to a plan beside it, by the planner's own process."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .flow.facts import PlanFacts
from .i18n import _
from .plan_facts import PLAN_OPTION, facts_of_plan, text_of_facts
from .prediction_run import Callbacks, Job, PredictionRun, RunInputs
from .prepared import PreparedInputs
from .services import KeptResult, Services

if TYPE_CHECKING:
    from DosePredictionLib.beams.arrangement import BeamArrangement
    from DosePredictionLib.origin import DicomOrigin
    from DosePredictionLib.scene import SceneResult, Step

__all__ = ["FromPlanner", "PlanWishes", "start_plan"]


@dataclass(frozen=True)
class PlanWishes:
    """What is asked of a plan beside the dose, and how it stands in the scene.

    Args:
        beams: None: the prediction's own, else twenty.
        goals: asked for, with the structure, and by how much they count.
        template: that both doses are held against.
        label: of the result.
    """

    beams: BeamArrangement | None
    goals: tuple[tuple[str, float], ...]
    template: str
    label: str


@dataclass(frozen=True, eq=False)
class FromPlanner:
    """A plan in the scene."""

    result: SceneResult
    facts: PlanFacts
    picture: str


def start_plan(
    kept: KeptResult,
    wishes: PlanWishes,
    shared: Services,
    on_finished: Callable[[FromPlanner], None],
    callbacks: Callbacks,
) -> PredictionRun:
    """Plan for a result whose files are at hand, without waiting.

    The plan's dose is written and referred to as the patient of the CT's DICOM files, if it comes
    from some.

    Raises:
        CaseError: CT or segmentation have gone, or the planner cannot be started.
        GeometryError: the CT was predicted on where a transform had moved it.
    """
    from DosePredictionLib.evaluation.goals import GoalSet
    from DosePredictionLib.scene import Keeping, inputs_of, placed_origin, plan_of

    assert kept.prepared is not None
    assert kept.output is not None
    prediction = shared.prediction_or_raise(kept.result.dose)
    origin = placed_origin(kept.result, prediction.grid)
    ct, segmentation = inputs_of(kept.result.dose)
    inputs = RunInputs(
        ct=ct,
        segmentation=segmentation,
        plan_dose=plan_of(kept.result.dose),
        goals=GoalSet.load(wishes.template) if wishes.template else None,
        prepared=kept.prepared,
        keeping=Keeping(
            label=wishes.label,
            replaces=None,
            options=dict(kept.result.record.options),
            goals=wishes.template,
            dose_label=_("dose of the plan"),
        ),
    )

    def finished(prepared: PreparedInputs, output: Path, plan: Any) -> None:
        shared.keep_result(KeptResult(plan.result, prepared, output))
        on_finished(plan)

    whole = Callbacks(callbacks.progress, finished, callbacks.error)
    job = Job(
        lambda _inputs, prepared, output: _request(kept, prepared, output, wishes, origin),
        lambda each, prepared, output: _steps(each, prepared, output, kept.result.run),
    )
    planner = shared.planner.worker
    return PredictionRun(inputs, planner, shared.scratch, shared.clock, whole, job).start()


def _request(
    kept: KeptResult,
    prepared: PreparedInputs,
    output: Path,
    wishes: PlanWishes,
    origin: DicomOrigin | None,
) -> Any:
    from DosePredictionLib.worker.messages import MakePlan, PlanWish

    return MakePlan(
        id=output.name,
        case=str(prepared.folder),
        prediction=str(kept.output),
        output=str(output),
        beams=wishes.beams,
        wishes=tuple(PlanWish(text, weight) for text, weight in wishes.goals),
        goals=wishes.template,
        origin=origin,
    )


def _steps(
    inputs: RunInputs, prepared: PreparedInputs, output: Path, of: str
) -> Generator[Step, None, FromPlanner]:
    """From the planner's folder into the scene, as a result that is no prediction."""
    from DosePredictionLib.app.bands import Bands
    from DosePredictionLib.scene import Step, result_steps
    from DosePredictionLib.schema import read_json
    from DosePredictionLib.worker.exchange import read_prediction
    from DosePredictionLib.worker.measured import read_bands, read_measures

    source = prepared.source(only=prepared.names[:1])
    plan = read_prediction(output, source.case)
    yield Step(_("reading the dose"), 0, 1)
    measures = read_measures(output)
    files = output / "plan"
    record: Any = read_json(files / "plan.json")
    facts = facts_of_plan(record, of)
    assert inputs.keeping is not None
    options = {**inputs.keeping.options, PLAN_OPTION: text_of_facts(facts)}
    keeping = replace(inputs.keeping, options=options)
    bands = read_bands(output) or Bands()
    steps = result_steps(
        plan, source, measures=measures, goals=inputs.goals, keeping=keeping, bands=bands
    )
    result = yield from steps
    return FromPlanner(result, facts, str(files / record["files"]["beams"]))
