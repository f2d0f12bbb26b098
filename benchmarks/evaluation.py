"""DVH, gamma and whole evaluations, timed beside dicompyler-core and pymedphys in the same run.

The case is the shipped OpenKBP patient (128³ voxels, ten structures with the external contour).
The evaluated dose is its plan, blurred, moved by a part of a voxel and changed smoothly by some
percent. Each time is the least of several runs, and CPU time stands beside it, since other work may
share the cores.

    python -m benchmarks.evaluation
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from DosePredictionLib import predict
from DosePredictionLib.case import Case
from DosePredictionLib.evaluation.dvh import dvhs
from DosePredictionLib.evaluation.evaluate import evaluate
from DosePredictionLib.evaluation.gamma import MAX_GAMMA, gamma
from DosePredictionLib.io import read_case
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.volume import Volume

from .dicompyler_adapter import contours_of, dose_dataset, dvh_by_dicompyler, structure_dataset

_SAMPLES = Path(__file__).parent.parent / "Resources" / "SampleData" / "openkbp"
_UNLIKE = _SAMPLES.parent / "eclipse_rando_prostate"  # a box, where the model lays nine fields
_THREADS = 2
_COHORT = 40


@dataclass(frozen=True)
class Timing:
    """Least wall and CPU seconds of several runs, and what the last run returned."""

    wall_s: float
    cpu_s: float
    result: Any


def main() -> None:
    """Print every figure of the issue's "Must reach" that is a time or an agreement in time."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    case = read_case(next(iter(sorted(_SAMPLES.glob("*.npz")))))
    assert case.plan_dose is not None
    prediction = changed_dose(case.plan_dose)
    _say(f"{case.name}: {case.grid}, {len(case.structures)} structures, {_THREADS} threads")
    _compare_dvhs(case)
    _compare_gamma(case.plan_dose, prediction, "a changed plan", ((MAX_GAMMA, 5.0), (1.1, 3.0)))
    predicted = predict(case, precision="fp32").dose
    _compare_gamma(case.plan_dose, predicted, "its prediction", ((MAX_GAMMA, 5.0),))
    _time_gamma(read_case(_UNLIKE))
    _time_cohort(case, prediction)


def changed_dose(plan: Volume) -> Volume:
    """A dose that differs from a plan as a good prediction does; the same in every run."""
    rng = np.random.default_rng(0)
    field = ndimage.gaussian_filter(rng.normal(size=plan.array.shape), 4.0)
    field *= 0.03 / field.std()
    moved = ndimage.shift(ndimage.gaussian_filter(plan.array, 0.5), (0.2, -0.3, 0.25), order=1)
    return plan.with_array(np.clip(moved * (1 + field), 0, None).astype(np.float32))


def _compare_dvhs(case: Case) -> None:
    dose, grid = case.plan_dose, case.grid
    assert dose is not None
    spacing, origin = grid.spacing, grid.origin
    contours = {
        name: contours_of(mask.array, spacing, origin) for name, mask in case.structures.items()
    }
    structures, rtdose = structure_dataset(contours), dose_dataset(dose.array, spacing, origin)
    ours = _timed(lambda: dvhs(dose, case.structures), 7)
    theirs = _timed(
        lambda: [dvh_by_dicompyler(structures, rtdose, n + 1) for n in range(len(contours))], 3
    )
    _report("DVHs of ten structures", ours, theirs, "dicompyler-core", 10.0)


def _compare_gamma(
    plan: Volume, prediction: Volume, label: str, caps: Sequence[tuple[float, float]]
) -> None:
    """Gamma of a dose against a plan with each cap, and how many times faster it is wanted."""
    import pymedphys

    steps = zip(plan.grid.shape, plan.grid.spacing[::-1], strict=True)
    axes = tuple(np.arange(count) * step for count, step in steps)
    for cap, wanted in caps:
        ours = _timed(partial(gamma, plan, prediction, max_gamma=cap), 5)
        theirs = _timed(
            partial(
                pymedphys.gamma,
                axes,
                plan.array,
                axes,
                prediction.array,
                3,
                3,
                lower_percent_dose_cutoff=10,
                max_gamma=cap,
                quiet=True,
            ),
            1,
        )
        _report(f"gamma 3%/3mm, {label}, max_gamma={cap:g}", ours, theirs, "pymedphys", wanted)
        both = np.isfinite(theirs.result)
        apart = np.abs(ours.result.gamma[both] - theirs.result[both])
        rate = 100 * float((theirs.result[both] <= 1).mean())
        _say(
            f"  {both.sum()} voxels; pass rate {ours.result.pass_rate_percent():.2f} % and "
            f"{rate:.2f} %; {100 * float((apart <= 0.05).mean()):.2f} % of voxels within 0.05"
        )


def _time_gamma(case: Case) -> None:
    """Of a prediction against a plan of another technique; pymedphys takes many minutes for it."""
    assert case.plan_dose is not None
    predicted = predict(case, precision="fp32").dose
    ours = _timed(partial(gamma, case.plan_dose, predicted), 3)
    _say(
        f"gamma 3%/3mm, the prediction of {case.name}, max_gamma={MAX_GAMMA:g}: "
        f"{ours.wall_s:.2f} s for {ours.result.voxels()} voxels (wanted: 3 s for 263,000); CPU "
        f"{ours.cpu_s:.2f} s; pass rate {ours.result.pass_rate_percent():.2f} %"
    )


def _time_cohort(case: Case, prediction: Volume) -> None:
    bound = bind(case)
    one = _timed(lambda: evaluate(bound, prediction), 3)
    path = next(iter(sorted(_SAMPLES.glob("*.npz"))))
    reading = _timed(lambda: read_case(path), 3)
    each = one.cpu_s + reading.cpu_s
    _say(
        f"evaluation of a patient without gamma: {one.cpu_s:.2f} s CPU, {reading.cpu_s:.2f} s to "
        f"read; {_COHORT} patients on {_THREADS} cores: {_COHORT * each / _THREADS:.0f} s "
        "(wanted: 60)"
    )


def _timed(call: Callable[[], Any], repeats: int) -> Timing:
    walls, cpus, result = [], [], call()
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Timing(min(walls), min(cpus), result)


def _report(label: str, ours: Timing, theirs: Timing, name: str, wanted: float) -> None:
    wall, cpu = theirs.wall_s / ours.wall_s, theirs.cpu_s / ours.cpu_s
    _say(
        f"{label}: {ours.wall_s:.3f} s, {name} {theirs.wall_s:.3f} s: {wall:.1f} times faster "
        f"(wanted: {wanted:g}); CPU {ours.cpu_s:.3f} s and {theirs.cpu_s:.3f} s: {cpu:.1f} times"
    )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    os.environ.setdefault("NUMBA_NUM_THREADS", str(_THREADS))
    main()
