"""The panel's state: frozen dataclasses of plain values; nodes by their ids ("" for none)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Literal

from ..freshness import RunSettings
from .facts import (
    BeamMarks,
    Installation,
    Making,
    ModelFacts,
    NodeFacts,
    OrganModelFacts,
    OrganRun,
    PlanCheck,
    PlanFacts,
    TemplateFacts,
    Verdict,
    VerdictLine,
)

if TYPE_CHECKING:
    from DosePredictionLib.findings import Finding
    from DosePredictionLib.structures.mapping import StructureMapping
    from DosePredictionLib.structures.protocol import StructureProtocol

    from ..result_tables import Table

__all__ = [
    "CHECKING",
    "DISPLAY",
    "GOALS_FROM_FILE",
    "INPUTS",
    "MATCHING",
    "CaseMemory",
    "Choices",
    "Display",
    "ExportKind",
    "Installation",
    "Levels",
    "Matching",
    "ModelFacts",
    "NodeFacts",
    "Notice",
    "PanelState",
    "PredictionOrder",
    "Prepared",
    "Reading",
    "ResultState",
    "Run",
    "Showing",
    "TemplateFacts",
    "Verdict",
    "VerdictLine",
    "changed_fields",
]

GOALS_FROM_FILE = "…"
"""The goal template that stands for a file to be asked for."""

ExportKind = Literal["report", "dose", "tables", "plan"]


@dataclass(frozen=True)
class Choices:
    """What the person chose: the parameter node as plain values."""

    ct: str = ""
    segmentation: str = ""
    plan_dose: str = ""
    model: str = ""
    prescription_gy: float = 0.0
    beams: str = ""
    wishes: str = ""
    show_beams: bool = False
    plan_beams: str = ""
    corrections: tuple[tuple[str, str], ...] = ()
    shown: str = "prediction"
    opacity: float = 0.5
    range_low: float = 5.0
    range_high: float = 75.0
    unit: str = "Gy"
    isodoses: bool = True
    surfaces: bool = False
    legend: bool = True
    marks: bool = False
    bands: bool = True
    live: bool = False
    goals: str = ""
    device: str = "auto"
    precision: str = "auto"
    strip_margin_mm: float = -1.0
    keep_strips: bool = False
    keep_coarse: bool = False
    samples: int = 0
    seed: int = 1
    keep_warm: bool = True
    result_dose: str = ""
    compared_dose: str = ""


INPUTS = frozenset({"ct", "segmentation", "plan_dose"})
"""What has to be read from the scene."""
MATCHING = frozenset({"ct", "segmentation", "model", "corrections"})
"""What the table of structures rests on."""
CHECKING = INPUTS | MATCHING | {"prescription_gy", "beams", "wishes"}
"""What the preflight rests on."""
DISPLAY = frozenset(
    {
        "shown",
        "opacity",
        "range_low",
        "range_high",
        "unit",
        "isodoses",
        "surfaces",
        "legend",
        "compared_dose",
    }
)
"""What the dose on the slices rests on."""


def changed_fields(before: Choices, after: Choices) -> frozenset[str]:
    """Names of what differs."""
    names = (each.name for each in fields(Choices))
    return frozenset(name for name in names if getattr(before, name) != getattr(after, name))


@dataclass(frozen=True)
class Levels:
    """Isodose levels: rising values in `unit`, Gy or %."""

    values: tuple[float, ...]
    unit: str = "%"


@dataclass(frozen=True)
class Display:
    """How a result lies over the CT; as `DosePredictionLib.scene.DisplaySettings`.

    Args:
        levels: None: the default ones.
        other: dose of the result that it is compared with; "" for none.
    """

    layer: str
    opacity: float
    low: float
    high: float
    unit: str
    isodoses: bool
    legend: bool
    surfaces: bool = False
    levels: Levels | None = None
    other: str = ""


@dataclass(frozen=True)
class Notice:
    """Something to state: `info`, `warning` or `error`, with details to copy."""

    text: str
    kind: str = "info"
    details: str = ""


@dataclass(frozen=True)
class Matching:
    """Segments to channels.

    Args:
        names: of the segments.
        protocol, mapping: of the chosen model; None while they cannot be matched.
        problems: blocking findings, seen without reading voxels.
        order: corrections that can be applied, channel → segment.
        found: segments that a model found, with its name.
    """

    names: tuple[str, ...] = ()
    protocol: StructureProtocol | None = None
    mapping: StructureMapping | None = None
    problems: tuple[Finding, ...] = ()
    order: tuple[tuple[str, str | None], ...] = ()
    found: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Reading:
    """The inputs on their way: `phase` is `waiting`, `reading` or `checking`."""

    token: int
    phase: str
    stage: str


@dataclass(frozen=True)
class Prepared:
    """The inputs as they were read.

    Args:
        volumes_cc: cm³ by structure.
        contents: checksums by structure, and of "CT" and "place of …".
    """

    volumes_cc: Mapping[str, float]
    contents: Mapping[str, int] = field(default_factory=dict)


Contents = tuple[tuple[str, int], ...]
"""Checksums of what a prediction was made from, by name."""


@dataclass(frozen=True)
class PredictionOrder:
    """What to predict, all that the executor needs to know.

    Args:
        mapping: channel → segment's name where the matching is overruled.
        prescription_gy: highest dose; 0: the model's own.
        beams, wishes: JSON, empty for the model's own beams; goals as `--goal` takes them.
        before: dose of the result that it is compared with.
        replaces: dose of the result that is updated in place; empty: none, it is a further one.
        label: what tells the result from others of its case.
        options: what it rests on, as a scene keeps it.
        samples, seed: how many doses are drawn about the predicted one, and the first one's seed.
        is_live: whether it follows a stroke by itself.
    """

    ct: str
    segmentation: str
    plan_dose: str
    model: str
    mapping: tuple[tuple[str, str | None], ...] = ()
    prescription_gy: float = 0.0
    beams: str = ""
    wishes: tuple[str, ...] = ()
    goals: str = ""
    device: str = "auto"
    precision: str = "auto"
    strip_margin_mm: float = -1.0
    keep_coarse: bool = False
    keep_strips: bool = False
    samples: int = 0
    seed: int = 1
    before: str = ""
    replaces: str = ""
    label: str = ""
    options: tuple[tuple[str, str], ...] = ()
    is_live: bool = False

    @property
    def inputs(self) -> tuple[str, str, str]:
        """Ids of the nodes that it reads."""
        return self.ct, self.segmentation, self.plan_dose


@dataclass(frozen=True)
class Run:
    """A prediction under way.

    Args:
        settings, contents: what it rests on.
        share, stage: how far it is; a share below 0 is unknown.
    """

    token: int
    order: PredictionOrder
    settings: RunSettings
    contents: Contents = ()
    share: float = -1.0
    stage: str = ""
    is_cancelling: bool = False


@dataclass(frozen=True)
class ResultState:
    """A prediction's result in the scene.

    Args:
        run: id of its run.
        dose: its dose node; the others carry the run's id.
        ct, segmentation: what it was predicted from.
        settings: what it rests on; None for one that came with the scene, without its numbers.
        edited: inputs that differ from those of the prediction.
        goals: the template that it is held against.
        tables: by tab.
        ranges: unit → first and last isodose level.
        label: what tells it from other results of its case.
        contents: of what it was predicted from.
        is_live: whether strokes update it by themselves.
        verdict: on its goals.
        other: dose of the result that the tables compare it with.
        outputs: role and label of its further volumes.
        bands, has_bands: what is to be said of the bands and samples of its DVHs; whether there
            are some.
        findings: what was noticed of its dose, and which parts look foreign to the model.
        plan: what it is if no prediction: a plan that a machine could deliver.
    """

    run: str
    dose: str
    name: str
    ct: str
    segmentation: str = ""
    settings: RunSettings | None = None
    edited: tuple[str, ...] = ()
    goals: str = ""
    summary: str = ""
    tables: Mapping[str, Table] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    label: str = ""
    contents: Contents = ()
    is_live: bool = False
    verdict: Verdict = field(default_factory=Verdict)
    other: str = ""
    outputs: tuple[tuple[str, str], ...] = ()
    bands: str = ""
    has_bands: bool = False
    findings: tuple[Finding, ...] = ()
    plan: PlanFacts | None = None

    @property
    def has_numbers(self) -> bool:
        """Whether its DVHs are at hand; after a scene was opened they are not."""
        return self.settings is not None


@dataclass(frozen=True)
class Showing:
    """A result that is being shown, step by step."""

    token: int
    run: str
    display: Display


@dataclass(frozen=True)
class CaseMemory:
    """What the person chose for one CT, and what goes with it.

    Args:
        goals: template chosen by hand; None: it follows model and prescription.
        has_own_range: whether the range of the colors was chosen by hand.
        by_hand: inputs that the person chose or emptied; they are not filled by themselves.
        hidden: structures that are not shown.
        choices: as they were when another CT was chosen; None before.
    """

    goals: str | None = None
    has_own_range: bool = False
    by_hand: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    choices: Choices | None = None


@dataclass(frozen=True)
class PanelState:
    """Everything that the panel knows.

    Args:
        choices: what is chosen; None while there is no scene to choose from.
        is_entered: whether the module is open.
        nodes: what the selectors may offer, and the nodes of the results.
        leaving: ids of nodes that are being removed: what a selector takes meanwhile is nobody's
            choice.
        emptied: choices that a removal has emptied; they are not filled by themselves.
        models, models_problem, organ_models, organ_sources, templates: what is installed.
        matching, reading, prepared, findings, input_error: of the inputs chosen now.
        edited_elsewhere: whether segments were edited while another module was open.
        run, organs: the prediction, and organs, on their way.
        organ_source: where organs are taken from; empty: a model.
        plan_check: whether a plan could give a dose, as asked last.
        making: plans that a machine could deliver.
        costs: dose and segmentation whose contours were asked about, and their costs.
        results: of all patients, the oldest first.
        beam_marks: what is drawn of the beams over the slices.
        shown: run of the result that is shown.
        showing: while it is being shown step by step.
        cases: CT's id → what was chosen for it.
        error: stays until the next action of the person.
        message: the last thing to state that is no error.
        export, tab: what is being written, in words; the table in front.
        levels: of the isodoses, as this person has them; None: the default ones.
        probe: what lies under the mouse, in words.
        arrived: run of the result that came last; it is brought into view.
        is_live_due: whether a stroke has rested, and a prediction of it is to follow.
        looked_at, serial: number of the finding that was jumped to last; of the last token.
        pressed_s: the clock when Apply was pressed last.
    """

    choices: Choices | None = None
    is_entered: bool = False
    nodes: tuple[NodeFacts, ...] = ()
    leaving: tuple[str, ...] = ()
    emptied: frozenset[str] = frozenset()
    models: tuple[ModelFacts, ...] = ()
    models_problem: str = ""
    organ_models: tuple[OrganModelFacts, ...] = ()
    organ_sources: tuple[str, ...] = ()
    templates: tuple[TemplateFacts, ...] = ()
    installation: Installation = field(default_factory=Installation)
    matching: Matching = Matching()
    reading: Reading | None = None
    prepared: Prepared | None = None
    findings: tuple[Finding, ...] = ()
    input_error: str = ""
    edited_elsewhere: bool = False
    run: Run | None = None
    organ_source: str = ""
    organs: OrganRun | None = None
    costs: tuple[str, str, Table] | None = None
    beam_marks: BeamMarks | None = None
    plan_check: PlanCheck | None = None
    making: Making = field(default_factory=Making)
    results: tuple[ResultState, ...] = ()
    shown: str = ""
    showing: Showing | None = None
    cases: Mapping[str, CaseMemory] = field(default_factory=dict)
    error: Notice | None = None
    message: Notice | None = None
    export: str = ""
    tab: str = "goals"
    levels: Levels | None = None
    probe: str = ""
    arrived: str = ""
    is_live_due: bool = False
    looked_at: int = -1
    serial: int = 0
    pressed_s: float = float("-inf")

    @property
    def model(self) -> ModelFacts | None:
        """The chosen model, if it is installed."""
        name = self.choices.model if self.choices is not None else ""
        return next((model for model in self.models if model.name == name), None)

    @property
    def result(self) -> ResultState | None:
        """The result that is shown."""
        return next((each for each in self.results if each.run == self.shown), None)

    @property
    def case(self) -> CaseMemory:
        """What was chosen for the chosen CT."""
        ct = self.choices.ct if self.choices is not None else ""
        return self.cases.get(ct, CaseMemory())

    def result_of_dose(self, dose: str) -> ResultState | None:
        """The result that a dose node belongs to."""
        return next((each for each in self.results if each.dose == dose), None)

    def latest_of_ct(self, ct: str) -> ResultState | None:
        """The newest result of a CT."""
        return next((each for each in reversed(self.results) if ct and each.ct == ct), None)

    def results_of_ct(self, ct: str) -> tuple[ResultState, ...]:
        """The results of a CT, the oldest first."""
        return tuple(each for each in self.results if ct and each.ct == ct)

    def with_choices(self, **changes: object) -> PanelState:
        """Other choices; there must be some."""
        assert self.choices is not None
        return replace(self, choices=replace(self.choices, **changes))  # type: ignore[arg-type]

    def with_case(self, **changes: object) -> PanelState:
        """Remember something for the chosen CT."""
        assert self.choices is not None
        memory = replace(self.case, **changes)  # type: ignore[arg-type]
        return replace(self, cases={**self.cases, self.choices.ct: memory})

    def with_result(self, result: ResultState) -> PanelState:
        """A result in place of the one of the same dose node, or behind the others."""
        results = [result if each.dose == result.dose else each for each in self.results]
        if result not in results:
            results.append(result)
        return replace(self, results=tuple(results))

    def display(self) -> Display:
        """How a result is to be shown now."""
        c = self.choices
        assert c is not None
        return Display(
            layer=c.shown,
            opacity=c.opacity,
            low=c.range_low,
            high=c.range_high,
            unit=c.unit,
            isodoses=c.isodoses,
            legend=c.legend,
            surfaces=c.surfaces,
            levels=self.levels,
            other=c.compared_dose,
        )
