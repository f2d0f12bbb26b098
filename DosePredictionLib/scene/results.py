"""A prediction → nodes: measured in steps, entering the scene in one batch when complete."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from ..app.bands import Bands
from ..errors import CaseError
from ..evaluation.evaluate import QUICK_SCORES, EvaluationParts, evaluate_steps
from ..evaluation.goals import GoalSet
from ..evaluation.result import Evaluation, GoalResults
from ..prediction import ROLES, Output, Prediction
from ..structures.mapping import StructureMapping
from ..structures.protocol import StructureProtocol
from ..volume import Volume
from .bands import BAND_ROLES, SAMPLES_ROLE, band_drafts, sample_drafts
from .changes import Fingerprint
from .colors import LEVELS, fill_difference_table, fill_dose_table, fill_level_table
from .geometry import index_to_ras
from .hierarchy import place_in_study, remove_folder, study_above
from .images import (
    Appearance,
    Placement,
    empty_image,
    filled_in_slabs,
    labelmap_of,
    segmentation_draft,
    volume_drafts,
    voxels_at,
)
from .reading import SceneCase, SegmentInfo
from .records import ROLE_OF_RECORD, ResultRecord, record_draft, write_record
from .restore import restore_displays
from .roles import is_carried
from .runs import (
    DERIVED_FROM,
    LATEST,
    RUN,
    Draft,
    batch,
    enter_scene,
    inputs_of,
    refer_to_inputs,
    remembered,
    remove_nodes,
    result_nodes,
    run_of_inputs,
    sweep_orphans,
)
from .steps import Step, Steps, finish
from .tables import change_drafts, curve_drafts, goal_draft, review_draft, score_draft

__all__ = [
    "Keeping",
    "SceneResult",
    "add_result",
    "remove_result",
    "result_steps",
    "set_goals",
    "title_of",
]

_SMALLEST_RANGE_GY = 1.0
_DIFFERENCES = {
    "difference": "prediction − plan",
    "change": "change of the predicted dose",
}


@dataclass(frozen=True)
class Keeping:
    """How a result stands beside the other ones of its case.

    Args:
        label: what tells it from them; empty: nothing.
        replaces: the run that it updates in place; `LATEST`: the latest of the same CT and
            segmentation; None: no run, it is a further one.
        options: what it rests on beside its inputs, to be kept with the scene.
        goals: the template, an id or a path, to be kept with the scene.
        dose_label: what its dose is called.
    """

    label: str = ""
    replaces: str | None = LATEST
    options: Mapping[str, str] = field(default_factory=dict)
    goals: str = ""
    dose_label: str = ROLES["dose"].label


@dataclass(frozen=True, eq=False)
class SceneResult:
    """A prediction's nodes and numbers. Keeps no voxels but those in the nodes.

    Args:
        run: id of the run, on every node as the attribute `DosePrediction.Run`.
        nodes: role (attribute `DosePrediction.Role`) → node that the run made: `dose`,
            `difference`, `gamma`, `change`, `strips`, `segments`, `metrics`, `goals`, `review`,
            `scores`, `change-metrics`, `change-goals`, `chart`; `<output's role>:<key>` for each
            further output but segments, blanks as hyphens; for each structure `dvh:<key>`,
            `dvh-plan:<key>`, `series:<key>`, `series-plan:<key>`, `series-band-90:<key>`,
            `series-band-50:<key>`, `series-samples:<key>`; tables of both; `record`; color tables.
        name: of the case.
        protocol, mapping: of the model and the run.
        segments: by the structure's key (its channel's name, or the segment's own).
        measures: DVHs, scores and goals, by the same keys.
        plan: the plan's dose node, the user's own; None without a plan.
        label: what tells it from other results of the case; empty for the only one.
        fingerprint: of what it was predicted from.
        record: what a saved scene keeps of it.
    """

    run: str
    nodes: Mapping[str, Any]
    name: str
    protocol: StructureProtocol
    mapping: StructureMapping
    segments: Mapping[str, SegmentInfo]
    measures: Evaluation
    plan: Any
    label: str
    fingerprint: Fingerprint
    record: ResultRecord

    @property
    def goals(self) -> GoalResults | None:
        """Goals of the prediction, as `evaluate_goals` returns them; None without a template."""
        return self.measures.goals

    @property
    def planned_goals(self) -> GoalResults | None:
        """Those of the plan."""
        return self.measures.planned_goals

    @property
    def dose(self) -> Any:
        """The node of the predicted dose."""
        return self.nodes["dose"]

    @property
    def bands(self) -> Bands:
        """What the calibration says: of the DVHs, of goals, of the plan."""
        return self.record.bands

    @property
    def prescription_gy(self) -> float:
        """Dose of the highest target level, Gy."""
        return max(self.measures.prescriptions_gy.values())


def result_steps(
    prediction: Prediction,
    source: SceneCase,
    *,
    measures: Evaluation | None = None,
    goals: GoalSet | None = None,
    before: SceneResult | None = None,
    gamma: Volume | None = None,
    keeping: Keeping | None = None,
    bands: Bands | None = None,
) -> Steps[SceneResult]:
    """Measure a prediction and put it into the scene; the generator returns a `SceneResult`.

    Nodes are prepared outside the scene and enter it in one batch in the last step; until then, or
    when the generator is closed, the scene is untouched. By default the latest result of the same
    CT and segmentation is updated in place.

    Args:
        prediction: its case need not be `source.case` itself but lies on the same grid.
        source: what was read.
        measures: its numbers, if they are known already.
        goals: a template, evaluated for prediction and plan.
        before: the result before the contours were changed: adds `change`, `change-metrics` and
            `change-goals` (new − old).
        gamma: gamma index of the prediction against the plan.
        keeping: beside which other results, and under which name.
        bands: of its DVHs, if they are known already.

    Nothing is drawn against a plan that the measures do not compare with.

    Raises:
        CaseError: the CT or the segmentation has left the scene.
        PredictionError: the prediction holds no dose.
    """
    work = _Result(prediction, source, keeping or Keeping())
    if measures is None:
        measures = yield from work.measure()
    measures = measures.judged(goals)
    dose_gy = prediction.dose.array
    yield from work.add_outputs()
    has_plan = measures.planned is not None  # one that does not belong is not compared with
    if gamma is not None and has_plan:
        yield from work.add_gamma(gamma.array)
    if work.plan_volume is not None and has_plan:
        yield from work.add_difference("difference", dose_gy, work.plan_volume.array)
    if before is not None:
        earlier = voxels_at(before.dose, work.placement)
        yield from work.add_difference("change", dose_gy, earlier)
    yield from work.add_strips()
    work.add_tables(measures, bands or Bands.of(prediction, measures), before)
    yield work.step("Preparing the tables")
    result = work.enter(measures)
    yield work.step("Done")
    return result


def add_result(
    prediction: Prediction,
    source: SceneCase,
    *,
    goals: GoalSet | None = None,
    before: SceneResult | None = None,
    gamma: Volume | None = None,
    keeping: Keeping | None = None,
) -> SceneResult:
    """Put a prediction into the scene at once; see `result_steps`."""
    return finish(
        result_steps(prediction, source, goals=goals, before=before, gamma=gamma, keeping=keeping)
    )


def set_goals(result: SceneResult, goals: GoalSet | None, template: str = "") -> SceneResult:
    """Hold a result against another template, from the DVHs at hand; None removes the goals.

    Args:
        template: its id or path, to be kept with the scene.
    """
    measures = result.measures.judged(goals)
    nodes = result_nodes(result.run)  # some may have been deleted by hand
    scene = result.dose.GetScene()
    if measures.goals is None:
        with batch(scene):
            remove_nodes(scene, [nodes.pop(role) for role in ("goals",) if role in nodes])
    else:
        title = title_of(result.name, result.label)
        draft = goal_draft(title, result.bands.likely(measures.goals), measures.planned_goals)
        existing = {role: node for role, node in nodes.items() if role == "goals"}
        with batch(scene):
            nodes |= enter_scene(scene, [draft], result.run, existing)
            ct, _ = inputs_of(result.dose)
            if ct is not None:
                place_in_study(scene, ct, result.run, result.run, title, nodes)
    record = result.record.with_measures(measures, template)
    if ROLE_OF_RECORD in nodes:
        write_record(nodes[ROLE_OF_RECORD], record)
    return replace(result, nodes=nodes, measures=measures, record=record)


def title_of(name: str, label: str) -> str:
    """How the nodes of a result begin."""
    return f"{name} ({label})" if label else name


def remove_result(run: str) -> None:
    """Remove exactly the nodes that a run made; what it changed of the user's goes back."""
    nodes = result_nodes(run)
    scene = slicer.mrmlScene
    dose = nodes.get("dose")
    restore, study = {}, 0
    if dose is not None:
        restore, study = remembered(dose), study_above(scene, dose)
        restore_displays(dose, restore)
    with batch(scene):
        remove_nodes(scene, list(nodes.values()))
        remove_folder(scene, run, restore, study)


class _Result:
    """A result on its way into the scene."""

    def __init__(self, prediction: Prediction, source: SceneCase, keeping: Keeping) -> None:
        self._prediction, self._source, self._keeping = prediction, source, keeping
        self._scene = slicer.mrmlScene
        self._ct = self._node(source.ct_id, "CT")
        self._segmentation = self._node(source.segmentation_id, "segmentation")
        self._plan = self._plan_node()
        self._name = title_of(prediction.case.name, keeping.label)
        self._drafts: list[Draft] = []
        self._segmentations: list[Draft] = []
        self._done = 0
        grid = prediction.dose.grid
        self.placement = (
            Placement.in_world(grid)
            if source.is_hardened
            else Placement(index_to_ras(self._ct), self._ct.GetTransformNodeID())
        )
        self.plan_volume = prediction.case.plan_dose if self._plan is not None else None

    def measure(self) -> Steps[Evaluation]:
        """The prediction's numbers, a structure a step."""
        parts = EvaluationParts(self.plan_volume, QUICK_SCORES)
        measuring = evaluate_steps(self._prediction.bound, self._prediction.dose, parts)
        while True:
            try:
                yield self.step(next(measuring))
            except StopIteration as end:
                measures: Evaluation = end.value
                return measures

    def step(self, label: str) -> Step:
        self._done += 1
        curves = len(self._prediction.case.structures)
        return Step(label, self._done, max(self._done, curves + 4))

    def add_outputs(self) -> Iterator[Step]:
        """Prepare every output: segments in one segmentation, the others as volumes."""
        main = self._prediction.main
        labelmaps = {}
        for output in self._prediction.outputs:
            if output.role == "segment":
                name = output.structure or output.label
                labelmaps[output.key, name] = labelmap_of(output.volume.array > 0, self.placement)
                yield self.step(f"Preparing {output.label}")
                continue
            role = "dose" if output is main else f"{output.role.replace(' ', '-')}:{output.key}"
            appearance = self._appearance(output, output is main)
            label = self._keeping.dose_label if output is main else output.label
            yield from self._add_volume(role, label, output.volume.array, appearance)
        if labelmaps:
            name = f"{self._name}: predicted segments"
            self._segmentations.append(
                segmentation_draft("segments", name, labelmaps, self.placement, self._ct)
            )

    def add_gamma(self, array: NDArray) -> Iterator[Step]:
        """Prepare the gamma index of the prediction against the plan."""
        appearance = Appearance(_from_zero(array, _SMALLEST_RANGE_GY), is_in_gray=False)
        yield from self._add_volume("gamma", "gamma, prediction against plan", array, appearance)

    def add_difference(self, role: str, array: NDArray, minus: NDArray) -> Iterator[Step]:
        """Prepare a difference of two doses, Gy."""
        reach = 0.1 * self._prediction.prescription.highest_gy
        appearance = Appearance((-reach, reach), "difference-colors")
        yield from self._add_volume(role, _DIFFERENCES[role], array, appearance, minus)

    def add_strips(self) -> Iterator[Step]:
        """Prepare the strips that the network received, if they were kept."""
        labelmaps = {}
        for angle, mask in (self._prediction.strips or {}).items():
            segment = (f"strip_{angle:03d}", f"Strip {angle}°")
            labelmaps[segment] = labelmap_of(mask.array, self.placement)
            yield self.step(f"Preparing strip {angle}°")
        if labelmaps:
            name = f"{self._name}: tangent strips"
            self._segmentations.append(
                segmentation_draft("strips", name, labelmaps, self.placement, self._ct)
            )

    def _appearance(self, output: Output, is_main: bool) -> Appearance:
        """How an output is drawn: a dose between the isodose levels, others from zero."""
        if output.is_dose_like:
            highest_gy = self._prediction.prescription.highest_gy
            window = (LEVELS[0][0] * highest_gy / 100, LEVELS[-1][0] * highest_gy / 100)
            return Appearance(window, is_dose=is_main, follows_dose=not is_main)
        if output.unit == "probability":
            return Appearance((0.0, 1.0), is_in_gray=False)
        return Appearance(_from_zero(output.volume.array, _SMALLEST_RANGE_GY))

    def _add_volume(
        self,
        role: str,
        label: str,
        array: NDArray,
        appearance: Appearance,
        minus: NDArray | None = None,
    ) -> Iterator[Step]:
        """Prepare one volume, or a difference; the slow part of it is done here."""
        image = empty_image(array.shape)
        for _ in filled_in_slabs(image, array, minus):
            yield Step(f"Preparing {role}", self._done, self._done + 1)
        name = f"{self._name}: {label}"
        self._drafts += volume_drafts(role, name, image, self.placement, appearance)

    def add_tables(self, measures: Evaluation, bands: Bands, before: SceneResult | None) -> None:
        """Prepare color tables, DVHs, goals and scores, in their place among what is ready."""
        segments = self._segments(measures)
        drafts = [*self._color_drafts(), *self._drafts]
        record = replace(self._record(measures, segments), bands=bands)
        # The chart draws in the order of its series: bands lie below the curves.
        drafts += band_drafts(self._name, bands.content, segments, measures.external)
        drafts += sample_drafts(self._name, bands.samples, segments, measures.external)
        kinds = (*BAND_ROLES.values(), SAMPLES_ROLE)
        below = [draft.role for draft in drafts if draft.role.partition(":")[0] in kinds]
        drafts += curve_drafts(
            self._name, measures, segments, self._segmentation, self._plan, below
        )
        drafts += self._segmentations
        drafts.append(record_draft(self._name, record))
        if measures.goals is not None:
            likely = bands.likely(measures.goals)
            drafts.append(goal_draft(self._name, likely, measures.planned_goals))
        if bands.review is not None and bands.review["rows"]:
            drafts.append(review_draft(self._name, bands.review, segments))
        if measures.scores is not None:
            drafts.append(score_draft(self._name, measures.scores))
        if before is not None:
            old, new = before.measures.predicted, measures.predicted
            drafts += change_drafts(self._name, old, new, segments, before.goals, measures.goals)
        self._drafts, self._kept_record = drafts, record

    def enter(self, measures: Evaluation) -> SceneResult:
        """Everything into the scene, in one batch."""
        self._require_inputs()
        sweep_orphans(self._scene)
        replaced = self._keeping.replaces
        if replaced == LATEST:
            replaced = run_of_inputs(self._scene, self._ct, self._segmentation)
        existing = result_nodes(replaced) if replaced is not None else {}
        carried = {role: existing.pop(role) for role in list(existing) if is_carried(role)}
        run = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(3)}"
        with batch(self._scene):
            nodes = enter_scene(self._scene, self._drafts, run, existing)
            for node in carried.values():
                node.SetAttribute(RUN, run)
                node.RemoveAttribute(DERIVED_FROM)
            nodes["dose"].RemoveAttribute(DERIVED_FROM)
            refer_to_inputs(nodes["dose"], self._ct, self._segmentation, self._plan)
            nodes["dose"].SetNodeReferenceID("colorTableRef", nodes["level-colors"].GetID())
            place_in_study(self._scene, self._ct, run, replaced, self._name, nodes)
        return SceneResult(
            run=run,
            nodes=nodes,
            name=self._prediction.case.name,
            protocol=self._prediction.model.protocol,
            mapping=self._prediction.mapping,
            segments=self._segments(measures),
            measures=measures,
            plan=self._plan,
            label=self._keeping.label,
            fingerprint=self._source.fingerprint,
            record=self._kept_record,
        )

    def _record(self, measures: Evaluation, segments: Mapping[str, SegmentInfo]) -> ResultRecord:
        checksums = {what: crc for what, (_, crc) in self._source.fingerprint.entries.items()}
        about = {
            "name": self._prediction.case.name,
            "label": self._keeping.label,
            "checksums": checksums,
            "is_hardened": self._source.is_hardened,
            "options": dict(self._keeping.options),
            "goals": self._keeping.goals,
        }
        return ResultRecord.of(self._prediction, measures, segments, about)

    def _color_drafts(self) -> list[Draft]:
        highest_gy = self._prediction.prescription.highest_gy
        kind = "vtkMRMLColorTableNode"
        return [
            Draft("colors", kind, f"{self._name}: dose colors", lambda n, _: fill_dose_table(n)),
            Draft(
                "level-colors",
                kind,
                f"{self._name}: {self._keeping.dose_label}_IsodoseColorTable",
                lambda n, _: fill_level_table(
                    n, [f"{percent * highest_gy / 100:g}" for percent, _ in LEVELS]
                ),
            ),
            Draft(
                "difference-colors",
                kind,
                f"{self._name}: difference colors",
                lambda n, _: fill_difference_table(n),
            ),
        ]

    def _segments(self, measures: Evaluation) -> dict[str, SegmentInfo]:
        assigned = self._prediction.mapping.assigned
        return {key: self._source.segments[assigned.get(key, key)] for key in measures.predicted}

    def _plan_node(self) -> Any:
        node_id = self._source.plan_dose_id
        return None if node_id is None else self._scene.GetNodeByID(node_id)

    def _require_inputs(self) -> None:
        self._node(self._source.ct_id, "CT")
        self._node(self._source.segmentation_id, "segmentation")
        if self.plan_volume is not None:
            self._node(self._source.plan_dose_id or "", "plan dose")

    def _node(self, node_id: str, what: str) -> Any:
        node = self._scene.GetNodeByID(node_id)
        if node is None:
            raise CaseError(
                f"The {what} of {self._prediction.case.name} has been removed from the scene, so "
                "there is no place for the dose. Load it again and predict anew."
            )
        return node


def _from_zero(array: NDArray, smallest: float) -> tuple[float, float]:
    """A window from 0 to the highest value, at least to `smallest`."""
    return 0.0, max(float(np.nanmax(array)), smallest)
