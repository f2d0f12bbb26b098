"""The slice error of predicted doses, and what the average of several models' doses reaches.

Networks of slices are judged in their studies by the mean absolute error over all 128×128 pixels of
every slice with dose, those outside the patient included, where prediction and plan are both 0. It
is given here in Gy, the unit of the data set's own dose files, and in units of 70 Gy; beside it
stand dose and DVH score as `dose-prediction evaluate` counts them, with 95 % intervals over
patients. Several folders of predictions are averaged first.

    python -m benchmarks.slices --cases validation --predictions out [other_out …]
"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

import numpy as np

from DosePredictionLib.evaluation.cohort import summarize_cohort
from DosePredictionLib.evaluation.evaluate import EvaluationParts, evaluate
from DosePredictionLib.io import read_case
from DosePredictionLib.io.doses import read_dose
from DosePredictionLib.processes import parallel_map
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Volume

__all__ = ["judge", "slice_errors"]

_UNIT_GY = 70.0


def slice_errors(prediction: Volume, plan: Volume) -> list[float]:
    """Mean absolute error over all pixels of each axial slice that holds plan dose, Gy."""
    errors = np.abs(prediction.array - plan.array).mean(axis=(1, 2), dtype=float)
    return [float(each) for each in errors[(plan.array > 0).any(axis=(1, 2))]]


def judge(path: Path, predictions: list[Path]) -> dict[str, Any]:
    """The record of a case for the average of its predictions, with `slice_errors_gy`.

    Args:
        path: a case of the OpenKBP protocol with a plan dose.
        predictions: folders that hold `<case>/dose.nii.gz`.
    """
    case = read_case(path)
    plan = case.plan_dose
    assert plan is not None
    files = [folder / case.name / "dose.nii.gz" for folder in predictions]
    doses = [read_dose(file, case.grid, {})[0] for file in files]
    array = np.asarray(np.mean([each.array for each in doses], axis=0), dtype=np.float32)
    dose = Volume(array, case.grid)
    bound = bind(case, StructureProtocol.load("openkbp"))
    evaluation = evaluate(bound, dose, EvaluationParts(reference=plan, goals=None))
    return {"case": case.name, **evaluation.as_json(), "slice_errors_gy": slice_errors(dose, plan)}


def run() -> None:
    """Judge every case of a folder and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=Path, required=True, help="folder of npz files")
    parser.add_argument("--predictions", type=Path, nargs="+", required=True)
    call = parser.parse_args()
    cases = sorted(call.cases.glob("*.npz"))
    work = functools.partial(judge, predictions=call.predictions)
    records = [record for _, record in sorted(parallel_map(work, cases, 1), key=lambda r: r[0])]
    write = sys.stdout.write
    summary = summarize_cohort(records)
    for key, name in (("dose_score_gy", "dose score, Gy"), ("dvh_score_gy", "DVH score, Gy")):
        low, high = summary[key]["ci95"]
        write(f"{name:<40}{summary[key]['mean']:>8.3f}  ({low:.3f} to {high:.3f})\n")
    errors = np.concatenate([record["slice_errors_gy"] for record in records])
    write(
        f"{'mean absolute error of a slice, Gy':<40}{errors.mean():>8.3f}  {len(errors)} slices\n"
    )
    write(f"{f'... in units of {_UNIT_GY:g} Gy':<40}{errors.mean() / _UNIT_GY:>8.5f}\n")


if __name__ == "__main__":
    run()
