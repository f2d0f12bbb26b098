"""A patient who lies prone, or an image that is flipped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..findings import Finding
from ..hounsfield import AIR_BELOW_HU
from .view import CaseView, grown, position, wide_rows

__all__ = ["check_prone"]


def check_prone(view: CaseView) -> list[Finding]:
    """A couch in front of the patient and none behind."""
    patient = view.patient
    grid = view.densest_ct.grid
    if not patient.any():
        return []
    near = grown(patient, grid, 12.0)
    sheets = wide_rows((view.densest_ct.array > AIR_BELOW_HU) & ~near, grid)
    rows = np.arange(patient.shape[1])
    area = patient.sum(axis=2)
    planes = np.flatnonzero(area.sum(axis=1))
    middle = (area * rows).sum(axis=1) / np.maximum(area.sum(axis=1), 1)
    anterior: NDArray[np.bool_] = (sheets & (rows[None] < middle[:, None])).any(axis=1)[planes]
    posterior = (sheets & (rows[None] > middle[:, None])).any(axis=1)[planes]
    if anterior.mean() < 0.5 or posterior.mean() > 0.1:
        return []
    plane, row = np.argwhere(sheets & (rows[None] < middle[:, None]))[0]
    place = position(grid.world_from_index([grid.size[0] / 2, row, plane]))
    message = (
        f"The patient lies prone, or the image is flipped: the couch is in front of the patient "
        f"(y = {place[1]:.0f} mm) on {100 * anterior.mean():.0f} % of the slices, and none behind."
    )
    remedy = "The models were made on supine patients; check the position before trusting the dose."
    return [Finding("patient-prone", "warning", message, remedy, position_mm=place)]
