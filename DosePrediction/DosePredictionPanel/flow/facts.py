"""What the panel knows of nodes, models, templates and the installation: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "BeamMarks",
    "Installation",
    "Making",
    "ModelFacts",
    "NodeFacts",
    "OrganModelFacts",
    "OrganOrder",
    "OrganRun",
    "PlanCheck",
    "PlanFacts",
    "PlanGoal",
    "PlanLimit",
    "PlanOrder",
    "PlanRun",
    "TemplateFacts",
    "Verdict",
    "VerdictLine",
]


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
        reference: of a segmentation, the volume that it was drawn on.
        study: of the subject hierarchy that it lies in.
        bounds: lowest and highest R, A, S in mm; empty when unknown.
        is_background: whether the slice views show it just now.
        beams: of a CT, how the beams of its plan stand, as JSON; empty when unknown.
        organs_of: of a segmentation that organs can be taken from, who made it; empty: of another.
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
    reference: str = ""
    study: str = ""
    bounds: tuple[float, ...] = ()
    is_background: bool = False
    beams: str = ""
    organs_of: str = ""

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
        beams: its own arrangement as JSON; empty when it knows nothing of beams.
        wishes: organs and the dose of the V_d that may be limited; none: it takes no wishes.
        draws_samples: whether it has the heads that draw doses about its own.
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
    beams: str = ""
    wishes: tuple[tuple[str, float], ...] = ()
    draws_samples: bool = False


@dataclass(frozen=True)
class BeamMarks:
    """Beams over the axial slices of a CT; as `DosePredictionLib.scene.mark_beams` takes them."""

    ct: str
    segmentation: str
    targets: tuple[str, ...]
    directions: tuple[tuple[float, float], ...]
    isocenter_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class OrganModelFacts:
    """An installed model that finds the organs of a protocol."""

    name: str
    title: str
    protocol: str
    is_default: bool = False


@dataclass(frozen=True)
class OrganOrder:
    """What to find organs for.

    Args:
        ct, segmentation: ids of the nodes.
        model: that finds them; empty: they are taken from `source`.
        channels: of the organs to be added; empty: what the drawn ones cost is asked.
        mapping: channel → segment's name where the matching is overruled.
        dose: that is read on drawn and found organs; empty: organs are to be added.
        device, precision: as the worker takes them.
        source: segmentation that has them.
        protocol: id, of the channels.
    """

    ct: str
    segmentation: str
    model: str
    channels: tuple[str, ...] = ()
    mapping: tuple[tuple[str, str | None], ...] = ()
    dose: str = ""
    device: str = "auto"
    precision: str = "auto"
    source: str = ""
    protocol: str = ""


@dataclass(frozen=True)
class OrganRun:
    """Organs on their way; a share below 0 is unknown."""

    token: int
    order: OrganOrder
    share: float = -1.0
    stage: str = ""
    is_cancelling: bool = False


@dataclass(frozen=True)
class PlanCheck:
    """Whether a plan could give a dose.

    Args:
        run: of the result.
        beams: choice of beams that it was asked of.
        text, severity: the answer; empty while it is awaited.
    """

    token: int
    run: str
    beams: str
    text: str = ""
    severity: str = ""


@dataclass(frozen=True)
class VerdictLine:
    """A goal that is not met, in words; `row`: of the goals' table."""

    text: str
    status: str
    row: int


@dataclass(frozen=True)
class Verdict:
    """How many of the goals that can be evaluated are met, and those that are not, worst first."""

    met: int = 0
    count: int = 0
    lines: tuple[VerdictLine, ...] = ()


@dataclass(frozen=True)
class PlanGoal:
    """A goal of the template as a plan keeps it; `text` with its structure, as plans are asked."""

    text: str
    value: str
    status: str


@dataclass(frozen=True)
class PlanLimit:
    """A limit of the machine in words: its worst value, what is allowed, where, and the source."""

    label: str
    value: str
    allowed: str
    place: str
    passed: bool


@dataclass(frozen=True)
class PlanFacts:
    """A plan that a machine could deliver.

    Args:
        of: run of the prediction that it was made for.
        lines: on it, for people.
        goals: of the template, as far as they can be judged.
        limits: worst first.
        asked: what it was asked for beside the dose, in words.
    """

    of: str
    lines: tuple[str, ...] = ()
    goals: tuple[PlanGoal, ...] = ()
    limits: tuple[PlanLimit, ...] = ()
    asked: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlanOrder:
    """What to plan.

    Args:
        dose: of the prediction's result.
        run: of that result.
        beams: arrangement as JSON; empty: the prediction's own, else twenty.
        wishes: goals with their structures, and by how much they count.
        goals: template.
        label: what tells the result from others of its case.
    """

    dose: str
    run: str
    beams: str = ""
    wishes: tuple[tuple[str, float], ...] = ()
    goals: str = ""
    label: str = ""


@dataclass(frozen=True)
class PlanRun:
    """A plan on its way, or, without an order, the planner being installed; as `OrganRun`."""

    token: int
    order: PlanOrder | None = None
    share: float = -1.0
    stage: str = ""
    is_cancelling: bool = False


@dataclass(frozen=True)
class Making:
    """Plans that a machine could deliver.

    Args:
        run: what is under way.
        priorities: goal with its structure → 0 (not asked for) to 4.
        is_absent: whether the planner was found missing.
        pictures: run of a plan → file with its beams, of this session.
    """

    run: PlanRun | None = None
    priorities: tuple[tuple[str, int], ...] = ()
    is_absent: bool = False
    pictures: tuple[tuple[str, str], ...] = ()


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
class Installation:
    """What is missing, in words (empty: nothing), the report, and the devices (id → text)."""

    missing: str = ""
    report: str = ""
    devices: Mapping[str, str] = field(default_factory=dict)
