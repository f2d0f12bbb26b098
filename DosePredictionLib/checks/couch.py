"""A couch within the external contour."""

from __future__ import annotations

import numpy as np

from ..findings import Finding
from .thresholds import (
    COUCH_CC,
    SHEET_MM,
)
from .view import CaseView, center_of, grown, wide_rows

__all__ = ["check_couch"]


def check_couch(view: CaseView) -> list[Finding]:
    """An external contour that holds the couch: wide sheets in it that are not patient."""
    external = view.external
    if external is None or not view.patient.any():
        return []
    grid = view.coarse_ct.grid
    body = view.body
    excess = body & ~grown(view.patient, grid, 8.0)
    sheets = wide_rows(excess, grid)
    planes = view.patient.any(axis=(1, 2))
    share = float(np.asarray(sheets.any(axis=1))[planes].mean())
    cc = float(np.count_nonzero(excess)) * grid.voxel_volume_cc
    if share < 0.3 or cc < COUCH_CC:
        return []
    couch = excess & sheets[:, :, None]
    message = (
        f"{external.name} holds about {cc:.0f} cc that are not patient, in sheets at least "
        f"{SHEET_MM / 10:.0f} cm wide on {100 * share:.0f} % of the slices: the couch?"
    )
    remedy = "Contour the patient alone, or leave the contour out so that it is derived."
    place = center_of(couch, grid)
    return [Finding("couch-in-body", "warning", message, remedy, external.name, place)]
