"""What a lateral cut-off of the dose calculation leaves out: the far scatter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.evaluation.dvh import dvh

from .cohort import Record, read_records, redrawn
from .planning import Planner, require_planner
from .settings import CohortSettings

__all__ = ["check_cutoff"]

_NO_CUTOFF_MM = 180.0  # as far as the engine's kernels reach


def check_cutoff(folder: Path, settings: CohortSettings, count: int) -> str:
    """A table of what the lateral cut-off leaves out of the doses of a cohort's first cases."""
    require_planner()
    records = read_records(folder)[:count]
    if not records:
        raise DosePredictionError(f"{folder} holds no simulated cases; make them first.")
    lines = [f"{'case':<16}{'MAE in body, Gy':>16}{'bias, Gy':>10}{'V10 of body, %':>20}"]
    apart: list[tuple[float, float, float, float]] = []
    for record in tqdm(records, unit="plan"):
        apart.append(_cutoff_difference(record, settings))
        mae, bias, with_cutoff, without = apart[-1]
        volumes = f"{with_cutoff:.1f} → {without:.1f}"
        lines.append(f"{record.name:<16}{mae:>16.3f}{bias:>+10.3f}{volumes:>20}")
    mae, bias, with_cutoff, without = np.mean(apart, axis=0)
    volumes = f"{with_cutoff:.1f} → {without:.1f}"
    lines.append(f"{'mean':<16}{mae:>16.3f}{bias:>+10.3f}{volumes:>20}")
    return "\n".join(lines) + "\n"


def _cutoff_difference(
    record: Record, settings: CohortSettings
) -> tuple[float, float, float, float]:
    """MAE and bias of the body's dose, Gy, and its V10 with and without the cut-off, %."""
    case = redrawn(record, settings)
    planner = Planner(case, settings.plan)
    plan = planner.optimized()
    whole = planner.with_fluence(plan, _NO_CUTOFF_MM)
    body = case.structures["Body"]
    error = (whole.array - plan.dose.array)[body.array > 0.5]
    low_doses = [dvh(dose, body).volume_at_gy(10.0) or 0.0 for dose in (plan.dose, whole)]
    return float(np.abs(error).mean()), float(error.mean()), low_doses[0], low_doses[1]
