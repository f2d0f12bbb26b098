"""What a lateral cut-off of the dose calculation leaves out: the far scatter."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.evaluation.dvh import dvh

from .cohort import Record, read_records, redrawn, side_by_side
from .planning import Planner, require_planner
from .settings import CohortSettings

__all__ = ["check_cutoff"]

_NO_CUTOFF_MM = 180.0  # as far as the engine's kernels reach


def check_cutoff(
    folder: Path, settings: CohortSettings, count: int, workers: int = 1
) -> Iterator[str]:
    """What the lateral cut-off leaves out of the doses of a cohort's first cases.

    Yields:
        The lines of a table, each as soon as its case is done, and the mean.

    Raises:
        DosePredictionError: pyRadPlan cannot work, there are no cases, or a worker died.
    """
    require_planner()
    records = read_records(folder)[:count]
    if not records:
        raise DosePredictionError(f"{folder} holds no simulated cases; make them first.")
    yield f"{'case':<16}{'MAE in body, Gy':>16}{'bias, Gy':>10}{'V10 of body, %':>20}"
    apart: list[tuple[float, float, float, float]] = []
    work = partial(_cutoff_difference, settings=settings)
    for index, each in side_by_side(work, records, workers):
        apart.append(each)
        yield _line(records[index].name, each)
    mae, bias, with_cutoff, without = np.mean(apart, axis=0)
    yield _line("mean", (mae, bias, with_cutoff, without))


def _line(name: str, numbers: tuple[float, float, float, float]) -> str:
    mae, bias, with_cutoff, without = numbers
    volumes = f"{with_cutoff:.1f} → {without:.1f}"
    return f"{name:<16}{mae:>16.3f}{bias:>+10.3f}{volumes:>20}"


def _cutoff_difference(
    record: Record, settings: CohortSettings
) -> tuple[float, float, float, float]:
    """MAE and bias of the body's dose, Gy, and its V10 with and without the cut-off, %."""
    case = redrawn(record, settings)
    planner = Planner(case, settings.plan)
    plan = planner.optimized()
    whole = planner.with_fluence(plan, _NO_CUTOFF_MM)
    body = case.structures["Body"]
    error = (whole.array - plan.dose.array)[body.majority()]
    low_doses = [dvh(dose, body).volume_at_gy(10.0) or 0.0 for dose in (plan.dose, whole)]
    return float(np.abs(error).mean()), float(error.mean()), low_doses[0], low_doses[1]
