"""Doses from files, carried onto the grid of the structures that they are scored on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import CaseError
from ..findings import Finding
from ..volume import Grid, Volume
from .dose_grid import dose_on_grid

__all__ = ["read_dose"]


def read_dose(
    path: Path,
    grid: Grid,
    structures: Mapping[str, Volume],
    resample: bool = True,
    frame_uid: str | None = None,
) -> tuple[Volume, list[Finding]]:
    """A dose file, Gy, on `grid`; see `dose_on_grid`.

    Args:
        frame_uid: the frame of reference that an RTDOSE must name; None accepts any.
    """
    noticed: list[Finding] = []
    dose = _read(path, frame_uid, noticed)
    if dose.array.dtype.kind == "f" and not np.all(np.isfinite(dose.array)):
        raise CaseError(f"{path} holds NaN or infinite doses.")
    on_grid, findings = dose_on_grid(dose, grid, structures, str(path), resample)
    return on_grid, noticed + findings


def _read(path: Path, frame_uid: str | None, findings: list[Finding]) -> Volume:
    """An RTDOSE file, or a volume file whose values are Gy."""
    from .volumes import is_volume_file, read_volume  # not needed for doses at hand

    if is_volume_file(path) or not path.is_file():
        return read_volume(path, findings)
    from .dicom import is_dicom, read_dose_file

    if not is_dicom(path):
        return read_volume(path, findings)
    return read_dose_file(path, frame_uid)
