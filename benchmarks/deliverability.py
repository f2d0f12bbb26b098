"""What plans that were made leave when their dose is mimicked on their own beams.

    python -m benchmarks.deliverability CASES… --protocol openkbp --beams nine-field \
        [--only COHORT.json] --source TEXT --output FILE

CASES are folders of cases with plan doses of patients whom no model was trained on; COHORT names
them under `held_out`. A case that states other beams than BEAMS is left out. FILE holds the 95th
percentile of each residual, and is what `--deliverable` holds predictions against.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

from DosePredictionLib.beams.arrangement import BeamArrangement, parse_beams
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.evaluation.deliverability import RESIDUALS, ResidualLimits, nearest_dose
from DosePredictionLib.files import write_json
from DosePredictionLib.io import read_case
from DosePredictionLib.processes import parallel_map
from DosePredictionLib.schema import read_json, to_json
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from training.data import case_paths

__all__ = ["main", "residuals_of_plan"]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=Path, nargs="+")
    parser.add_argument("--protocol", required=True)
    parser.add_argument("--beams", default="nine-field")
    parser.add_argument("--only", type=Path)
    parser.add_argument("--source", required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    call = parser.parse_args()
    paths = [path for folder in call.cases for path in case_paths(folder)]
    if call.only:
        names = read_json(call.only)["held_out"]
        paths = [path for path in paths if path.stem in names]
    beams = parse_beams(call.beams)
    work = partial(residuals_of_plan, protocol=call.protocol, beams=beams)
    rows = []
    for index, found in parallel_map(work, paths, call.workers):
        if found is None:
            continue
        rows.append([found[name] for name in RESIDUALS])
        sys.stdout.write(
            f"{paths[index].stem:<16}" + "".join(f"{v:>12.2f}" for v in rows[-1]) + "\n"
        )
    table = np.array(rows, dtype=float)
    high, middle = np.percentile(table, 95, axis=0), np.median(table, axis=0)
    limits = ResidualLimits(
        schema="dose-prediction-deliverability/1",
        protocol=call.protocol,
        gantry_degrees=tuple(beams.gantry_degrees),
        plans=len(table),
        limits_gy=dict(zip(RESIDUALS, high.round(3).tolist(), strict=True)),
        medians_gy=dict(zip(RESIDUALS, middle.round(3).tolist(), strict=True)),
        beyond=int((table > high).any(axis=1).sum()),
        source=call.source,
        command="python -m benchmarks.deliverability CASES --protocol "
        f"{call.protocol} --beams {call.beams}",
    )
    write_json(call.output, to_json(limits))
    for name, words in RESIDUALS.items():
        sys.stdout.write(
            f"{name:<12} median {limits.medians_gy[name]:6.2f} Gy, 95th percentile "
            f"{limits.limits_gy[name]:6.2f} Gy: {words}\n"
        )
    sys.stdout.write(f"{limits.beyond} of {limits.plans} plans lie beyond the limit of any\n")


def residuals_of_plan(
    path: Path, protocol: str, beams: BeamArrangement
) -> dict[str, float | None] | None:
    """Of one case's own plan; None: it has other beams.

    Raises:
        DosePredictionError: it has none.
    """
    bound = bind(read_case(path), StructureProtocol.load(protocol))
    if bound.case.plan_dose is None:
        raise DosePredictionError(f"{path} has no plan dose.")
    own = bound.case.beams or beams
    if own.gantry_degrees != beams.gantry_degrees:
        return None
    return nearest_dose(bound, bound.case.plan_dose, own)[1]


if __name__ == "__main__":
    main()
