"""DICOM SEG: structures as masks, decoded by highdicom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...errors import CaseError
from ...findings import Finding
from ...mask import Mask
from ...volume import Grid, Volume
from .files import DicomFile, damage_in, plain
from .structure_set import left_out

__all__ = ["read_segmentations"]


def read_segmentations(
    files: Sequence[DicomFile], grid: Grid
) -> tuple[dict[str, Mask], list[Finding]]:
    """Every segment of several files on the CT's grid, by its label.

    A segment beside the CT is left out. Binary segments on the CT's own slices become boolean;
    fractional ones, and those on other grids, occupancy.

    Raises:
        CaseError: highdicom is missing, a file is damaged, all lie beside the CT, or two segments
            have one label.
        GeometryError: the segments form no regular volume.
    """
    masks: dict[str, Mask] = {}
    faults: dict[str, str] = {}
    sources: dict[str, DicomFile] = {}
    for file in files:
        for label, volume in _segments(file):
            if label in sources:
                raise CaseError(_two_of(label, sources[label], file))
            sources[label] = file
            if volume.grid.extent_overlaps(grid):
                masks[label] = Mask.of(_on_grid(volume, grid))
            else:
                faults[label] = (
                    f"{file.path}: {label} lies on {volume.grid} and does not overlap the CT on "
                    f"{grid}."
                )
    if not masks:
        raise CaseError(next(iter(faults.values()), f"{files[0].path} holds no segments."))
    return masks, [left_out(label, fault) for label, fault in faults.items()]


def _two_of(label: str, first: DicomFile, second: DicomFile) -> str:
    """What is said of a label that is there twice: which one is meant, only a person knows."""
    if first is second:
        return f"{first.path} holds two segments called {label!r}. Rename one."
    return (
        f"{first.path.parent} holds 2 segmentations with a segment called {label!r}: "
        f"{first.label()}, {second.label()}. Name the file of one as the case, as in {first.path}."
    )


def _segments(file: DicomFile) -> Iterator[tuple[str, Volume]]:
    """Label and values of each segment; one is held at a time."""
    try:
        from highdicom.seg import Segmentation
    except ImportError as exception:
        raise CaseError(
            f"{file.path} is a DICOM segmentation, which highdicom decodes: pip install highdicom "
            "(it needs pydicom 3)."
        ) from exception
    with damage_in(file.path):
        segmentation = Segmentation.from_dataset(file.item.dataset, copy=False)
        for number in segmentation.segment_numbers:
            description = segmentation.get_segment_description(number)
            stored = segmentation.get_volume(segment_numbers=[number], allow_missing_positions=True)
            label = plain(str(description.segment_label)) or f"Segment {number}"
            yield label, _volume(stored)


def _volume(stored: Any) -> Volume:
    """From highdicom's (slice, row, column) to an array `(z, y, x)` with its grid."""
    affine = np.asarray(stored.affine, dtype=float)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    array = np.ascontiguousarray(np.asarray(stored.array)[..., 0])
    z, y, x = array.shape
    direction = (affine[:3, :3] / spacing)[:, ::-1]
    grid = Grid((x, y, z), tuple(spacing[::-1]), tuple(affine[:3, 3]), tuple(map(tuple, direction)))
    return Volume(array if array.dtype.kind == "f" else array > 0, grid)


def _on_grid(volume: Volume, grid: Grid) -> Volume:
    """A segment that covers some of the CT's slices, on all of them."""
    if volume.array.dtype != bool:
        return volume.resampled_to(grid, "linear")
    carried = volume.resampled_to(grid, "occupancy")
    if carried.array.dtype == bool:
        return Volume(carried.array, grid)
    array = np.clip(carried.array, 0, 1)
    partial = (array > 1e-3) & (array < 1 - 1e-3)
    return Volume(array if partial.any() else array > 0.5, grid)
