"""The grid on which a model sees a case, and whether the target has room on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import CaseError
from ..findings import Finding
from ..mask import Mask
from ..structures.bound import BoundCase
from ..volume import Grid
from .settings import GridSettings

__all__ = ["grid_findings", "is_block_of", "model_grid"]

_TARGET_MARGIN_MM = 20.0
_TOLERANCE = 0.01  # of a voxel

Bounds = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Lowest and highest LPS coordinate, mm."""


def model_grid(
    bound: BoundCase, settings: GridSettings, divisor: int, targets: Sequence[Mask] | None
) -> Grid:
    """The grid on which the model sees this case, axis-aligned LPS.

    Args:
        targets: what must lie on it beside the body; None: nothing.

    Raises:
        CaseError: all targets are empty.
    """
    case = bound.case
    lps = case.ct.reordered_to_lps().grid if not case.grid.is_lps_ordered else case.grid
    if settings.kind == "as-is" and lps.size == settings.size and lps.obliquity_degrees <= 5.0:
        return lps
    spacing = _spacing(lps, settings)
    low, high = _bounds_of([bound.external, *(targets or ())])
    target_low, target_high = (low, high) if targets is None else _bounds_of(targets)
    if settings.reach_mm is not None:
        low[2] = max(low[2], target_low[2] - settings.reach_mm)
        high[2] = min(high[2], target_high[2] + settings.reach_mm)
    extent = (high - low) / spacing
    size = settings.size or _padded(extent, divisor)
    if settings.kind == "native" and lps.is_axis_aligned and np.allclose(spacing, lps.spacing):
        first = np.round(lps.index_from_world(low) + 0.5).astype(int)
        room = np.asarray(size) - np.round(extent).astype(int)
        return lps.cropped(first - room // 2, size)
    center = (low + high) / 2
    center[2] = (target_low[2] + target_high[2]) / 2 if settings.size else center[2]
    origin = center - (np.asarray(size) - 1) / 2 * spacing
    return Grid(size, tuple(spacing), tuple(origin))


def grid_findings(bound: BoundCase, grid: Grid, targets: Sequence[Mask] | None) -> list[Finding]:
    """Whether the case was resampled, and whether the target with a margin fits the grid.

    A margin that the grid cuts off blocks; one that the patient's own data lack is a warning.
    """
    findings = []
    if not is_block_of(bound.case.grid, grid):
        message = f"The case ({bound.case.grid}) is resampled to the model's grid ({grid})."
        findings.append(Finding("resampled-to-model-grid", "info", message))
    if targets is None:
        return findings
    low, high = _bounds_of(targets)
    data_low, data_high = _bounds_of([bound.external, *targets])
    wanted_low = np.maximum(low - _TARGET_MARGIN_MM, data_low)
    wanted_high = np.minimum(high + _TARGET_MARGIN_MM, data_high)
    grid_low, grid_high = grid.bounds_mm()
    slack_mm = _TOLERANCE * min(grid.spacing)
    outside = (wanted_low < grid_low - slack_mm) | (wanted_high > grid_high + slack_mm)
    # In plane the skin is near anyhow: there the target itself must fit.
    outside[:2] &= (low < grid_low - slack_mm)[:2] | (high > grid_high + slack_mm)[:2]
    if outside.any():
        axes = ", ".join(name for name, out in zip("xyz", outside, strict=True) if out)
        needed = " × ".join(f"{mm:.0f}" for mm in wanted_high - wanted_low)
        room = " × ".join(f"{mm:.0f}" for mm in grid_high - grid_low)
        findings.append(
            Finding(
                "target-outside-model-grid",
                "blocking",
                f"The target with a margin of 2 cm needs {needed} mm and leaves the model's grid "
                f"of {room} mm along {axes}.",
                "Choose a model with a larger grid, or check the target's contour.",
            )
        )
    beyond_mm = min(low[2] - data_low[2], data_high[2] - high[2])
    if beyond_mm < _TARGET_MARGIN_MM - slack_mm:
        findings.append(_data_end(bound, beyond_mm))
    return findings


def is_block_of(grid: Grid, block: Grid) -> bool:
    """Whether the block's voxels are voxels of the grid (up to axis order and padding)."""
    if not grid.is_axis_aligned or not block.is_lps_ordered:
        return False
    order, _ = grid.axis_order()
    spacing = [grid.spacing[axis] for axis in order]
    index = grid.index_from_world(block.origin)
    return np.allclose(spacing, block.spacing, rtol=1e-4) and np.allclose(
        index, np.round(index), atol=1e-2
    )


def _data_end(bound: BoundCase, beyond_mm: float) -> Finding:
    ct_low, ct_high = bound.case.grid.bounds_mm()
    body_low, body_high = _bounds_of([bound.external])
    step_mm = max(bound.case.grid.spacing)
    ends = "CT" if min(body_low[2] - ct_low[2], ct_high[2] - body_high[2]) < step_mm else "body"
    return Finding(
        "target-near-end-of-data",
        "warning",
        f"The {ends} ends {max(beyond_mm, 0):.0f} mm beyond the target along the patient; what is "
        "not there cannot be predicted from, nor a dose in it.",
        "Use a CT with at least 2 cm beyond the target, and a body contour on all of its slices.",
    )


def _spacing(grid: Grid, settings: GridSettings) -> NDArray[np.float64]:
    if settings.spacing_mm is not None:
        return np.asarray(settings.spacing_mm)
    own = np.asarray(grid.spacing)
    return np.clip(own, settings.spacing_mm_min, settings.spacing_mm_max)


def _padded(extent: NDArray[np.float64], divisor: int) -> tuple[int, int, int]:
    sizes = [max(1, int(np.ceil((n - 1e-3) / divisor))) * divisor for n in extent]
    return (sizes[0], sizes[1], sizes[2])


def _bounds_of(masks: Sequence[Mask]) -> Bounds:
    """Lowest and highest LPS coordinate of the union of masks, voxel edges included, mm.

    Raises:
        CaseError: all of them are empty.
    """
    bounds = []
    for mask in masks:
        box = mask.bounding_box()
        if box is not None:
            first = [edge.start for edge in box[::-1]]
            size = [edge.stop - edge.start for edge in box[::-1]]
            bounds.append(mask.grid.cropped(first, size).bounds_mm())
    if not bounds:
        raise CaseError("The target has no voxels: there is nothing to predict a dose for.")
    return np.min([low for low, _ in bounds], axis=0), np.max([high for _, high in bounds], axis=0)
