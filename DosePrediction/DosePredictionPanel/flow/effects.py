"""What the reducer asks for: plain data, carried out by an executor with process, scene, clock."""

from __future__ import annotations

from dataclasses import dataclass

from .facts import BeamMarks, OrganOrder
from .state import Display, ExportKind, Levels, PredictionOrder

__all__ = [
    "AbortPrediction",
    "ApplyDisplay",
    "AskForBeams",
    "AskForGoals",
    "AskForPath",
    "CancelOrgans",
    "CancelPrediction",
    "CheckDeliverability",
    "CheckInputs",
    "CheckInstallation",
    "ClearMarks",
    "CompareInputs",
    "DropParameters",
    "Effect",
    "FindOrgans",
    "ForgetResult",
    "ForgetScene",
    "HideResult",
    "Highlight",
    "Install",
    "JudgeGoals",
    "JumpTo",
    "JumpToWorst",
    "ListModels",
    "ListNodes",
    "LookAtSegments",
    "MarkBeams",
    "Match",
    "ObserveSegmentation",
    "OpenFile",
    "ReadInputs",
    "RecallLevels",
    "RememberCorrections",
    "RememberLevels",
    "RemoveResult",
    "ShowCt",
    "ShowLayout",
    "ShowResult",
    "ShowStructures",
    "StartPrediction",
    "StartProbing",
    "StartTimer",
    "StopProbing",
    "StopReading",
    "StopShowing",
    "StopTimer",
    "StopWorker",
    "SweepOrphans",
    "SwitchContours",
    "Tabulate",
    "TakeParameters",
    "WriteChoices",
    "WriteExport",
]


class Effect:
    """Base of all effects."""


# --- Clock and parameters -----------------------------------------------------------------------


@dataclass(frozen=True)
class StartTimer(Effect):
    """`TimerFired` after a rest; from anew if it runs already."""

    name: str
    milliseconds: int


@dataclass(frozen=True)
class StopTimer(Effect):
    """The timer is not needed any more."""

    name: str


@dataclass(frozen=True)
class TakeParameters(Effect):
    """Use the scene's parameters: `NodesListed`, `ResultsRestored`, then `ParametersTaken`."""


@dataclass(frozen=True)
class DropParameters(Effect):
    """Let go of the scene's parameters: it is being closed."""


@dataclass(frozen=True)
class WriteChoices(Effect):
    """Put choices into the parameters, by their names in `Choices`; all at once."""

    changes: tuple[tuple[str, object], ...]


# --- Installation -------------------------------------------------------------------------------


@dataclass(frozen=True)
class ListModels(Effect):
    """`ModelsListed`."""


@dataclass(frozen=True)
class CheckInstallation(Effect):
    """`InstallationChecked`, later `InstallationReported`."""


@dataclass(frozen=True)
class Install(Effect):
    """Install what is missing."""


@dataclass(frozen=True)
class StopWorker(Effect):
    """End the worker; the next request starts another."""


# --- Inputs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ListNodes(Effect):
    """`NodesListed`."""


@dataclass(frozen=True)
class ObserveSegmentation(Effect):
    """Tell of edits of this segmentation, and of no other; empty: of none."""

    segmentation: str


@dataclass(frozen=True)
class LookAtSegments(Effect):
    """`SegmentsSeen`.

    Args:
        keep_model: whether the chosen model stays though another protocol's fits better.
        recall: whether corrections of a case with the same names come back.
    """

    segmentation: str
    keep_model: bool = False
    recall: bool = False


@dataclass(frozen=True)
class Match(Effect):
    """`Matched`.

    Args:
        recall: whether what was corrected for a case with the same names comes back, in place of
            `corrections`.
    """

    ct: str
    segmentation: str
    plan_dose: str
    protocol: str
    corrections: tuple[tuple[str, str], ...]
    recall: bool = False


@dataclass(frozen=True)
class RememberCorrections(Effect):
    """Keep the corrections for the next case with these names; none: forget them."""

    protocol: str
    names: tuple[str, ...]
    corrections: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ReadInputs(Effect):
    """`ReadStep`s, then `InputsRead` or `ReadFailed`."""

    token: int
    ct: str
    segmentation: str
    plan_dose: str


@dataclass(frozen=True)
class StopReading(Effect):
    """Give up reading; an answer to a check is of no interest any more."""


@dataclass(frozen=True)
class CheckInputs(Effect):
    """`Checked` or `ReadFailed`; the inputs have been read.

    What a segment lost to another one since `order.before` is a finding, too.
    """

    token: int
    order: PredictionOrder


@dataclass(frozen=True)
class CompareInputs(Effect):
    """`Compared`."""

    dose: str
    ct: str
    segmentation: str
    plan_dose: str


# --- Prediction ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class StartPrediction(Effect):
    """`RunProgress`, then `RunFinished` or `RunFailed`."""

    token: int
    order: PredictionOrder


@dataclass(frozen=True)
class CancelPrediction(Effect):
    """Stop; `RunFailed` follows when the worker obeys."""

    token: int


@dataclass(frozen=True)
class AbortPrediction(Effect):
    """Stop without waiting, because an input went away; nothing follows."""

    token: int


# --- Results ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShowResult(Effect):
    """Put a result on the slices, step by step: `Displayed` or `DisplayFailed`.

    Args:
        layout: whether the views are arranged for it; else its chart alone is shown.
        center: whether the slices move to its target.
    """

    token: int
    dose: str
    display: Display
    layout: bool = False
    center: bool = False


@dataclass(frozen=True)
class ApplyDisplay(Effect):
    """Show a result otherwise, at once: `Displayed` or `DisplayFailed`."""

    token: int
    dose: str
    display: Display


@dataclass(frozen=True)
class StopShowing(Effect):
    """Show no more of what is being shown."""


@dataclass(frozen=True)
class HideResult(Effect):
    """Take a result off the slices and its chart off the plots.

    Args:
        keeps_comparison: whether it stays compared, as for the time that another patient is shown.
    """

    dose: str
    keeps_comparison: bool = False


@dataclass(frozen=True)
class ShowCt(Effect):
    """Put a CT on the slices, and center them on it."""

    ct: str


@dataclass(frozen=True)
class SwitchContours(Effect):
    """Show the contours of the chosen case, and not those of the one before; by segmentation."""

    hidden: str
    shown: str


@dataclass(frozen=True)
class ShowLayout(Effect):
    """Slices and DVH together."""

    dose: str


@dataclass(frozen=True)
class JumpTo(Effect):
    """Center the slices on a place of a CT, LPS mm."""

    position_mm: tuple[float, float, float]
    ct: str


@dataclass(frozen=True)
class JudgeGoals(Effect):
    """`Tabulated`, held against another template."""

    dose: str
    goals: str
    other: str = ""


@dataclass(frozen=True)
class Tabulate(Effect):
    """`Tabulated`, beside another result."""

    dose: str
    goals: str
    other: str = ""


@dataclass(frozen=True)
class JumpToWorst(Effect):
    """Move the slices to the voxel with a structure's highest or lowest dose: `PlaceFound`.

    Args:
        structure: key of the result; empty: the whole dose.
        sense: `hot` or `cold`; empty: cold for a target, hot for others.
        mark: whether a mark is left there.
    """

    dose: str
    structure: str
    sense: str
    mark: bool


@dataclass(frozen=True)
class MarkBeams(Effect):
    """Draw beams over the axial slices in place of those before; None: none."""

    marks: BeamMarks | None


@dataclass(frozen=True)
class ClearMarks(Effect):
    """Remove the marks of a result."""

    dose: str


@dataclass(frozen=True)
class StartProbing(Effect):
    """`Probed` as the mouse moves over the slices."""

    dose: str


@dataclass(frozen=True)
class StopProbing(Effect):
    """Look no more at what lies under the mouse."""


@dataclass(frozen=True)
class ShowStructures(Effect):
    """Show all structures of a result but some, in slices, 3D and DVH, with or without bands."""

    dose: str
    hidden: frozenset[str]
    bands: bool = True


@dataclass(frozen=True)
class Highlight(Effect):
    """Let one structure stand out; empty: none."""

    dose: str
    structure: str


@dataclass(frozen=True)
class RecallLevels(Effect):
    """`LevelsRecalled`."""


@dataclass(frozen=True)
class RememberLevels(Effect):
    """Keep isodose levels for this person; None: the default ones."""

    levels: Levels | None


@dataclass(frozen=True)
class SweepOrphans(Effect):
    """Remove what is left of results whose dose was deleted."""


@dataclass(frozen=True)
class RemoveResult(Effect):
    """Delete exactly the nodes that a run made."""

    dose: str


@dataclass(frozen=True)
class ForgetResult(Effect):
    """Forget a result whose dose has gone; nodes are not touched."""

    dose: str


@dataclass(frozen=True)
class ForgetScene(Effect):
    """The scene was closed: no node is left that a result could belong to."""


# --- Organs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FindOrgans(Effect):
    """`OrgansProgress`, then `OrgansAdded`, `CostsFound` or `OrgansFailed`."""

    token: int
    order: OrganOrder


@dataclass(frozen=True)
class CancelOrgans(Effect):
    """Stop finding organs: `OrgansFailed`."""

    token: int


@dataclass(frozen=True)
class CheckDeliverability(Effect):
    """`DeliverabilityChecked`; beams as JSON, empty for the prediction's or the protocol's."""

    token: int
    dose: str
    beams: str


# --- Files --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AskForGoals(Effect):
    """`GoalsFileChosen`."""


@dataclass(frozen=True)
class AskForBeams(Effect):
    """An RTPLAN for a CT: `PlanBeamsRead`."""

    ct: str


@dataclass(frozen=True)
class AskForPath(Effect):
    """`PathChosen`."""

    kind: ExportKind


@dataclass(frozen=True)
class WriteExport(Effect):
    """`ExportEnded`."""

    kind: ExportKind
    dose: str
    path: str


@dataclass(frozen=True)
class OpenFile(Effect):
    """Open a file with the program that the system has for it."""

    path: str
