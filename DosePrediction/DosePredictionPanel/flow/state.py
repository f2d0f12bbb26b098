"""The panel's state: frozen dataclasses of plain values; nodes by their ids ("" for none)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Literal

from ..freshness import RunSettings

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
    "changed_fields",
]

GOALS_FROM_FILE = "…"
"""The goal template that stands for a file to be asked for."""

ExportKind = Literal["report", "dose", "tables"]


@dataclass(frozen=True)
class Choices:
    """What the person chose: the parameter node as plain values."""

    ct: str = ""
    segmentation: str = ""
    plan_dose: str = ""
    model: str = ""
    prescription_gy: float = 0.0
    corrections: tuple[tuple[str, str], ...] = ()
    shown: str = "prediction"
    opacity: float = 0.5
    range_low: float = 5.0
    range_high: float = 75.0
    unit: str = "Gy"
    isodoses: bool = False
    legend: bool = True
    goals: str = ""
    device: str = "auto"
    precision: str = "auto"
    strip_margin_mm: float = -1.0
    keep_strips: bool = False
    keep_coarse: bool = False
    keep_warm: bool = True
    result_dose: str = ""


INPUTS = frozenset({"ct", "segmentation", "plan_dose"})
"""What has to be read from the scene."""
MATCHING = frozenset({"ct", "segmentation", "model", "corrections"})
"""What the table of structures rests on."""
CHECKING = INPUTS | MATCHING | {"prescription_gy"}
"""What the preflight rests on."""
DISPLAY = frozenset({"shown", "opacity", "range_low", "range_high", "unit", "isodoses", "legend"})
"""What the dose on the slices rests on."""


def changed_fields(before: Choices, after: Choices) -> frozenset[str]:
    """Names of what differs."""
    names = (each.name for each in fields(Choices))
    return frozenset(name for name in names if getattr(before, name) != getattr(after, name))


@dataclass(frozen=True)
class Display:
    """How a result lies over the CT; as `DosePredictionLib.scene.DisplaySettings`."""

    layer: str
    opacity: float
    low: float
    high: float
    unit: str
    isodoses: bool
    legend: bool


@dataclass(frozen=True)
class NodeFacts:
    """A node of the scene that a selector may offer.

    Args:
        id, name: of the node.
        kind: `volume`, `segmentation`, or `other` of a run's nodes.
        is_dose: whether it says of itself that it is a dose.
        can_be_dose: whether its values allow it: none is below 0 Gy.
        run, role: of a node that a prediction made; empty for the person's own.
        ct, segmentation: of a predicted dose, the inputs it refers to.
    """

    id: str
    name: str
    kind: str
    is_dose: bool = False
    can_be_dose: bool = True
    run: str = ""
    role: str = ""
    ct: str = ""
    segmentation: str = ""

    def fits(self, choice: str) -> bool:
        """Whether it can be chosen as `ct`, `segmentation` or `plan_dose`."""
        if self.run:
            return False
        if choice == "segmentation":
            return self.kind == "segmentation"
        if self.kind != "volume":
            return False
        return not self.is_dose if choice == "ct" else self.is_dose or self.can_be_dose


@dataclass(frozen=True)
class ModelFacts:
    """An installed model, as far as the panel decides by it.

    Args:
        highest_gy: its own highest prescription; 0 when it states none.
        has_levels: whether it predicts several dose levels, which are not scaled.
    """

    name: str
    title: str
    protocol: str
    is_default: bool
    highest_gy: float
    has_levels: bool
    doses: str = ""
    card: str = ""
    card_details: str = ""


@dataclass(frozen=True)
class TemplateFacts:
    """A shipped goal template: for which protocol and prescriptions (Gy) it is written."""

    id: str
    title: str
    protocol: str | None
    low_gy: float | None
    high_gy: float | None

    def fits(self, protocol: str, highest_gy: float) -> bool:
        """Whether it is written for such a prescription."""
        if self.protocol != protocol or self.low_gy is None or self.high_gy is None:
            return False
        return self.low_gy <= highest_gy <= self.high_gy


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
    """

    names: tuple[str, ...] = ()
    protocol: StructureProtocol | None = None
    mapping: StructureMapping | None = None
    problems: tuple[Finding, ...] = ()
    order: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True)
class Reading:
    """The inputs on their way: `phase` is `waiting`, `reading` or `checking`."""

    token: int
    phase: str
    stage: str


@dataclass(frozen=True)
class Prepared:
    """The inputs as they were read: volumes in cm³ by structure."""

    volumes_cc: Mapping[str, float]


@dataclass(frozen=True)
class PredictionOrder:
    """What to predict, all that the executor needs to know.

    Args:
        mapping: channel → segment's name where the matching is overruled.
        prescription_gy: highest dose; 0: the model's own.
        before: dose of the result that the change is shown against.
    """

    ct: str
    segmentation: str
    plan_dose: str
    model: str
    mapping: tuple[tuple[str, str | None], ...] = ()
    prescription_gy: float = 0.0
    goals: str = ""
    device: str = "auto"
    precision: str = "auto"
    strip_margin_mm: float = -1.0
    keep_coarse: bool = False
    keep_strips: bool = False
    before: str = ""

    @property
    def inputs(self) -> tuple[str, str, str]:
        """Ids of the nodes that it reads."""
        return self.ct, self.segmentation, self.plan_dose


@dataclass(frozen=True)
class Run:
    """A prediction under way.

    Args:
        settings: what it rests on.
        share, stage: how far it is; a share below 0 is unknown.
    """

    token: int
    order: PredictionOrder
    settings: RunSettings
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
        choices: as they were when another CT was chosen; None before.
    """

    goals: str | None = None
    has_own_range: bool = False
    choices: Choices | None = None


@dataclass(frozen=True)
class Installation:
    """What is missing, in words (empty: nothing), the report, and the devices (id → text)."""

    missing: str = ""
    report: str = ""
    devices: Mapping[str, str] = field(default_factory=dict)


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
        models, models_problem, templates: what is installed.
        matching, reading, prepared, findings, input_error: of the inputs chosen now.
        edited_elsewhere: whether segments were edited while another module was open.
        run: the prediction under way.
        results: of all patients, the oldest first.
        shown: run of the result that is shown.
        showing: while it is being shown step by step.
        cases: CT's id → what was chosen for it.
        error: stays until the next action of the person.
        message: the last thing to state that is no error.
        export: what is being written in the worker, in words.
        tab: the table in front.
        serial: number of the last token.
        pressed_s: the clock when Apply was pressed last.
    """

    choices: Choices | None = None
    is_entered: bool = False
    nodes: tuple[NodeFacts, ...] = ()
    leaving: tuple[str, ...] = ()
    emptied: frozenset[str] = frozenset()
    models: tuple[ModelFacts, ...] = ()
    models_problem: str = ""
    templates: tuple[TemplateFacts, ...] = ()
    installation: Installation = Installation()
    matching: Matching = Matching()
    reading: Reading | None = None
    prepared: Prepared | None = None
    findings: tuple[Finding, ...] = ()
    input_error: str = ""
    edited_elsewhere: bool = False
    run: Run | None = None
    results: tuple[ResultState, ...] = ()
    shown: str = ""
    showing: Showing | None = None
    cases: Mapping[str, CaseMemory] = field(default_factory=dict)
    error: Notice | None = None
    message: Notice | None = None
    export: str = ""
    tab: str = "goals"
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

    def name_of(self, node: str) -> str:
        """A node's name for a sentence."""
        return next((each.name for each in self.nodes if each.id == node), node)

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
        others = [each for each in self.results if each.dose != result.dose]
        return replace(self, results=(*others, result))

    def display(self) -> Display:
        """How a result is to be shown now."""
        c = self.choices
        assert c is not None
        return Display(c.shown, c.opacity, c.range_low, c.range_high, c.unit, c.isodoses, c.legend)
