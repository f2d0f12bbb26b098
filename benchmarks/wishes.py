"""Does a predicted dose follow a wish as a plan does? Plans of a cohort with and without wishes.

    python -m benchmarks.wishes --cohort COHORT --model MODEL [--workers 2]

Each plan with wishes stands beside that of the same anatomy and beams without any; the model
predicts both. A line for each organ that is wished for: by how much the plan's V_d changed, in
percent of the organ, and the prediction's. Then how often the sign is right, the median error of
the size as a share of the plan's change, and by how much the change of the target's D95 is off: of
all wishes, of those that changed the plan by a point at least, of each anatomy's one that changed
its plan most, and, by organ, of those that changed the plan by a point. A plan is predicted once
(`plan_figures.py`), also for `benchmarks.techniques`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from DosePredictionLib.wishes import Wish

from .plan_figures import Planned, add_arguments, figures_of_cohort

__all__ = ["Change", "changes_of", "describe", "main"]

_FELT_PERCENT = 1.0  # of an organ: below it a plan's change is chance as much as the wish


@dataclass(frozen=True)
class Change:
    """What a wish changed of one organ, in percent of its volume, in plan and prediction.

    Args:
        target_gy: by how much the predicted change of the PTV's D95 is off.
    """

    anatomy: str
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
    add_arguments(parser)
    parser.add_argument("--anatomies", type=int, default=10, help="at most; the first ones")
    call = parser.parse_args()
    changes = list(changes_of(figures_of_cohort(call, call.model, call.anatomies)))
    sys.stdout.write(describe(changes))


def changes_of(plans: Sequence[Planned]) -> Iterator[Change]:
    """Every wish of every plan whose twin without wishes is in the cohort, too."""
    free = {(each.anatomy.name, each.plan.technique): each for each in plans if not each.plan.level}
    for each in plans:
        before = free.get((each.anatomy.name, each.plan.technique))
        if before is None or before is each:
            continue
        ours, plan = (
            after - earlier
            for after, earlier in zip(
                each.figures.target_d95_gy, before.figures.target_d95_gy, strict=True
            )
        )
        for wish in each.plan.wishes:
            after = each.figures.organs[wish.structure].wished_percent
            earlier = before.figures.organs[wish.structure].wished_percent
            assert after is not None and earlier is not None
            planned, predicted = after[1] - earlier[1], after[0] - earlier[0]
            name = each.plan.name
            yield Change(each.anatomy.name, name, wish, planned, predicted, ours - plan)


def describe(changes: Sequence[Change]) -> str:
    """The table, and what it amounts to."""
    if not changes:
        return "No plan with wishes has one without beside it.\n"
    lines = [f"{'plan':<26}{'wish':<36}{'plan, %':>9}{'prediction, %':>15}"]
    lines += [
        f"{each.plan:<26}{each.wish!s:<36}{each.planned:>+9.1f}{each.predicted:>+15.1f}"
        for each in changes
    ]
    felt = [each for each in changes if abs(each.planned) >= _FELT_PERCENT]
    most: dict[str, Change] = {}
    for each in sorted(changes, key=lambda each: abs(each.planned)):
        most[each.anatomy] = each
    lines += [
        "",
        _summary("all wishes", changes),
        _summary(f"that changed the plan by {_FELT_PERCENT:g} % or more", felt),
        _summary("the largest change of each anatomy's plans", list(most.values())),
    ]
    organs = dict.fromkeys(each.wish.structure for each in felt)
    lines += [_summary(o, [each for each in felt if each.wish.structure == o]) for o in organs]
    return "\n".join(lines) + "\n"


def _summary(words: str, changes: Sequence[Change]) -> str:
    if not changes:
        return f"{words}: none"
    right = sum(each.planned * each.predicted > 0 for each in changes)
    sizes = [abs(c.predicted - c.planned) / max(abs(c.planned), 0.1) for c in changes]
    off_gy = [abs(each.target_gy) for each in changes]
    return (
        f"{words}: sign right in {right} of {len(changes)}; size off by "
        f"{100 * np.median(sizes):.0f} % in the median; the change of the PTV's D95 off by "
        f"{np.median(off_gy):.2f} Gy in the median, {max(off_gy):.2f} at most"
    )


if __name__ == "__main__":
    main()
