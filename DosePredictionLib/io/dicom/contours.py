"""From contours to sub-voxel occupancy on the CT's grid.

Each contour plane stands for a slab that reaches half-way to its neighbors; a CT slice takes each
plane by the share of the slice that its slab fills. Where planes are CT slices, as usual, that is
the plane itself. Slices that were skipped while drawing are filled in by shape: the mean of the
signed distances to the outlines of the two neighbors (Raya and Udupa 1990, doi 10.1109/42.52951).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import CaseError
from ...findings import Finding
from ...geometry import signed_distance_mm
from ...mask import Mask
from ...volume import Grid
from .occupancy import Coverage, polygon_coverage, signed_area, without_repeated

__all__ = ["occupancy_of"]

_SNAP = 0.1  # of a slice: positions are rounded when written
_ROUNDED = 1e-3  # of a pixel: coordinates are written to four decimals
_FLAT = 0.25  # of a slice: how far one contour may leave its plane
_MOST_SKIPPED_STEPS = 4
_LONGEST_BRIDGE_MM = 12.0
_MOST_PLANES = 5_000
_SPECK, _BESIDE_SPECKS = 0.3, 3.0  # pixels

Plane = tuple[float, NDArray[np.float32]]


def occupancy_of(
    name: str, loops: Sequence[NDArray[np.float64]], grid: Grid, path: Path
) -> tuple[Mask, list[Finding]]:
    """The share of each voxel inside the contours of one structure.

    Args:
        loops: closed contours `(n, 3)`, LPS mm, parallel to the grid's slices. Loops on one plane
            combine by the even-odd rule; one that is there twice counts once.
        path: of the file that they are from, for messages.

    Returns:
        Float32 in 0…1, and what was noticed.

    Raises:
        CaseError: a contour is not parallel to the slices, or all lie outside the image.
    """
    if not loops:
        return Mask(np.zeros(grid.shape, dtype=bool), grid), []
    findings: list[Finding] = []
    positions, coverage = _planes(name, loops, grid, path, findings)
    if coverage is None or not coverage.array.size:
        raise CaseError(
            f"{path}: {name} lies outside the CT ({grid}): it belongs to another CT, or to none."
        )
    _, rows, columns = coverage.array.shape
    block = np.zeros((grid.size[2], rows, columns), dtype=np.float32)
    for run in _runs(name, positions, grid.spacing[2], findings):
        _add_run([(positions[i], coverage.array[i]) for i in run], block, grid)
    box = (
        slice(0, grid.size[2]),
        slice(coverage.row, coverage.row + rows),
        slice(coverage.column, coverage.column + columns),
    )
    return Mask.of_block(block, box, grid), findings


def _planes(
    name: str,
    loops: Sequence[NDArray[np.float64]],
    grid: Grid,
    path: Path,
    findings: list[Finding],
) -> tuple[list[float], Coverage | None]:
    """Contour planes by continuous slice index, ascending, and what is covered on each.

    No coverage: no contour lies within the CT's slices.
    """
    by_position: dict[float, list[NDArray[np.float64]]] = {}
    beyond = 0
    borders = np.cumsum([len(loop) for loop in loops])[:-1]
    for index in np.split(grid.index_from_world(np.concatenate(loops)), borders):
        height = index[:, 2]
        if np.ptp(height) > _FLAT:
            raise CaseError(
                f"{path}: a contour of {name} is not parallel to the CT's slices (it spans "
                f"{np.ptp(height) * grid.spacing[2]:.1f} mm across them). Export axial contours."
            )
        position = float(height.mean())
        if not -0.5 <= position <= grid.size[2] - 0.5:
            beyond += 1
            continue
        nearest = round(position)
        position = float(nearest) if abs(position - nearest) < _SNAP else round(position, 3)
        low, high = index[:, :2].min(axis=0), index[:, :2].max(axis=0)
        edge = 0.5 + _ROUNDED
        beyond += bool(np.any(low < -edge) or np.any(high > np.subtract(grid.size[:2], 1 - edge)))
        by_position.setdefault(position, []).append(index[:, :2])
    if len(by_position) > _MOST_PLANES:
        raise CaseError(f"{path}: {name} is drawn on {len(by_position)} planes: it is damaged.")
    if beyond:
        message = f"{beyond} of {len(loops)} contours of {name} reach beyond the CT and are cut."
        findings.append(Finding("contours-beyond-image", "warning", message, structure=name))
    if not by_position:
        return [], None
    by_position = _once(name, by_position, findings)
    _note_specks(name, by_position, findings)
    positions = sorted(by_position)
    shape = (grid.size[1], grid.size[0])
    coverage = polygon_coverage([by_position[at] for at in positions], shape)
    if coverage.crossing:
        message = (
            f"{name} crosses itself on {coverage.crossing} of {len(positions)} planes; what is "
            "enclosed twice counts as outside (even-odd rule)."
        )
        findings.append(Finding("contours-cross", "warning", message, structure=name))
    return positions, coverage


def _once(
    name: str, by_position: dict[float, list[NDArray[np.float64]]], findings: list[Finding]
) -> dict[float, list[NDArray[np.float64]]]:
    """Loops by plane without those that are there twice, which would make holes of each other."""
    once = {position: without_repeated(loops) for position, loops in by_position.items()}
    count = sum(map(len, by_position.values())) - sum(map(len, once.values()))
    if count:
        message = f"{count} contours of {name} repeat others on their plane; each counts once."
        remedy = "Check the structure: some tool wrote its contours several times."
        findings.append(Finding("contours-repeated", "warning", message, remedy, name))
    return once


def _note_specks(
    name: str, by_position: dict[float, list[NDArray[np.float64]]], findings: list[Finding]
) -> None:
    """Name contours far smaller than a pixel beside real ones: slips while drawing."""
    areas = [abs(signed_area(loop)) for loops in by_position.values() for loop in loops]
    specks = [area for area in areas if area < _SPECK]
    if specks and max(areas) >= _BESIDE_SPECKS:
        message = (
            f"{len(specks)} of the {len(areas)} contours of {name} are smaller than {_SPECK:g} "
            "pixels; its lowest or highest dose may lie in one of them."
        )
        remedy = "Delete them in the planning system if they are not meant."
        findings.append(Finding("contours-specks", "info", message, remedy, name))


def _runs(
    name: str, positions: Sequence[float], slice_mm: float, findings: list[Finding]
) -> list[list[int]]:
    """Planes that belong together: gaps of a few skipped slices are bridged, longer ones not."""
    if len(positions) == 1:
        return [[0]]
    gaps = np.diff(positions)
    bridge_mm = min(_MOST_SKIPPED_STEPS * float(np.median(gaps)) * slice_mm, _LONGEST_BRIDGE_MM)
    longest = max(bridge_mm, slice_mm) / slice_mm + _SNAP
    breaks = np.flatnonzero(gaps > longest) + 1
    skipped = gaps[(gaps > 1.5) & (gaps <= longest)]
    if skipped.size:
        count = int(np.sum(np.round(skipped) - 1))
        message = f"{name} was not drawn on {count} slices in between; filled in by shape."
        findings.append(Finding("contours-interpolated", "info", message, structure=name))
    if breaks.size:
        message = (
            f"{name} consists of {breaks.size + 1} parts with gaps of up to "
            f"{gaps.max() * slice_mm:.0f} mm, which stay empty."
        )
        findings.append(Finding("structure-in-parts", "info", message, structure=name))
    return [part.tolist() for part in np.split(np.arange(len(positions)), breaks)]


def _add_run(run: Sequence[Plane], block: NDArray[np.float32], grid: Grid) -> None:
    """Add the slabs of a run of planes to a block `(z, y, x)` of the result."""
    spacing = (grid.spacing[1], grid.spacing[0])
    planes = list(_with_skipped(run, spacing))
    at = np.array([position for position, _ in planes])
    middles = (at[1:] + at[:-1]) / 2
    drawn = [position for position, _ in run]
    if len(run) == 1 or all(position == round(position) for position in drawn):
        ends = (0.5, 0.5)
    else:  # drawn on other slices than these, which are as thick as they are apart
        ends = ((drawn[1] - drawn[0]) / 2, (drawn[-1] - drawn[-2]) / 2)
    borders = np.concatenate([[at[0] - ends[0]], middles, [at[-1] + ends[1]]])
    for (_, image), low, high in zip(planes, borders[:-1], borders[1:], strict=True):
        first = max(int(np.floor(low + 0.5 + 1e-6)), 0)
        for z in range(first, min(int(np.ceil(high + 0.5 - 1e-6)), len(block))):
            share = min(high, z + 0.5) - max(low, z - 0.5)
            if share >= 1 - 1e-6:
                block[z] = image
            else:
                block[z] += np.float32(share) * image  # shares of a slice add up to 1 at most


def _with_skipped(run: Sequence[Plane], spacing: tuple[float, float]) -> Iterator[Plane]:
    """A run with planes added where slices were skipped."""
    for (low, below), (high, above) in itertools.pairwise(run):
        yield low, below
        steps = round(high - low) if high - low > 1.5 else 1
        if steps > 1:
            distances = _signed_distance(below, spacing), _signed_distance(above, spacing)
            # What outlines of whole pixels leave over: equal neighbors stay as they are.
            rests = below - (below >= 0.5), above - (above >= 0.5)
            for step in range(1, steps):
                share = step / steps
                distance = (1 - share) * distances[0] + share * distances[1]
                image = np.clip(0.5 + distance / min(spacing), 0, 1)
                image += (1 - share) * rests[0] + share * rests[1]
                yield low + share * (high - low), np.clip(image, 0, 1).astype(np.float32)
    yield run[-1]


def _signed_distance(image: NDArray[np.float32], spacing: tuple[float, float]) -> NDArray:
    """Distance to the outline, mm, positive inside; far below 0 everywhere for an empty image."""
    inside = np.pad(image >= 0.5, 1)  # the image's edge ends the outline
    if not inside.any():
        return np.full(image.shape, -np.hypot(*image.shape) * max(spacing))
    return -signed_distance_mm(inside, spacing[::-1])[1:-1, 1:-1]
