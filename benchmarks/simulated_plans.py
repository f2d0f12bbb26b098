"""What a simulated plan costs, and what is lost when it is made fast.

    python -m benchmarks.simulated_plans --beams 9 --seed 18 --index 1

The same patient and beams, planned by pyRadPlan's influence matrix and optimizer
(`training.simulation.planning`) and by whole fields (`fast_planning`), the latter with the kernels
cut where the matrix ends, which is the like for like, and with their whole reach. CPU seconds are
those of this process, the anatomy not counted; the beams' geometry is.

    python -m benchmarks.simulated_plans --case CASE --dose fast.nii.gz

does so for contours that were not simulated; the dose of the last line is written, so that a model
that learned from such plans can be held against it (`evaluate --reference`).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from DosePredictionLib.beams.arrangement import BeamArrangement
from DosePredictionLib.case import Case
from DosePredictionLib.io import read_case
from DosePredictionLib.io.volumes import write_volume
from DosePredictionLib.planning.engine import kernel_model
from training.simulation.cohort import patient_seed
from training.simulation.fast_planning import FastPlanner
from training.simulation.phantom import simulate_anatomy
from training.simulation.planning import Plan, Planner, plan_quality
from training.simulation.population import draw_patient
from training.simulation.settings import FastPlanSettings, PlanSettings

__all__ = ["main"]

_ORGANS = ("Bladder", "Rectum", "Small_Intestine", "Marrow", "FemurHead_L", "FemurHead_R")


def main() -> None:
    """Print a line for each way, and what the fast ones differ by."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beams", type=int, default=9, help="modulated, equally spaced from 0°")
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument("--index", type=int, default=1, help="of the patient")
    parser.add_argument("--case", type=Path, help="a case folder, instead of a simulated patient")
    parser.add_argument("--dose", type=Path, help="where the fast plan's dose is written")
    arguments = parser.parse_args()
    if arguments.case is None:
        case = simulate_anatomy(draw_patient(patient_seed(arguments.seed, arguments.index, 0)))
    else:
        case = read_case(arguments.case)
    slow = PlanSettings(beams=arguments.beams)
    kernel_model()  # what is imported once is no plan's
    plan, seconds = _timed(lambda: Planner(case, slow).optimized())
    sys.stdout.write(
        f"{'':<22}{'CPU s':>7}{'D2, %':>8}{'conformity':>12}{'D2cc out, %':>13}{'MAE, Gy':>9}"
        f"{'bias, Gy':>10}{'organ means, Gy':>17}\n"
    )
    _write("influence matrix", case, plan, plan, seconds)
    for words, reach_mm in (("fast, kernels cut", slow.lateral_cutoff_mm), ("fast", np.inf)):
        made, seconds = _timed(partial(_fast, case, arguments.beams, reach_mm))
        _write(words, case, made, plan, seconds)
    if arguments.dose is not None:
        write_volume(arguments.dose, made.dose)


def _timed(work: Callable[[], Plan]) -> tuple[Plan, float]:
    start = time.process_time()
    return work(), time.process_time() - start


def _fast(case: Case, beams: int, reach_mm: float) -> Plan:
    planner = FastPlanner(case, FastPlanSettings())
    model = planner.model
    kept = np.where(model.radii_mm <= reach_mm, model.kernels_per_mm2, 0.0)
    planner.model = replace(model, kernels_per_mm2=kept)
    angles = [360.0 * index / beams for index in range(beams)]
    return planner.arranged(BeamArrangement.of_angles(angles)).planned()


def _write(words: str, case: Case, plan: Plan, other: Plan, seconds: float) -> None:
    quality = plan_quality(case, plan.dose)
    error = plan.dose.array - other.dose.array
    body = case.structures["Body"].majority()
    masks = [case.structures[name].majority() for name in _ORGANS if name in case.structures]
    apart = float(np.mean([abs(error[mask].mean()) for mask in masks]))
    sys.stdout.write(
        f"{words:<22}{seconds:>7.1f}{100 * quality.near_maximum:>8.1f}{quality.conformity:>12.2f}"
        f"{100 * quality.hottest_outside:>13.1f}{np.abs(error[body]).mean():>9.2f}"
        f"{error[body].mean():>+10.2f}{apart:>17.2f}\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
