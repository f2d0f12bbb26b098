"""A prediction → nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..evaluation.dvh import Dvh
from ..evaluation.goals import GoalSet
from ..mapping import StructureMapping
from ..prediction import Prediction
from ..protocol import StructureProtocol
from ..volume import Volume
from .reading import SceneCase, SegmentInfo
from .steps import Steps, finish

__all__ = [
    "SceneResult",
    "add_result",
    "remove_result",
    "result_nodes",
    "result_runs",
    "result_steps",
    "set_goals",
]


@dataclass(frozen=True, eq=False)
class SceneResult:
    """A prediction's nodes and numbers. Keeps no voxels but those in the nodes.

    Args:
        run: id of the run, on every node as the attribute `DosePrediction.Run`.
        nodes: role (attribute `DosePrediction.Role`) → node: `dose`, `plan` (the user's own node),
            `difference`, `coarse`, `spread`, `gamma`, `change`, `strips`, `metrics`, `goals`,
            `scores`, `change-metrics`, `change-goals`, `chart`, `isodoses`, `colors` …
        name: of the case.
        protocol, mapping: of the model and the run.
        segments: by the structure's key in `predicted`; a channel's name, or the segment's own.
        predicted: DVHs by key, in display order.
        planned: those of the plan dose; None without one.
        prescriptions_gy: target's key → Gy.
        body: DVHs (predicted, planned) of the external contour, for indices.
        goals, planned_goals: as `evaluate_goals` returns them; None without a template.
        evaluation: as `evaluate_case` returns it; None without a plan dose.
    """

    run: str
    nodes: Mapping[str, Any]
    name: str
    protocol: StructureProtocol
    mapping: StructureMapping
    segments: Mapping[str, SegmentInfo]
    predicted: Mapping[str, Dvh]
    planned: Mapping[str, Dvh] | None
    prescriptions_gy: Mapping[str, float]
    body: tuple[Dvh, Dvh | None]
    goals: Sequence[Mapping[str, Any]] | None
    planned_goals: Sequence[Mapping[str, Any]] | None
    evaluation: Mapping[str, Any] | None


def result_steps(
    prediction: Prediction,
    source: SceneCase,
    *,
    goals: GoalSet | None = None,
    before: SceneResult | None = None,
    spread: Volume | None = None,
    gamma: Volume | None = None,
) -> Steps[SceneResult]:
    """Measure a prediction and put it into the scene; the generator returns a `SceneResult`.

    Nodes are prepared outside the scene and enter it in one batch in the last step; until then, or
    when the generator is closed, the scene is untouched. An earlier result of the same CT and
    segmentation is updated in place.

    Args:
        prediction: its case need not be `source.case` itself but lies on the same grid.
        source: what was read.
        goals: a template, evaluated for prediction and plan.
        before: the result before the contours were changed: adds `change`, `change-metrics` and
            `change-goals` (new − old).
        spread: standard deviation of the prediction, Gy.
        gamma: gamma index of the prediction against the plan.

    Raises:
        CaseError: the CT or the segmentation has left the scene.
    """
    raise NotImplementedError
    yield


def add_result(
    prediction: Prediction,
    source: SceneCase,
    *,
    goals: GoalSet | None = None,
    before: SceneResult | None = None,
    spread: Volume | None = None,
    gamma: Volume | None = None,
) -> SceneResult:
    """Put a prediction into the scene at once; see `result_steps`."""
    return finish(
        result_steps(prediction, source, goals=goals, before=before, spread=spread, gamma=gamma)
    )


def set_goals(result: SceneResult, goals: GoalSet | None) -> SceneResult:
    """Hold a result against another template, from the DVHs at hand; None removes the goals."""
    raise NotImplementedError


def result_runs() -> list[str]:
    """Ids of the runs whose nodes are in the scene, the oldest first."""
    raise NotImplementedError


def result_nodes(run: str) -> dict[str, Any]:
    """Role → node of a run, also after the scene was saved and loaded."""
    raise NotImplementedError


def remove_result(run: str) -> None:
    """Remove exactly the nodes that a run made; what else it changed (2D fill) goes back."""
    raise NotImplementedError
