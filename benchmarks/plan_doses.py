"""The rule on plan doses over cohorts whose doses belong: whom it would refuse or warn of.

    python -m benchmarks.plan_doses [FOLDER…]

Each FOLDER is a case, or holds cases. Without any, the shipped samples.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from DosePredictionLib.checks.plan_dose import learning_finding
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.io import case_name, read_case
from DosePredictionLib.processes import parallel_map, usable_cores
from DosePredictionLib.structures.bound import bind

__all__ = ["Judged", "judged", "main"]

_SAMPLES = Path(__file__).parent.parent / "Resources" / "SampleData"
_SHIPPED = ("simulated_pelvis", "eclipse_rando_prostate", "openkbp")


class Judged(NamedTuple):
    """A case's plan: what the rule says (empty: it belongs), and shares of the prescription.

    Mean and D2 % of the target that is prescribed most.
    """

    case: str
    said: str
    mean_share: float
    peak_share: float


def main() -> None:
    """Print who is refused or warned of, and how far the others are from the limits."""
    folders = [Path(word) for word in sys.argv[1:]] or [_SAMPLES / name for name in _SHIPPED]
    for folder in folders:
        cases = _cases(folder)
        found = [each for _, each in parallel_map(judged, cases, usable_cores())]
        for each in found:
            if each.said:
                sys.stdout.write(f"  {each.case}: {each.said}\n")
        shares = np.array([(each.mean_share, each.peak_share) for each in found])
        (low, peak_low), (high, peak_high) = np.nanmin(shares, axis=0), np.nanmax(shares, axis=0)
        sys.stdout.write(
            f"{folder.name}: {len(found)} cases, {sum(bool(each.said) for each in found)} refused "
            f"or warned of; target's mean over its prescription {low:.3f} to {high:.3f}, "
            f"D2 % {peak_low:.3f} to {peak_high:.3f}\n"
        )


def judged(path: Path) -> Judged:
    """The rule's word on one case."""
    try:
        bound = bind(read_case(path))
    except DosePredictionError as exception:
        return Judged(case_name(path), str(exception), np.nan, np.nan)
    found = learning_finding(bound)
    plan = bound.case.plan_dose
    levels = {n: gy for n, gy in bound.prescriptions_gy.items() if n in bound.structures}
    shares = (np.nan, np.nan)
    if plan is not None and levels:
        name = max(levels, key=lambda each: levels[each])
        values = plan.array[bound.structures[name].mask.touched()] / levels[name]
        shares = (float(values.mean()), float(np.percentile(values, 98)))
    said = "it has no plan dose" if plan is None else "" if found is None else found.message
    return Judged(case_name(path), said, *shares)


def _cases(folder: Path) -> list[Path]:
    if any(folder.glob("ct*.nii.gz")):
        return [folder]
    return sorted(path for path in folder.iterdir() if path.suffix == ".npz" or path.is_dir())


if __name__ == "__main__":
    main()
