"""Frozen models' residuals in prepared caches, for the benchmarks of heads.

Doses are those that `python -m training residuals` wrote; everything is on the model's grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from DosePredictionLib.encoding.prescription import prescription_factor
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.tasks.residual_scale import HIGH_GY
from training.cache import open_cache
from training.data import TrainingCase

__all__ = ["Residuals", "read_residuals"]

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Residuals:
    """One case on the model's grid, `(z, y, x)` each.

    Args:
        case: as it was prepared.
        plan_gy, dose_gy, scale_gy: the plan's dose, the regression's, and its expected error.
        unit_gy: Gy of a dose of 1.
    """

    case: TrainingCase
    plan_gy: Array
    dose_gy: Array
    scale_gy: Array
    unit_gy: float

    @property
    def error_gy(self) -> Array:
        """Plan minus prediction."""
        return self.plan_gy - self.dose_gy

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Where the dose is scored."""
        return np.asarray(self.case.region)

    @property
    def high(self) -> NDArray[np.bool_]:
        """Where, in there, the prediction is above 5 Gy."""
        return self.inside & (self.dose_gy > HIGH_GY)

    @property
    def spacing_zyx(self) -> tuple[float, float, float]:
        """mm."""
        x, y, z = self.case.spacing_mm
        return z, y, x

    def target_distance_mm(self) -> Array:
        """From the union of targets, negative inside."""
        inputs = self.case.channels.protocol.inputs
        targets = [index for index, each in enumerate(inputs) if each.role == "target"]
        mask = self.case.labels[targets].any(axis=0)
        outside, within = (
            ndimage.distance_transform_edt(each, sampling=self.spacing_zyx)
            for each in (~mask, mask)
        )
        return (outside - within).astype(np.float32)

    def gradient_gy_mm(self) -> Array:
        """Size of the prediction's gradient."""
        parts = np.gradient(self.dose_gy, *self.spacing_zyx)
        return np.sqrt(sum(np.square(part) for part in parts)).astype(np.float32)


def read_residuals(model: DoseModel, cache: Path, most: int | None = None) -> list[Residuals]:
    """The cases of a cache that have doses and expected errors.

    Args:
        most: how many of them, evenly over all: neighbours may share their anatomy.
    """
    manifest = model.manifest
    levels = manifest.expectations.prescription_gy
    found = []
    cases = open_cache(cache, model.protocol, manifest.encoding)
    step = 1 if most is None else max(1, len(cases) // most)
    for case in cases[::step][:most]:
        if case.earlier is None or len(case.earlier) < 2:
            continue
        factor = prescription_factor(case.prescription_gy, levels)
        unit_gy = manifest.encoding.dose_scale_gy * factor
        dose, scale = (np.asarray(each, np.float32) * np.float32(unit_gy) for each in case.earlier)
        found.append(Residuals(case, np.asarray(case.dose_gy), dose, scale, unit_gy))
    return found
