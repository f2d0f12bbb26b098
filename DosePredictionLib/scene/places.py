"""Places of a result: the target's center, the voxel that decides a metric, marks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CaseError
from ..evaluation.places import Sense, extreme_voxel
from ..volume import Grid
from .geometry import (
    LPS_FROM_RAS,
    Frame,
    array_of_image,
    case_frame,
    grid_in,
    image_size,
    index_to_ras,
)
from .hierarchy import place_below
from .results import SceneResult
from .runs import Draft, enter_scene, inputs_of, remove_nodes, result_nodes
from .segments import SegmentReader

__all__ = ["Place", "clear_marks", "mark_place", "target_center", "worst_place"]

_MARKS = "marks"


@dataclass(frozen=True)
class Place:
    """A voxel of a dose.

    Args:
        ras: center, RAS mm of the scene's world.
        dose_gy: of the voxel.
        name: of the structure; empty for the whole dose.
    """

    ras: tuple[float, float, float]
    dose_gy: float
    name: str


def target_center(result: SceneResult) -> tuple[float, float, float] | None:
    """The center of the highest target, RAS of the world; None where no target is left."""
    _, segmentation = inputs_of(result.dose)
    levels = result.measures.prescriptions_gy
    targets = sorted(result.measures.targets, key=lambda name: -levels.get(name, 0.0))
    for name in targets:
        info = result.segments.get(name)
        if segmentation is None or info is None:
            continue
        if segmentation.GetSegmentation().GetSegment(info.id) is None:
            continue
        center = segmentation.GetSegmentCenterRAS(info.id)
        if center is not None:
            return (float(center[0]), float(center[1]), float(center[2]))
    return None


def worst_place(result: SceneResult, structure: str, sense: Sense) -> Place:
    """The voxel with a structure's highest or lowest dose.

    Args:
        structure: key of the result; empty: the whole dose.

    Raises:
        CaseError: the structure has gone, or has no voxel on the dose's grid.
    """
    frame, grid = _frame_and_grid(result)
    dose = array_of_image(result.dose.GetImageData())
    name = ""
    if structure:
        name = result.segments[structure].name
        mask = _mask(result, structure, frame, grid)
    else:
        mask = np.ones(dose.shape, dtype=bool)
    found = extreme_voxel(dose, mask, sense)
    if found is None:
        raise CaseError(f"{name} has no voxel where the dose lies.")
    z, y, x = found
    ras = frame.to_world @ np.append(grid.world_from_index((x, y, z)), 1.0)
    place = (float(ras[0]), float(ras[1]), float(ras[2]))
    return Place(place, float(dose[found]), name)


def mark_place(result: SceneResult, place: Place) -> None:
    """Put a mark there, with name and dose; another one of the same place is replaced."""
    nodes = result_nodes(result.run)
    scene = result.dose.GetScene()

    def fill(node: Any, made: Mapping[str, Any]) -> None:
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetGlyphScale(2.0)
        node.GetDisplayNode().SetTextScale(3.0)

    if _MARKS not in nodes:
        draft = Draft(_MARKS, "vtkMRMLMarkupsFiducialNode", f"{result.dose.GetName()}: marks", fill)
        nodes |= enter_scene(scene, [draft], result.run, {})
        place_below(scene, nodes["dose"], nodes[_MARKS])
    marks = nodes[_MARKS]
    label = f"{place.name or 'Highest'} {place.dose_gy:.1f} Gy"
    for index in range(marks.GetNumberOfControlPoints() - 1, -1, -1):
        if marks.GetNthControlPointLabel(index) == label:
            marks.RemoveNthControlPoint(index)
    marks.AddControlPointWorld(*place.ras, label)


def clear_marks(result: SceneResult) -> None:
    """Remove all marks."""
    nodes = result_nodes(result.run)
    if _MARKS in nodes:
        remove_nodes(result.dose.GetScene(), [nodes[_MARKS]])


def _frame_and_grid(result: SceneResult) -> tuple[Frame, Grid]:
    ct, _ = inputs_of(result.dose)
    is_own = ct is None or result.record.is_hardened
    frame = Frame(LPS_FROM_RAS) if is_own else case_frame(ct)
    size = image_size(result.dose.GetImageData())
    return frame, grid_in(frame, result.dose, index_to_ras(result.dose), size)


def _mask(result: SceneResult, structure: str, frame: Frame, grid: Grid) -> NDArray:
    _, segmentation = inputs_of(result.dose)
    info = result.segments[structure]
    if segmentation is None or segmentation.GetSegmentation().GetSegment(info.id) is None:
        raise CaseError(f"{info.name} is no longer in the scene.")
    *_, volume = SegmentReader(segmentation, frame, grid).read(info.id)
    assert volume is not None
    return volume.array
