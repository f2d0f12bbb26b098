"""Which nodes a run made: tags, entering the scene, updating in place, removing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import slicer

from ..errors import CaseError

__all__ = [
    "DERIVED_FROM",
    "LATEST",
    "RUN",
    "Draft",
    "batch",
    "enter_scene",
    "inputs_of",
    "plan_of",
    "refer_to_inputs",
    "remember",
    "remembered",
    "remove_nodes",
    "result_nodes",
    "result_runs",
    "run_of_inputs",
    "sweep_orphans",
]

LATEST = "latest"
"""The run to update: the latest of the same CT and segmentation."""

DERIVED_FROM = "DosePrediction.DerivedFrom"
"""What a node that is filled when a result is shown was made from: levels, or another run."""
RUN = "DosePrediction.Run"
ROLE = "DosePrediction.Role"
_RESTORE = "DosePrediction.Restore"
_CT, _SEGMENTATION, _PLAN = "ctRef", "segmentationRef", "planDoseRef"
_LEGEND = "vtkMRMLColorLegendDisplayNode"


@dataclass(frozen=True)
class Draft:
    """A node to be made or updated when a result enters the scene.

    Args:
        role: unique within a run.
        kind: class of the node.
        name: of a new node.
        fill: called with the node and the nodes so far by role; only cheap assignments.
    """

    role: str
    kind: str
    name: str
    fill: Callable[[Any, Mapping[str, Any]], None]


def enter_scene(
    scene: Any,
    drafts: Sequence[Draft],
    run: str,
    existing: Mapping[str, Any],
    beside: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make the nodes of a run; those of an earlier run are updated in place.

    Args:
        existing: role → node of the run that is replaced; what has no draft is removed.
        beside: the run's other nodes, which drafts may refer to; they stay as they are.

    Returns:
        Role → node. When a draft fails, the nodes made so far leave the scene again.
    """
    nodes: dict[str, Any] = {}
    made: list[Any] = []
    try:
        for draft in drafts:
            node = existing.get(draft.role)
            if node is None:
                node = scene.AddNewNodeByClass(draft.kind, draft.name)
                if node is None:
                    raise CaseError(f"This Slicer knows no nodes of class {draft.kind}.")
                made.append(node)
            nodes[draft.role] = node
            was_modifying = node.StartModify()  # observers hear of it once
            try:
                node.SetAttribute(RUN, run)
                node.SetAttribute(ROLE, draft.role)
                draft.fill(node, nodes if beside is None else {**beside, **nodes})
            finally:
                node.EndModify(was_modifying)
    except BaseException:
        remove_nodes(scene, made)
        raise
    remove_nodes(scene, [node for role, node in existing.items() if role not in nodes])
    return nodes


@contextmanager
def batch(scene: Any) -> Iterator[None]:
    """Changes that views and trees take up together at the end."""
    scene.StartState(slicer.vtkMRMLScene.BatchProcessState)
    try:
        yield
    finally:
        scene.EndState(slicer.vtkMRMLScene.BatchProcessState)


def remove_nodes(scene: Any, nodes: Sequence[Any]) -> None:
    """Remove nodes with their display and storage nodes and their items in the hierarchy."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    # A legend whose colors are gone reports an error for every view until it goes, too.
    for node in sorted(nodes, key=lambda node: not node.IsA(_LEGEND)):
        own = [node]
        if node.IsA("vtkMRMLDisplayableNode"):
            count = node.GetNumberOfDisplayNodes()
            own += [node.GetNthDisplayNode(index) for index in range(count)]
        if node.IsA("vtkMRMLStorableNode"):
            count = node.GetNumberOfStorageNodes()
            own += [node.GetNthStorageNode(index) for index in range(count)]
        item = hierarchy.GetItemByDataNode(node)
        if item:
            # The window's hierarchy does so by itself; without a window nobody would.
            hierarchy.RemoveItem(item, False, False)
        for each in own:
            if each is not None and each.GetScene() is not None:
                scene.RemoveNode(each)


def result_runs() -> list[str]:
    """Ids of the runs whose nodes are in the scene, the oldest first."""
    return sorted({str(node.GetAttribute(RUN)) for node in _tagged(slicer.mrmlScene)})


def result_nodes(run: str) -> dict[str, Any]:
    """Role → node of a run, also after the scene was saved and loaded."""
    return {
        str(node.GetAttribute(ROLE)): node
        for node in _tagged(slicer.mrmlScene)
        if node.GetAttribute(RUN) == run
    }


def run_of_inputs(scene: Any, ct: Any, segmentation: Any) -> str | None:
    """The latest run of a CT and a segmentation; None if there is none."""
    runs = [
        str(node.GetAttribute(RUN))
        for node in _tagged(scene)
        if node.GetAttribute(ROLE) == "dose"
        and node.GetNodeReference(_CT) is ct
        and node.GetNodeReference(_SEGMENTATION) is segmentation
    ]
    return max(runs, default=None)


def sweep_orphans(scene: Any) -> list[str]:
    """Remove what is left of runs whose dose was deleted by another hand; ids of those runs."""
    tagged = _tagged(scene)
    runs = {str(node.GetAttribute(RUN)) for node in tagged}
    whole = {str(node.GetAttribute(RUN)) for node in tagged if node.GetAttribute(ROLE) == "dose"}
    left = runs - whole
    if left:
        with batch(scene):
            remove_nodes(scene, [node for node in tagged if node.GetAttribute(RUN) in left])
    return sorted(left)


def refer_to_inputs(dose: Any, ct: Any, segmentation: Any, plan: Any = None) -> None:
    """Note on the dose what it was predicted from, and the plan that it was compared with."""
    dose.SetNodeReferenceID(_CT, ct.GetID())
    dose.SetNodeReferenceID(_SEGMENTATION, segmentation.GetID())
    dose.SetNodeReferenceID(_PLAN, plan.GetID() if plan is not None else None)


def plan_of(dose: Any) -> Any:
    """The plan's dose that a dose was compared with; None without one, or where it has gone."""
    return dose.GetNodeReference(_PLAN)


def inputs_of(dose: Any) -> tuple[Any, Any]:
    """The CT and the segmentation that a dose was predicted from; None where it has gone."""
    return dose.GetNodeReference(_CT), dose.GetNodeReference(_SEGMENTATION)


def remember(dose: Any, what: str, value: Any) -> None:
    """Note on the dose how something of the user's was before it was changed; the first counts."""
    known = remembered(dose)
    if what not in known:
        dose.SetAttribute(_RESTORE, json.dumps({**known, what: value}))


def remembered(dose: Any) -> dict[str, Any]:
    """What `remember` noted."""
    return dict(json.loads(dose.GetAttribute(_RESTORE) or "{}"))


def _tagged(scene: Any) -> list[Any]:
    nodes = (scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes()))
    return [node for node in nodes if node.GetAttribute(RUN)]
