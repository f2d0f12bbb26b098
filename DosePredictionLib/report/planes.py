"""Which slices to show, and how to cut them so that they lie as a radiologist expects.

Patient's left is on the viewer's right, anterior up in axial slices (seen from the feet), superior
up in the others, anterior on the left in the sagittal one. Volumes are sliced first and turned
afterwards: nothing the size of a volume is copied. An oblique grid is shown along its own axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..geometry import Box, bounding_box
from ..hounsfield import SKIN_HU
from ..mask import to_binary
from ..volume import Grid, Volume
from .content import ReportInput, ReportStructure

__all__ = ["Plane", "PlaneName", "choose_planes", "target_order"]

PlaneName = Literal["axial", "coronal", "sagittal"]

_NORMAL: dict[PlaneName, int] = {"axial": 2, "coronal": 1, "sagittal": 0}  # patient axis x, y, z
_LETTERS: dict[PlaneName, tuple[str, str, str, str]] = {  # left, right, top, bottom
    "axial": ("R", "L", "A", "P"),
    "coronal": ("R", "L", "S", "I"),
    "sagittal": ("A", "P", "S", "I"),
}
_SENSES = (("R", "L"), ("A", "P"), ("I", "S"))  # towards lower and higher LPS
_MARGIN_MM = 8.0
_BEYOND_TARGET_MM = 80.0  # of a long scan, what lies farther along the patient says nothing


@dataclass(frozen=True)
class Plane:
    """One slice to show.

    Args:
        name: its orientation.
        block: slices of the arrays `(z, y, x)` in the case's own order, one voxel thick.
        spacing_mm: of the displayed picture, (row, column).
        position: where it lies, as "S 12.5 mm".
        obliquity_degrees: by how much the grid leans out of the patient's axes.
    """

    name: PlaneName
    block: tuple[slice, slice, slice]
    spacing_mm: tuple[float, float]
    position: str
    obliquity_degrees: float

    @property
    def letters(self) -> tuple[str, str, str, str]:
        """Orientation letters at the left, right, top and bottom."""
        return _LETTERS[self.name]

    def cut(self, volume: Volume) -> NDArray:
        """The slice of a volume on the case's grid, `(row, column)` as displayed, downwards."""
        block = volume.array[self.block]
        start = [part.start for part in reversed(self.block)]
        thin = Volume(block, volume.grid.cropped(start, block.shape[::-1])).reordered_to_lps()
        picture = thin.array.take(0, axis=2 - _NORMAL[self.name])
        return picture if self.name == "axial" else picture[::-1]  # LPS z rises, rows descend


def choose_planes(report: ReportInput) -> list[Plane]:
    """An axial, a coronal and a sagittal slice through the highest target.

    Of the slices that cut at least half of the target's largest section, the one that shows most
    of the other structures. Without a target, the slices through the highest dose.
    """
    grid = report.case.grid
    boxes = {
        s.key: box
        for s in report.structures
        if (box := bounding_box(to_binary(s.mask.array))) is not None
    }
    targets = [s for s in target_order(report) if s.key in boxes]
    axes = _index_axes(grid)
    planes = []
    for name, patient_axis in _NORMAL.items():
        array_axis = 2 - axes[patient_axis]
        index = _best_index(report, targets, boxes, array_axis)
        block = _window(report, targets, boxes, axes, array_axis, index)
        planes.append(_plane(name, grid, axes, block))
    return planes


def target_order(report: ReportInput) -> list[ReportStructure]:
    """Targets, the highest prescription first; the others keep their order."""
    targets = [s for s in report.structures if s.role == "target"]
    return sorted(targets, key=lambda s: -(report.prescribed_to(s) or 0.0))


def _index_axes(grid: Grid) -> tuple[int, int, int]:
    """For each patient axis x, y, z the index axis that runs along it."""
    # Three different sizes state where each axis went, whatever the rules of reordering are.
    probe = Grid((1, 2, 3), direction=grid.direction)
    moved = Volume(np.zeros(probe.shape, dtype=bool), probe).reordered_to_lps().grid.size
    return (moved[0] - 1, moved[1] - 1, moved[2] - 1)


def _best_index(
    report: ReportInput, targets: Sequence[ReportStructure], boxes: dict[str, Box], axis: int
) -> int:
    if not targets:
        peak = np.unravel_index(np.argmax(report.prediction.array), report.case.grid.shape)
        return int(peak[axis])
    main = _profile(targets[0], boxes[targets[0].key], axis)
    score = np.zeros_like(main)
    for structure in report.structures:
        if structure.role != "external" and structure.key in boxes:
            weight = 3.0 if structure is targets[0] else 1.0
            score += weight * _profile(structure, boxes[structure.key], axis)
    score[main < 0.5] = -1.0
    best = np.flatnonzero(score >= score.max() - 1e-9)
    return int(best[best.size // 2])


def _profile(structure: ReportStructure, box: Box, axis: int) -> NDArray[np.float64]:
    """Section of a structure in each slice, as a share of its largest."""
    others = tuple(a for a in range(3) if a != axis)
    sections = to_binary(structure.mask.array[box]).sum(axis=others)
    profile = np.zeros(structure.mask.array.shape[axis])
    profile[box[axis]] = sections / sections.max()
    return profile


def _window(
    report: ReportInput,
    targets: Sequence[ReportStructure],
    boxes: dict[str, Box],
    axes: tuple[int, int, int],
    normal: int,
    index: int,
) -> Box:
    """The slice, cropped to the body, and along the patient to the targets' neighborhood."""
    shape = report.case.grid.shape
    block = [slice(0, size) for size in shape]
    block[normal] = slice(index, index + 1)
    along = 2 - axes[2]
    if targets and normal != along:
        step = report.case.grid.spacing[axes[2]]
        low = min(boxes[t.key][along].start for t in targets)
        high = max(boxes[t.key][along].stop for t in targets)
        block[along] = _widened(low, high, _BEYOND_TARGET_MM / step, shape[along])
    body = _body(report, (block[0], block[1], block[2]))
    found = bounding_box(body)
    if found is None:
        return (block[0], block[1], block[2])
    for axis in range(3):
        if axis != normal:
            low, high = (block[axis].start + edge for edge in (found[axis].start, found[axis].stop))
            margin = _MARGIN_MM / report.case.grid.spacing[2 - axis]
            block[axis] = _widened(low, high, margin, shape[axis])
    return (block[0], block[1], block[2])


def _widened(low: int, high: int, margin: float, size: int) -> slice:
    return slice(max(0, int(low - margin)), min(size, int(np.ceil(high + margin))))


def _body(report: ReportInput, block: Box) -> NDArray[np.bool_]:
    """The body within one slice: the external contour, else what is denser than lung and air."""
    for structure in report.structures:
        if structure.role == "external" and structure.mask.array[block].any():
            return to_binary(structure.mask.array[block])
    return report.case.ct.array[block] > SKIN_HU


def _plane(name: PlaneName, grid: Grid, axes: tuple[int, int, int], block: Box) -> Plane:
    spacing = {patient: grid.spacing[axes[patient]] for patient in range(3)}
    normal = _NORMAL[name]
    columns, rows = ((0, 1), (0, 2), (1, 2))[2 - normal]
    middle = [0.5 * (part.start + part.stop - 1) for part in reversed(block)]
    position = float(grid.world_from_index(middle)[normal])
    sense = _SENSES[normal][position >= 0]
    return Plane(
        name=name,
        block=block,
        spacing_mm=(spacing[rows], spacing[columns]),
        position=f"{sense} {abs(position):.1f} mm",
        obliquity_degrees=0.0 if grid.is_axis_aligned else grid.obliquity_degrees,
    )
