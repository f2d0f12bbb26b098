"""Does a predicted dose follow a wish as a plan does? Plans of a cohort with and without wishes.

    python -m benchmarks.wishes --cohort COHORT --model MODEL --split test

Each plan with wishes stands beside that of the same anatomy and beams without any; the model
predicts both from the same case. A line for each organ that is wished for: by how much the plan's
V_d changed, and the prediction's; then how often the sign is right, the median error of the size as
a share of the plan's change, and what the target's D95 changed by that the plan's did not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from DosePredictionLib.case import Case
from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io import read_case
from DosePredictionLib.volume import Volume
from DosePredictionLib.wishes import Wish
from training.simulation.plans import PlanRecord, read_plan_records

__all__ = ["Change", "main"]


@dataclass(frozen=True)
class Change:
    """What a wish changed of one organ, in percent of its volume, in plans and in predictions."""

    plan: str
    wish: Wish
    planned: float
    predicted: float
    target_gy: float


def main() -> None:
    """Print a line a wish, and what they amount to."""
    if len(sys.argv) == 1:
        sys.stdout.write("needs a cohort and a model: --cohort, --model\n")
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--model", required=True, help="folder or name")
    parser.add_argument("--split", default="test")
    parser.add_argument("--anatomies", type=int, default=10, help="at most")
    arguments = parser.parse_args()
    predictor = Predictor(arguments.model)
    records = [
        each for each in read_plan_records(arguments.cohort) if each.split == arguments.split
    ]
    changes = []
    sys.stdout.write(f"{'plan':<26}{'wish':<32}{'plan, %':>9}{'prediction, %':>15}\n")
    for record in records[: arguments.anatomies]:
        for change in _changes(arguments.cohort / record.split, record.plans, predictor):
            changes.append(change)
            sys.stdout.write(
                f"{change.plan:<26}{change.wish!s:<32}{change.planned:>+9.1f}"
                f"{change.predicted:>+15.1f}\n"
            )
            sys.stdout.flush()
    if changes:
        sys.stdout.write(_summary(changes))


def _changes(folder: Path, plans: tuple[PlanRecord, ...], predictor: Predictor) -> Iterator[Change]:
    names = {(plan.technique, plan.level): plan.name for plan in plans if not plan.faults}
    for (technique, level), name in names.items():
        free = names.get((technique, 0))
        if not level or free is None:
            continue
        wished = read_case(folder / name)
        before, after = read_case(folder / free).plan_dose, wished.plan_dose
        assert before is not None and after is not None
        predicted = [predictor.predict(each).dose for each in (replace(wished, wishes=()), wished)]
        target = [_d95(wished, dose) for dose in (before, after, *predicted)]
        moved_gy = (target[3] - target[2]) - (target[1] - target[0])
        for wish in wished.wishes:
            volumes = [_volume(wished, dose, wish) for dose in (before, after, *predicted)]
            yield Change(name, wish, volumes[1] - volumes[0], volumes[3] - volumes[2], moved_gy)


def _volume(case: Case, dose: Volume, wish: Wish) -> float:
    return dvh(dose, case.structures[wish.structure]).volume_at_gy(wish.dose_gy) or 0.0


def _d95(case: Case, dose: Volume) -> float:
    return dvh(dose, case.structures["PTV"]).dose_at_percent(95) or 0.0


def _summary(changes: list[Change]) -> str:
    right = sum(change.planned * change.predicted > 0 for change in changes)
    sizes = [abs(c.predicted - c.planned) / max(abs(c.planned), 0.1) for c in changes]
    moved_gy = max(abs(change.target_gy) for change in changes)
    return (
        f"Sign right in {right} of {len(changes)}; size off by {100 * np.median(sizes):.0f} % in "
        f"the median; D95 of the target moves by {moved_gy:.2f} Gy more than the plan's at most.\n"
    )


if __name__ == "__main__":
    main()
