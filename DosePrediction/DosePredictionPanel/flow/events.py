"""What can happen to the panel. Events carry plain values; nodes by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .facts import OrganModelFacts
from .state import (
    Choices,
    Display,
    ExportKind,
    Levels,
    Matching,
    ModelFacts,
    NodeFacts,
    Prepared,
    ResultState,
    TemplateFacts,
    Verdict,
)

if TYPE_CHECKING:
    from DosePredictionLib.findings import Finding

    from ..result_tables import Table

__all__ = [
    "ApplyPressed",
    "BeamsTyped",
    "CancelPressed",
    "CheckInstallationPressed",
    "Checked",
    "ChoicesChanged",
    "Compared",
    "CorrectionChosen",
    "CostPressed",
    "CostsFound",
    "DeliverabilityChecked",
    "DeliverablePressed",
    "DisplayFailed",
    "Displayed",
    "EffectFailed",
    "Entered",
    "Event",
    "Exited",
    "ExportEnded",
    "ExportPressed",
    "FillPressed",
    "FindingClicked",
    "GoalsFileChosen",
    "InputsRead",
    "InstallPressed",
    "InstallationChecked",
    "InstallationReported",
    "Installed",
    "LayoutPressed",
    "LevelsRecalled",
    "LevelsTyped",
    "MatchAgainPressed",
    "Matched",
    "ModelsListed",
    "NextFindingPressed",
    "NodeAdded",
    "NodeRemoved",
    "NodeRemoving",
    "NodesListed",
    "OrganSourceChosen",
    "OrgansAdded",
    "OrgansCancelPressed",
    "OrgansFailed",
    "OrgansProgress",
    "OtherChosen",
    "PanelClosed",
    "ParametersTaken",
    "PathChosen",
    "PlaceAsked",
    "PlaceFound",
    "PlanBeamsPressed",
    "PlanBeamsRead",
    "Probed",
    "ReadFailed",
    "ReadStep",
    "RemovePressed",
    "ResultChosen",
    "ResultsRestored",
    "RunFailed",
    "RunFinished",
    "RunProgress",
    "SceneClosed",
    "SceneClosing",
    "SceneLoaded",
    "SegmentsEdited",
    "SegmentsSeen",
    "Started",
    "StructureHovered",
    "StructureToggled",
    "TabChosen",
    "Tabulated",
    "TimerFired",
    "WishSet",
    "WishesTyped",
]


class Event:
    """Base of all events."""


# --- The person ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChoicesChanged(Event):
    """The parameters are different now: by a widget, the console, or a selector of its own."""

    choices: Choices


@dataclass(frozen=True)
class CorrectionChosen(Event):
    """A segment was chosen for a channel; None leaves it empty."""

    channel: str
    segment: str | None


@dataclass(frozen=True)
class MatchAgainPressed(Event):
    """The corrections of this case are to be forgotten."""


@dataclass(frozen=True)
class FindingClicked(Event):
    """The place of a finding is to be shown, LPS mm."""

    position_mm: tuple[float, float, float]


@dataclass(frozen=True)
class ApplyPressed(Event):
    """The button was pressed, at this time of the clock, seconds."""

    at_s: float


@dataclass(frozen=True)
class CancelPressed(Event):
    """The prediction under way is to stop."""


@dataclass(frozen=True)
class NextFindingPressed(Event):
    """The next finding that has a place is to be shown."""


@dataclass(frozen=True)
class ResultChosen(Event):
    """Another result of the case is to be shown, by its dose."""

    dose: str


@dataclass(frozen=True)
class OtherChosen(Event):
    """The shown result is to be compared with another one, by its dose; empty: with none."""

    dose: str


@dataclass(frozen=True)
class PlaceAsked(Event):
    """The voxel that decides a metric is to be shown.

    Args:
        structure: key of the result; empty: the whole dose.
        sense: `hot` or `cold`; empty: as the structure's role asks for.
    """

    structure: str = ""
    sense: str = ""


@dataclass(frozen=True)
class StructureToggled(Event):
    """A structure of the shown result is to be shown, or not."""

    structure: str
    is_shown: bool


@dataclass(frozen=True)
class StructureHovered(Event):
    """The mouse is over a row of this structure; empty: of none any more."""

    structure: str


@dataclass(frozen=True)
class LevelsTyped(Event):
    """Isodose levels as text; empty: the default ones."""

    text: str


@dataclass(frozen=True)
class TabChosen(Event):
    """A table was brought to the front."""

    tab: str


@dataclass(frozen=True)
class LayoutPressed(Event):
    """Slices and DVH are to be shown together."""


@dataclass(frozen=True)
class RemovePressed(Event):
    """The shown result is to be removed."""


@dataclass(frozen=True)
class ExportPressed(Event):
    """Something of the shown result is to be written."""

    kind: ExportKind


@dataclass(frozen=True)
class PathChosen(Event):
    """Where to write it; empty: nowhere."""

    kind: ExportKind
    path: str


@dataclass(frozen=True)
class GoalsFileChosen(Event):
    """A file of goals; empty: none was chosen."""

    path: str


@dataclass(frozen=True)
class BeamsTyped(Event):
    """Gantry angles as the person typed them, or the name of an arrangement."""

    text: str


@dataclass(frozen=True)
class PlanBeamsPressed(Event):
    """The beams of an RTPLAN are to be read from a file."""


@dataclass(frozen=True)
class PlanBeamsRead(Event):
    """An RTPLAN was read for a CT: its beams, as JSON."""

    ct: str
    beams: str


@dataclass(frozen=True)
class OrganSourceChosen(Event):
    """Where organs come from: the id of a segmentation; empty: the model finds them."""

    source: str


@dataclass(frozen=True)
class WishSet(Event):
    """So much of an organ may get a dose; 100 %: nothing is wished of it."""

    organ: str
    dose_gy: float
    percent: float


@dataclass(frozen=True)
class WishesTyped(Event):
    """Goals as the person typed them, separated by semicolons."""

    text: str


@dataclass(frozen=True)
class FillPressed(Event):
    """Organs that nobody contoured are to be found."""


@dataclass(frozen=True)
class CostPressed(Event):
    """What the drawn contours cost in dose beside found ones is asked."""


@dataclass(frozen=True)
class OrgansCancelPressed(Event):
    """Finding organs is to stop."""


@dataclass(frozen=True)
class DeliverablePressed(Event):
    """Whether any plan could give the shown dose is asked."""


@dataclass(frozen=True)
class InstallPressed(Event):
    """What is missing is to be installed."""


@dataclass(frozen=True)
class CheckInstallationPressed(Event):
    """The installation is to be looked at."""


@dataclass(frozen=True)
class Started(Event):
    """The panel has been built."""


@dataclass(frozen=True)
class PanelClosed(Event):
    """The panel goes away."""


@dataclass(frozen=True)
class Entered(Event):
    """The module is opened."""


@dataclass(frozen=True)
class Exited(Event):
    """Another module is opened."""


# --- The scene ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ParametersTaken(Event):
    """A scene's parameters are there to choose from."""

    choices: Choices


@dataclass(frozen=True)
class NodesListed(Event):
    """Everything in the scene that the selectors may offer, and the nodes of the results.

    Args:
        came: whether nodes were added just now, one by one, and not with a scene.
    """

    nodes: tuple[NodeFacts, ...]
    came: bool = False


@dataclass(frozen=True)
class NodeAdded(Event):
    """A volume or a segmentation came; what it is will be said by `NodesListed`."""


@dataclass(frozen=True)
class NodeRemoving(Event):
    """A node is about to leave the scene."""

    id: str
    name: str


@dataclass(frozen=True)
class NodeRemoved(Event):
    """A node has left the scene."""

    id: str


@dataclass(frozen=True)
class SegmentsEdited(Event):
    """The chosen segmentation was changed."""


@dataclass(frozen=True)
class SceneClosing(Event):
    """The scene is about to be closed."""


@dataclass(frozen=True)
class SceneClosed(Event):
    """The scene is empty."""


@dataclass(frozen=True)
class SceneLoaded(Event):
    """A scene was loaded or imported; `ParametersTaken` and `NodesListed` went before."""


@dataclass(frozen=True)
class TimerFired(Event):
    """A timer that an effect started has run out."""

    name: str


# --- Answers of the executor --------------------------------------------------------------------


@dataclass(frozen=True)
class ModelsListed(Event):
    """What is installed; `problem`: what hindered reading it.

    Args:
        organ_models: those that find organs.
        organ_sources: other extensions of this Slicer that find organs.
    """

    models: tuple[ModelFacts, ...]
    templates: tuple[TemplateFacts, ...] = ()
    problem: str = ""
    organ_models: tuple[OrganModelFacts, ...] = ()
    organ_sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Installed(Event):
    """The installation has ended, well or not."""


@dataclass(frozen=True)
class InstallationChecked(Event):
    """What is missing, in words; empty: nothing."""

    missing: str


@dataclass(frozen=True)
class InstallationReported(Event):
    """The report on the installation, and the devices that it found."""

    report: str
    devices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SegmentsSeen(Event):
    """The protocol that the segments fit; empty when none does.

    Args:
        keep_model, recall: as in the effect that it answers.
    """

    segmentation: str
    protocol: str
    keep_model: bool = False
    recall: bool = False


@dataclass(frozen=True)
class Matched(Event):
    """Segments to channels; `corrections`: those that it was matched with."""

    matching: Matching
    corrections: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ReadStep(Event):
    """What is being read."""

    token: int
    stage: str


@dataclass(frozen=True)
class InputsRead(Event):
    """The inputs were read."""

    token: int
    prepared: Prepared


@dataclass(frozen=True)
class Checked(Event):
    """The preflight's findings."""

    token: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class ReadFailed(Event):
    """The inputs cannot be read or checked, and why; details to copy."""

    token: int
    message: str
    details: str = ""


@dataclass(frozen=True)
class Compared(Event):
    """Inputs that differ from those of a result.

    Args:
        names: of segments, or of other inputs ("CT").
        structures: all segments' names; of those, only what fills a channel counts.
    """

    dose: str
    names: tuple[str, ...]
    structures: tuple[str, ...]


@dataclass(frozen=True)
class RunProgress(Event):
    """How far the prediction is."""

    token: int
    share: float
    stage: str


@dataclass(frozen=True)
class RunFinished(Event):
    """The prediction is complete, its nodes are in the scene.

    Args:
        run, dose, name: of the result.
        ranges: unit → first and last isodose level.
        verdict: on its goals.
        outputs: role and label of its further volumes.
        bands, has_bands, findings: as in `ResultState`.
    """

    token: int
    run: str
    dose: str
    name: str
    summary: str = ""
    tables: Mapping[str, Table] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    verdict: Verdict = field(default_factory=Verdict)
    outputs: tuple[tuple[str, str], ...] = ()
    bands: str = ""
    has_bands: bool = False
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class RunFailed(Event):
    """The prediction ended without a result.

    Args:
        message: cause and remedy.
        details: to copy.
        cancelled: whether it was asked to stop.
    """

    token: int
    message: str
    details: str = ""
    cancelled: bool = False


@dataclass(frozen=True)
class OrgansProgress(Event):
    """How far finding organs is."""

    token: int
    share: float
    stage: str


@dataclass(frozen=True)
class OrgansAdded(Event):
    """A segmentation with the user's and the found organs is in the scene.

    Args:
        names: of the found ones.
        notes: what is to be said of them, in sentences.
    """

    token: int
    segmentation: str
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CostsFound(Event):
    """What the drawn contours cost."""

    token: int
    table: Table


@dataclass(frozen=True)
class OrgansFailed(Event):
    """Finding organs ended without any; as in `RunFailed`."""

    token: int
    message: str
    details: str = ""
    cancelled: bool = False


@dataclass(frozen=True)
class DeliverabilityChecked(Event):
    """How near a plan could come to a dose, and a finding's severity; or why that is not known,
    with details to copy."""

    token: int
    text: str
    severity: str = ""
    error: str = ""
    details: str = ""


@dataclass(frozen=True)
class Displayed(Event):
    """A result lies over the CT as asked."""

    token: int
    display: Display


@dataclass(frozen=True)
class DisplayFailed(Event):
    """What was asked for cannot be shown.

    Args:
        is_expected: there is no such layer; the sentence says so.
    """

    token: int
    message: str
    is_expected: bool = True


@dataclass(frozen=True)
class Tabulated(Event):
    """A result's tables, held against a template, and beside another result.

    Args:
        other: dose of that one; empty: beside none.
    """

    dose: str
    goals: str
    tables: Mapping[str, Table]
    verdict: Verdict = field(default_factory=Verdict)
    other: str = ""


@dataclass(frozen=True)
class ResultsRestored(Event):
    """Results that came with the scene, their numbers with them."""

    results: tuple[ResultState, ...]


@dataclass(frozen=True)
class PlaceFound(Event):
    """What lies at the place that was asked for, in words."""

    text: str


@dataclass(frozen=True)
class Probed(Event):
    """What lies under the mouse, in words; empty: no dose."""

    text: str


@dataclass(frozen=True)
class LevelsRecalled(Event):
    """The person's own isodose levels."""

    levels: Levels | None


@dataclass(frozen=True)
class ExportEnded(Event):
    """Something was written, or not: then `error` says why, with details to copy; `warning` is for
    what was."""

    kind: ExportKind
    path: str
    error: str = ""
    warning: str = ""
    details: str = ""


@dataclass(frozen=True)
class EffectFailed(Event):
    """An effect could not be carried out: a sentence, and details to copy."""

    message: str
    details: str = ""
