"""The training loss of the published two-stage pelvis network."""

from __future__ import annotations

from .weighted import LossTerm

__all__ = ["PUBLISHED_PELVIS"]

_DOSE_SCALE_GY = 52.0

PUBLISHED_PELVIS = (
    LossTerm("mae", 0.5, stage="coarse", options={"published": True}),
    LossTerm("mae", 0.5 * 0.7, options={"published": True}),
    LossTerm("strip_mae", 0.5 * 0.1, options={"published": True}),
    LossTerm("gradient_l1", 0.5 * 0.1, options={"published": True}),
    # This one error is in Gy there, beside the others in units of 52 Gy.
    LossTerm("mean_dose", 0.5 * 0.05 * _DOSE_SCALE_GY, options={"published": True}),
    LossTerm("soft_vx", 0.5 * 0.05, options={"published": True}),
)
"""0.5 · coarse body MAE + 0.5 · (0.7 body MAE + 0.1 strip MAE + 0.1 gradient L1 in the union of the
strips + 0.05 mean-dose error of the organs in Gy + 0.05 V_x error), for a dose scale of 52 Gy and
the body as the region."""
