"""A patient so small that a plan with two beams takes seconds."""

from __future__ import annotations

import numpy as np
from support import centered_grid, ct_of, ellipsoid

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.volume import Volume


def leg() -> Case:
    """A few centimeters of a thin leg with a target: what two beams plan in a second."""
    grid = centered_grid((24, 22, 12), (6.0, 6.0, 6.0))
    body = ellipsoid(grid, (0, 0, 0), (60, 55, 400))
    masks = {
        "PTV": ellipsoid(grid, (0, 0, 0), (20, 18, 16)),
        "Body": body,
        "Rectum": ellipsoid(grid, (0, 36, 0), (12, 9, 18)),
        "Bladder": ellipsoid(grid, (0, -36, 0), (12, 9, 18)),
    }
    dose = np.where(masks["PTV"], 45, 15) * body
    return Case(
        name="CT: leg / 1",  # a node's name is no file's
        ct=Volume(ct_of(body), grid),
        structures={name: Volume(mask, grid) for name, mask in masks.items()},
        plan_dose=Volume(dose.astype(np.float32), grid),
        prescription=Prescription({"PTV": 45.0}, 25),
    )
