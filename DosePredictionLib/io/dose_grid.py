"""Doses on the structures' grid, and structures that a dose leaves out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import GeometryError
from ..findings import DOSE_GAP, Finding, Severity
from ..mask import Mask
from ..volume import Grid, Volume

__all__ = ["dose_gaps", "dose_on_grid", "uncovered"]

_REQUIRED_COVERAGE = 0.99
_MOST_IS_MISSING = 0.25  # of the body, too: scores in it would count what was never computed


def uncovered(dose_grid: Grid, grid: Grid, structures: Mapping[str, Volume]) -> dict[str, float]:
    """Structures (on `grid`) of which a dose grid covers less than 99 %, and the share covered."""
    if dose_grid.matches(grid):
        return {}
    everywhere = Volume(np.ones(dose_grid.shape, np.uint8), dose_grid)
    covered = everywhere.resampled_to(grid, "nearest").array
    masks = {name: Mask.of(mask) for name, mask in structures.items()}
    shares = {
        name: float(covered[box][mask.block.astype(bool)].mean())
        for name, mask in masks.items()
        if (box := mask.bounding_box()) is not None
    }
    return {name: share for name, share in shares.items() if share < _REQUIRED_COVERAGE}


def dose_gaps(
    dose_grid: Grid, grid: Grid, structures: Mapping[str, Volume], label: str
) -> list[Finding]:
    """A finding for each structure of which a plan's dose covers less than 99 %.

    A warning where it covers less than a quarter.
    """
    remedy = "Scores against the plan are refused for it."
    findings = []
    for name, share in uncovered(dose_grid, grid, structures).items():
        severity: Severity = "warning" if share < _MOST_IS_MISSING else "info"
        message = f"{label} covers only {100 * share:.1f} % of {name}."
        findings.append(Finding(DOSE_GAP, severity, message, remedy, name))
    return findings


def dose_on_grid(
    dose: Volume,
    grid: Grid,
    structures: Mapping[str, Volume],
    label: str,
    resample: bool = True,
) -> tuple[Volume, list[Finding]]:
    """A dose on the structures' grid: as it is, or resampled linearly, with a finding that says so.

    Args:
        dose: Gy, in the same frame of reference.
        structures: those that will be scored, on `grid`.
        label: how messages call the dose.
        resample: false refuses a dose on another grid.

    Raises:
        GeometryError: the grids differ and `resample` is false, or the dose covers less than 99 %
            of a structure.
    """
    if dose.grid.matches(grid):
        return Volume(dose.array.astype(np.float32, copy=False), grid), []
    if not resample:
        raise GeometryError(
            f"{label} lies on {dose.grid}, the structures on {grid}, and resampling is not allowed."
        )
    for name, share in uncovered(dose.grid, grid, structures).items():
        raise GeometryError(
            f"{label} ({dose.grid}) covers only {100 * share:.1f} % of {name} (on {grid}); at "
            "least 99 % are needed."
        )
    message = f"{label} ({dose.grid}) was resampled linearly onto the structures' grid ({grid})."
    return dose.resampled_to(grid, "linear"), [Finding("dose-resampled", "info", message)]
