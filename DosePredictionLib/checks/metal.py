"""Metal in the patient."""

from __future__ import annotations

import numpy as np

from ..findings import Finding, Severity
from .thresholds import (
    METAL_CC,
    METAL_CELL_MM,
    METAL_HU,
    MUCH_METAL_CC,
)
from .view import CaseView, position

__all__ = ["check_metal"]


def check_metal(view: CaseView) -> list[Finding]:
    """Metal in the patient: fillings, implants, a hip prosthesis."""
    external = view.external
    box = external.box if external is not None else (slice(None),) * 3
    if view.hu_range[1] <= METAL_HU:
        return []
    dense = view.case.ct.array[box] > METAL_HU
    if external is not None:
        dense &= external.mask
    index = np.argwhere(dense)
    cc = len(index) * view.case.grid.voxel_volume_cc
    if cc < METAL_CC:
        return []
    index += [place.start or 0 for place in box]
    world = view.case.grid.world_from_index(index[:, ::-1])
    # The fullest cell of 2 cm, for a centroid of two hips lies between them.
    cells = np.floor(world / METAL_CELL_MM).astype(int)
    _, cell, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    place = world[cell.ravel() == counts.argmax()].mean(axis=0)
    what = "a hip prosthesis" if view.by_tg263("Bladder") is not None else "fillings or an implant"
    highest = view.hu_range[1]
    message = (
        f"{cc:.1f} cc of the patient exceed {METAL_HU:.0f} HU (highest {highest:.0f} HU), like "
        f"{what}; most lies at ({', '.join(f'{v:.0f}' for v in place)}) mm."
    )
    remedy = "Do not trust the dose near it and in beams through it: the model knows little metal."
    severity: Severity = "warning" if cc >= MUCH_METAL_CC else "info"
    return [Finding("metal", severity, message, remedy, position_mm=position(place))]
