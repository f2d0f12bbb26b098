"""Would predicted doses pass as plans? The plans' own quality measures, for plans and predictions.

python -m training.simulation.quality --cases COHORT/test --predictions OUT
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from DosePredictionLib.io import find_cases, read_case
from DosePredictionLib.io.doses import read_dose

from .planning import PlanQuality, plan_quality

__all__ = ["main"]


def main() -> None:
    """Print a line a case, and how many predictions are hotter outside the target than a plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, required=True, help="simulated cases with plan dose")
    parser.add_argument("--predictions", type=Path, required=True, help="folder of <case>/dose…")
    arguments = parser.parse_args()
    hot = 0
    sys.stdout.write(f"{'% of the prescription':<18}{'D95':>16}{'D2':>16}{'D2cc outside':>16}\n")
    paths = find_cases(arguments.cases)
    for path in paths:
        case = read_case(path)
        assert case.plan_dose is not None
        file = arguments.predictions / case.name / "dose.nii.gz"
        predicted, _ = read_dose(file, case.grid, case.structures)
        plan, prediction = (plan_quality(case, dose) for dose in (case.plan_dose, predicted))
        hot += prediction.hottest_outside > max(1.07, plan.hottest_outside)
        sys.stdout.write(_line(case.name, plan, prediction))
    sys.stdout.write(
        f"{hot} of {len(paths)} predictions exceed 107 % outside where the plan does not.\n"
    )


def _line(name: str, plan: PlanQuality, prediction: PlanQuality) -> str:
    pairs = (
        (plan.coverage, prediction.coverage),
        (plan.near_maximum, prediction.near_maximum),
        (plan.hottest_outside, prediction.hottest_outside),
    )
    cells = "".join(f"{f'{100 * ours:.1f} → {100 * theirs:.1f}':>16}" for ours, theirs in pairs)
    return f"{name:<18}{cells}\n"


if __name__ == "__main__":
    main()
