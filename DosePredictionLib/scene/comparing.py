"""Two results of one CT against each other: difference of the doses, DVHs of both, what changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import CaseError
from .geometry import array_of_image, index_to_ras
from .hierarchy import place_below
from .images import Appearance, Placement, empty_image, filled_in_slabs, volume_drafts
from .results import SceneResult, title_of
from .runs import DERIVED_FROM, batch, enter_scene, remove_nodes, result_nodes
from .steps import Step, Steps
from .tables import change_drafts, other_series_drafts

__all__ = [
    "compare_steps",
    "compared_run",
    "end_comparison",
    "is_of_comparison",
    "share_a_grid",
]

_ROLES = ("change-legend", "change", "change-display", "change-metrics", "change-goals")
_SERIES = "series-other:"


def is_of_comparison(role: str) -> bool:
    """Whether a node of a result belongs to its comparison with another one."""
    return role in _ROLES or role.startswith(_SERIES)


def compared_run(result: SceneResult) -> str:
    """The run that a result is compared with just now; empty: none."""
    return str(result.dose.GetAttribute(DERIVED_FROM) or "")


def share_a_grid(result: SceneResult, other: SceneResult) -> bool:
    """Whether two doses lie on the same voxels."""
    one, two = result.dose.GetImageData(), other.dose.GetImageData()
    if one is None or two is None or one.GetDimensions() != two.GetDimensions():
        return False
    return bool(np.allclose(index_to_ras(result.dose), index_to_ras(other.dose), atol=1e-4))


def compare_steps(result: SceneResult, other: SceneResult) -> Steps[None]:
    """Put the comparison beside a result: `change` (its dose − the other's), DVHs, tables.

    The doses themselves are untouched. Where they lie on other voxels there is no `change`.

    Raises:
        CaseError: the other result has gone.
    """
    other_nodes = result_nodes(other.run)
    if "dose" not in other_nodes:
        raise CaseError("The result to compare with has been removed. Choose another one.")
    title = title_of(result.name, result.label)
    drafts = []
    if share_a_grid(result, other):
        doses = [array_of_image(each.dose.GetImageData()) for each in (result, other)]
        image = empty_image(doses[0].shape)
        for _ in filled_in_slabs(image, *doses):
            yield Step("Comparing the doses", 0, 2)
        reach = 0.1 * result.prescription_gy
        placement = Placement(index_to_ras(result.dose), result.dose.GetTransformNodeID())
        name = f"{title}: minus {other.label or other.name}"
        appearance = Appearance((-reach, reach), "difference-colors")
        volumes = volume_drafts("change", name, image, placement, appearance)
        drafts += [
            replace(draft, name=name) if draft.role == "change" else draft for draft in volumes
        ]
    old, new = other.measures.predicted, result.measures.predicted
    drafts += change_drafts(title, old, new, result.segments, other.goals, result.goals)
    drafts += other_series_drafts(other.measures, other.segments, other_nodes)
    nodes = result_nodes(result.run)
    scene = result.dose.GetScene()
    with batch(scene):
        made = _entered(scene, drafts, result, nodes)
        result.dose.SetAttribute(DERIVED_FROM, other.run)
        for role, node in made.items():
            if node.IsA("vtkMRMLDisplayNode"):
                continue
            above = nodes["chart"] if role.startswith(_SERIES) else nodes["dose"]
            place_below(scene, above, node)
    yield Step("Comparing the DVHs", 2, 2)


def end_comparison(result: SceneResult) -> None:
    """Take the comparison away again; quick, and of no effect without one."""
    nodes = result_nodes(result.run)
    dose, chart = nodes.get("dose"), nodes.get("chart")
    if dose is None:
        return
    gone = [node for role, node in nodes.items() if is_of_comparison(role)]
    dose.RemoveAttribute(DERIVED_FROM)
    if not gone:
        return
    for node in gone:
        if chart is not None and node.IsA("vtkMRMLPlotSeriesNode"):
            chart.RemovePlotSeriesNodeID(node.GetID())
    with batch(dose.GetScene()):
        remove_nodes(dose.GetScene(), gone)


def _entered(
    scene: Any, drafts: list[Any], result: SceneResult, nodes: Mapping[str, Any]
) -> dict[str, Any]:
    """The comparison's nodes, those of one before in place; drafts refer to the result's own."""
    chart = nodes.get("chart")
    before = {role: node for role, node in nodes.items() if is_of_comparison(role)}
    legend = before.pop("change-legend", None)
    wanted = {draft.role for draft in drafts}
    for role, node in before.items():
        if chart is not None and role.startswith(_SERIES) and role not in wanted:
            chart.RemovePlotSeriesNodeID(node.GetID())
    if legend is not None and "change" not in wanted:
        remove_nodes(scene, [legend])
    made = enter_scene(scene, drafts, result.run, before, beside=nodes)
    if chart is None:
        return made
    for node in (node for role, node in made.items() if role.startswith(_SERIES)):
        if not chart.HasPlotSeriesNodeID(node.GetID()):
            chart.AddAndObservePlotSeriesNodeID(node.GetID())
    return made
