"""From a case and a dose to a plan in files: RTPLAN, RTDOSE, report and record."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import __version__
from ..case import Case, Prescription
from ..checks.plan_dose import require_possible_dose, scored_structures
from ..errors import CaseError
from ..evaluation.evaluate import EvaluationParts, evaluate
from ..evaluation.goals import Goal, GoalSet
from ..files import file_set, json_text
from ..findings import Finding
from ..io import read_case
from ..io.doses import read_dose
from ..planning.aperture import complexity
from ..planning.check import check_plan
from ..planning.keeping import KeptGoals
from ..planning.machine import Machine
from ..planning.monte_carlo import MonteCarloSettings, monte_carlo_dose, require_ompmc
from ..planning.planner import DeliverablePlan, Planner, PlanningSettings, equally_spaced
from ..planning.wishes import parse_wish, wanted_dose
from ..report.beams_eye import draw_beams
from ..schema import to_json
from ..structures.bound import BoundCase, bind
from ..structures.protocol import StructureProtocol
from ..volume import Volume
from .choices import MappingChoice, PrescriptionChoice
from .output import goals_in_words, json_ready
from .outputs import earlier_files, require_no_foreign, require_writable
from .plan_check import rows_as_text
from .plan_files import RTDOSE, RTPLAN, write_plan_dicom, write_plan_report

if TYPE_CHECKING:
    from ..evaluation.result import Evaluation
    from ..report.content import Metadata

__all__ = [
    "PLAN_RECORD",
    "PlanInputs",
    "PlanRequest",
    "PlannedCase",
    "gantry_angles",
    "plan_case",
    "plan_inputs",
]

PLAN_RECORD = "plan.json"
STATEMENT = (
    "Plan for research only: no commissioned beam, no real machine. Not a medical device; not for "
    "clinical use."
)
_NOTICE = (
    "This plan was calculated for a beam that nobody commissioned and a machine that does not "
    "exist, and nobody has checked it or the dose that it reaches for ({source}): do not deliver "
    "it, and do not use either to treat, or to decide on a treatment. “Prediction” below is the "
    "dose that was wanted, “plan” what leaf positions and monitor units give."
)
_REPORT, _BEAMS = "report.html", "beams.png"
_FILES = {
    "plan": RTPLAN,
    "dose": RTDOSE,
    "report": _REPORT,
    "record": PLAN_RECORD,
    "beams": _BEAMS,
}
_CRITERIA = ("3%/3mm", "2%/2mm")
_DEFAULT_BEAMS = 20
_WISH_WEIGHTS = (1.0, 1e6)

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class PlanRequest:
    """What to plan and how.

    Args:
        case: what `read_case` takes.
        output: the files go into a folder of the case's name in it.
        machine: id of a shipped machine, or a JSON file.
        beams: how many, equally spaced, or an arrangement as `beams.parse_beams` takes it; None:
            the case's own standing beams, or twenty.
        dose: file of the dose to reach; None: it is predicted.
        own_plan: reach the case's own plan dose instead.
        model: that predicts; None: the default.
        protocol: id; None: the mapping file's, or the one that fits.
        mapping, prescription: go before the case's own.
        goals: what both doses are held against; those that the dose to reach meets, the plan is
            made to meet, too.
        wishes: goals that the plan is asked to meet, as "Rectum V40Gy <= 30 %".
        wish_weights: by how much the voxels count that they concern: one for all wishes, or one
            for each.
        settings: of the planner.
        monte_carlo: simulate the plan's dose, too; None: do not.
    """

    case: Path
    output: Path
    machine: str = "generic-120"
    beams: str | None = None
    dose: Path | None = None
    own_plan: bool = False
    model: str | None = None
    protocol: str | None = None
    mapping: MappingChoice = field(default_factory=MappingChoice)
    prescription: PrescriptionChoice = field(default_factory=PrescriptionChoice)
    goals: GoalSet | Literal["default"] | None = "default"
    wishes: tuple[str, ...] = ()
    wish_weights: tuple[float, ...] = (10.0,)
    settings: PlanningSettings = field(default_factory=PlanningSettings)
    monte_carlo: MonteCarloSettings | None = None


@dataclass(frozen=True, eq=False)
class PlanInputs:
    """A case with its prescription and fractions, and the dose that a plan is to reach.

    Args:
        dose: Gy, on the case's grid.
        source: where it comes from, in words.
        findings: on it.
    """

    bound: BoundCase
    prescription: Prescription
    dose: Volume
    source: str
    findings: Sequence[Finding] = ()


@dataclass(frozen=True, eq=False)
class PlannedCase:
    """A plan that has been written; `record` is the content of `plan.json`, `dose` the plan's."""

    folder: Path
    record: Mapping[str, Any]
    rows: Sequence[Any]
    findings: tuple[Finding, ...]
    dose: Volume

    def as_json(self) -> dict[str, Any]:
        """The record of `plan`, with the places of its files."""
        files = {name: str(self.folder / file) for name, file in self.record["files"].items()}
        return {**self.record, "files": files}

    def text(self) -> str:
        """The record in a few lines for people."""
        record = self.record
        rates = record["gamma"]
        units = record["complexity"]
        lines = [
            f"{record['case']}: {units['beams']} beams, {units['segments']} segments, "
            f"{units['monitor_units']:.0f} MU a fraction on {record['machine']}, "
            f"{record['seconds']['total']:.0f} s",
            f"  plan     {self.folder / RTPLAN}",
            f"  dose     {self.folder / RTDOSE}",
            f"  report   {self.folder / _REPORT}",
            f"  {'gamma of':<36}{'3%/3mm':>8}{'2%/2mm':>8}",
        ]
        for key, words in (
            ("plan", "the plan against the wanted dose"),
            ("fluence", "its fluence, before the leaves"),
            ("recomputed_against_optimized", "recomputed against optimized"),
        ):
            values = "".join(f"{rates[key][criterion]:>8.1f}" for criterion in _CRITERIA)
            lines.append(f"  {words:<36}{values}")
        lines.append(
            f"  mean difference in the body {record['mean_difference_gy']:+.2f} Gy, absolute "
            f"{record['mae_body_gy']:.2f} Gy"
        )
        if record["goals"]:
            lines.append(f"  goals    wanted: {goals_in_words(record['goals'])}")
            kept = [goal["reference"] for goal in record["goals"]]
            lines.append(f"           plan: {goals_in_words(kept)}")
        lines += [f"  lost: {goal['structure']} {goal['goal']}" for goal in record["goals_lost"]]
        lines += [
            f"  asked for: {wish['structure']} {wish['goal']}: wanted dose "
            f"{wish['wanted']:.1f} {wish['unit']}, plan {wish['plan']:.1f} {wish['unit']}"
            for wish in record["wishes"]
        ]
        if record["monte_carlo"]:
            lines.append(_simulated_in_words(record["monte_carlo"]))
        broken = [row for row in self.rows if not row.passed]
        lines.append(f"  limits   {len(broken)} of {len(self.rows)} are broken")
        lines += rows_as_text(broken)
        return "\n".join([*lines, f"  {STATEMENT}"])


def _simulated_in_words(record: Mapping[str, Any]) -> str:
    rates = ", ".join(f"{value:.1f} % at {key}" for key, value in record["gamma"].items())
    return (
        f"  Monte Carlo of {record['histories']} histories, noise {record['noise_percent']:.1f} % "
        f"(monitor unit {record['unit_noise_percent']:.1f} %): gamma of the plan's dose {rates}, "
        f"mean difference {record['mean_difference_gy']:+.2f} Gy"
    )


def gantry_angles(case: Case, text: str | None) -> list[float]:
    """The gantry angles that an option states, or the case's own, or twenty.

    Raises:
        CaseError: it cannot be read, or names an arc.
    """
    from ..beams.arrangement import parse_beams

    if text is None:
        own = case.beams
        if own is None or any(beam.stop_degrees is not None for beam in own.beams if beam.on):
            return equally_spaced(_DEFAULT_BEAMS)
        return own.gantry_degrees
    if text.strip().isdigit():
        return equally_spaced(int(text))
    arrangement = parse_beams(text)
    if any(beam.stop_degrees is not None for beam in arrangement.beams):
        raise CaseError(f"--beams {text}: plans have standing beams; arcs are not planned.")
    return arrangement.gantry_degrees


def plan_case(request: PlanRequest, progress: Progress = lambda share, stage: None) -> PlannedCase:
    """Plan a case and write its files, all of them or none.

    Args:
        progress: hears share and stage; may raise to cancel.

    Raises:
        DosePredictionError: something in the request or the case does not allow it.
    """
    started = time.perf_counter()
    _require_sound(request)
    bound, prescription = _bound(request)
    planner = _planner(bound, prescription, request)
    dose, source, findings = _dose_to_reach(request, bound)
    inputs = PlanInputs(bound, prescription, dose, source, findings)
    folder = request.output / bound.case.name
    return _written(planner, inputs, request, folder, progress, started)


def plan_inputs(
    inputs: PlanInputs, request: PlanRequest, progress: Progress = lambda share, stage: None
) -> PlannedCase:
    """As `plan_case`, for a case and a dose that are at hand.

    What the request says of them is passed over; the files go into its output itself.
    """
    started = time.perf_counter()
    _require_sound(request)
    planner = _planner(inputs.bound, inputs.prescription, request)
    return _written(planner, inputs, request, request.output, progress, started)


def _require_sound(request: PlanRequest) -> None:
    """What can be refused before anything is read."""
    Machine.load(request.machine)
    for text in request.wishes:
        parse_wish(text)
    if len(request.wish_weights) not in (1, len(request.wishes)):
        raise CaseError(
            f"{len(request.wishes)} goals are asked for with {len(request.wish_weights)} weights: "
            "give one weight (--goal-weight) for all, or one for each."
        )
    low, high = _WISH_WEIGHTS
    for weight in request.wish_weights:
        if not low <= weight <= high:
            raise CaseError(
                f"A goal's weight (--goal-weight) lies between {low:g}, as much as any voxel, and "
                f"{high:g}; got {weight:g}."
            )
    if request.monte_carlo is not None:
        require_ompmc()
    require_writable(request.output)


def _planner(bound: BoundCase, prescription: Prescription, request: PlanRequest) -> Planner:
    return Planner(
        bound,
        Machine.load(request.machine),
        gantry_angles(bound.case, request.beams),
        prescription.fractions or 1,
        request.settings,
    )


def _written(
    planner: Planner,
    inputs: PlanInputs,
    request: PlanRequest,
    folder: Path,
    progress: Progress,
    started: float,
) -> PlannedCase:
    bound, dose, prescription = inputs.bound, inputs.dose, inputs.prescription
    earlier = earlier_files(folder, PLAN_RECORD)
    require_no_foreign(folder, _FILES.values(), earlier)
    machine, findings = planner.machine, list(inputs.findings)
    wishes = [parse_wish(text) for text in request.wishes]
    goals = _goals(bound, request)
    wanted = wanted_dose(bound, dose, wishes, request.wish_weights)
    kept = KeptGoals.of(bound, dose, wanted.dose, goals)
    read = time.perf_counter()
    plan = planner.planned(
        wanted.dose, progress, wanted.weights if wishes else None, keep=kept.lacking
    )
    planned = time.perf_counter()
    seconds = {"read": read - started, "plan": planned - read}
    fraction_gy = prescription.highest_gy / (prescription.fractions or 1)
    rows = check_plan(plan.beams, machine, fraction_gy)
    parts = EvaluationParts(reference=plan.dose, goals=[*goals, *wishes] or None)
    evaluation = evaluate(bound, dose, parts)
    record = _record(bound, plan, dose, evaluation, len(wishes))
    record |= {
        "machine": machine.id,
        "wanted": inputs.source,
        "prescription": to_json(prescription),
        "settings": to_json(request.settings),
        "complexity": complexity(plan.beams, fraction_gy),
        "gantry_degrees": [float(beam.gantry_degrees[0]) for beam in plan.beams],
        "isocenter_mm": list(planner.isocenter_mm),
        "checks": [row.as_json() for row in rows],
        "violations": sum(not row.passed for row in rows),
        "findings": [finding.as_json() for finding in findings],
        "monte_carlo": _simulated(planner, plan, request.monte_carlo, progress),
    }
    with file_set(folder, earlier) as aside:
        write_plan_dicom(aside, bound.case, plan, prescription, machine)
        metadata: Metadata = {
            "notice": _NOTICE.format(source=inputs.source),
            "prescription_gy": prescription.target_gy,
            "findings": findings,
        }
        write_plan_report(aside / _REPORT, bound, dose, plan, evaluation, metadata)
        progress(1.0, "pictures of the beams")
        draw_beams(plan.beams, aside / _BEAMS)
        seconds["total"] = time.perf_counter() - started
        record["seconds"] = {key: round(value, 2) for key, value in seconds.items()}
        (aside / PLAN_RECORD).write_text(json_text(json_ready(record)), encoding="utf-8")
        progress(1.0, "done")
    return PlannedCase(folder, json_ready(record), rows, tuple(findings), plan.dose)


def _bound(request: PlanRequest) -> tuple[BoundCase, Prescription]:
    """The case, its prescription and fractions settled."""
    case = read_case(request.case)
    named = request.protocol or request.mapping.protocol
    chosen = None if named is None else StructureProtocol.load(named)
    bound = bind(case, chosen, request.mapping.of(chosen), request.prescription.of(case))
    prescription = bound.prescription
    if prescription is None:
        raise CaseError(f"{case.name} has no prescription: give one (--prescription PTV=45).")
    if prescription.fractions is None:
        raise CaseError(f"{case.name} has no number of fractions: give one (--fractions 25).")
    return bound, prescription


def _dose_to_reach(request: PlanRequest, bound: BoundCase) -> tuple[Volume, str, list[Finding]]:
    """The dose, where it comes from, and what was noticed."""
    case = bound.case
    if request.own_plan:
        if case.plan_dose is None:
            raise CaseError(f"{case.name} has no plan dose of its own.")
        return case.plan_dose, "the case's own plan", []
    if request.dose is not None:
        frame = case.origin.frame_of_reference_uid if case.origin else None
        dose, findings = read_dose(
            request.dose, case.grid, scored_structures(bound), frame_uid=frame
        )
        findings += require_possible_dose(bound, dose, str(request.dose))
        return dose, request.dose.name, findings
    from ..inference.predictor import Predictor, default_model
    from ..models.dose_model import DoseModel

    mapping = request.mapping
    model = (
        default_model(case, mapping.of())
        if request.model is None
        else DoseModel.load(request.model)
    )
    model.require("dose")
    predicted = Predictor(model).predict(
        case, mapping.of(model.protocol), request.prescription.of(case)
    )
    return predicted.dose, f"predicted by {model.manifest.name}", list(predicted.findings)


def _goals(bound: BoundCase, request: PlanRequest) -> tuple[Goal, ...]:
    """The goals that the request chooses."""
    chosen = request.goals
    if chosen == "default":
        known = bound.protocol
        chosen = None if known is None else GoalSet.default(known.id, bound.prescriptions_gy)
    return chosen.goals if chosen else ()


def _record(
    bound: BoundCase, plan: DeliverablePlan, dose: Volume, evaluation: Evaluation, wishes: int
) -> dict[str, Any]:
    """What is said of a plan beside the dose that it was to reach."""
    from ..evaluation.deliverability import goal_is_lost

    body = bound.external.binary()
    apart = (plan.dose.array - dose.array)[body]
    every = evaluation.goal_records
    goals, asked = every[: len(every) - wishes], every[len(every) - wishes :]
    return {
        "case": bound.case.name,
        "statement": STATEMENT,
        "software": {"name": "DosePrediction", "version": __version__},
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "files": _FILES,
        "gamma": {
            "plan": _rates(dose, plan.dose),
            "fluence": _rates(dose, plan.fluence_dose),
            "recomputed_against_optimized": _rates(plan.optimized, plan.dose),
        },
        "mean_difference_gy": float(apart.mean()),
        "mae_body_gy": float(abs(apart).mean()),
        "dvh_score_gy": (evaluation.scores or {}).get("dvh_score_gy"),
        "structures": evaluation.structures(),
        "goals": goals,
        "goals_lost": [goal for goal in goals if goal_is_lost(goal)],
        "wishes": [
            {
                "structure": goal["structure"],
                "goal": goal["goal"],
                "unit": goal["unit"],
                "wanted": goal["value"],
                "plan": goal["reference"]["value"],
                "status": goal["reference"]["status"],
            }
            for goal in asked
        ],
    }


def _rates(reference: Volume, evaluated: Volume) -> dict[str, float | None]:
    """Gamma pass rates, %: global, 10 % cut-off."""
    from ..evaluation.gamma import gamma_pass_rates

    found = gamma_pass_rates(reference, evaluated, list(_CRITERIA))
    return {criterion: found[criterion]["pass_rate_percent"] for criterion in _CRITERIA}


def _simulated(
    planner: Planner,
    plan: DeliverablePlan,
    settings: MonteCarloSettings | None,
    progress: Progress,
) -> dict[str, Any] | None:
    """What Monte Carlo says of a plan, the simulated dose being the reference."""
    if settings is None:
        return None
    started = time.perf_counter()
    found = monte_carlo_dose(
        plan.beams,
        planner.anatomy(settings.grid_mm),
        planner.model,
        planner.machine,
        settings,
        lambda share: progress(share, "Monte Carlo"),
    )
    of_all = found.dose.array * float(planner.fractions)
    dose = planner.on_case_grid(found.dose.with_array(of_all.astype("float32")))
    return {
        **to_json(settings),
        "noise_percent": found.noise_percent,
        "unit_noise_percent": 100 * found.unit_noise,
        "gamma": _rates(dose, plan.dose),
        "mean_difference_gy": float((plan.dose.array - dose.array)[dose.array > 0].mean()),
        "seconds": time.perf_counter() - started,
    }
