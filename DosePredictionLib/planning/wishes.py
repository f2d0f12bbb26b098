"""What a person asks of a plan beside the dose that it is to reach.

A goal changes the wanted dose where it would be missed, and only there: of `V40Gy <= 30 %` the
voxels above 40 Gy that are nearest to it are wanted at 40 Gy, as many as are too many (the
projection on a dose-volume constraint; Wu and Mohan, Med. Phys. 27 (2000) 701, doi
10.1118/1.598932). Those voxels count more than the others. What it costs elsewhere is the plan's
to show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DosePredictionError
from ..evaluation.goals import Goal, GoalTextError, parse_goal
from ..structures.bound import BoundCase
from ..volume import Volume

__all__ = ["Wanted", "can_be_asked", "parse_wish", "wanted_dose"]

_UPPER = ("<", "<=")
_KINDS = ("volume", "mean", "min", "max", "dose_percent", "dose_cc")
_ASIDE = 0.98  # of a limit: a fit stops short of it


@dataclass(frozen=True, eq=False)
class Wanted:
    """A dose to reach, Gy, and by how much each voxel counts; both on the case's grid."""

    dose: Volume
    weights: Volume


def parse_wish(text: str) -> Goal:
    """A goal with its structure before it, as in "Rectum V40Gy <= 30 %".

    Raises:
        DosePredictionError: it cannot be read.
    """
    words = text.split()
    reason = "a structure and a goal are needed"
    for count in range(1, len(words)):
        try:
            return parse_goal(" ".join(words[:count]), " ".join(words[count:]))
        except GoalTextError as error:
            reason = str(error).splitlines()[0] if count == 1 else reason
    raise DosePredictionError(
        f"--goal takes a structure and a goal, as in 'Rectum V40Gy <= 30 %'; got {text!r}: {reason}"
    )


def can_be_asked(goal: Goal) -> bool:
    """Whether a plan can be asked for a goal, as its metric goes."""
    return goal.metric.kind in _KINDS


def wanted_dose(
    bound: BoundCase, dose: Volume, goals: Sequence[Goal], counts: Sequence[float] = (10.0,)
) -> Wanted:
    """A dose changed where goals ask for it.

    Args:
        dose: Gy, on the case's grid.
        goals: upper or lower limits of V_d, D_x, Dmean, Dmin and Dmax.
        counts: by how much the voxels that a goal moves count more than others: one number for
            all goals, or one for each.

    Raises:
        DosePredictionError: a goal is on a structure that is not there, or of another kind.
    """
    wanted = dose.array.astype(np.float32).copy()
    weights = np.ones(wanted.shape, dtype=np.float32)
    every = list(counts) * len(goals) if len(counts) == 1 else list(counts)
    for goal, weight in zip(goals, every, strict=True):
        name = bound.resolve(goal.structure)
        if name is None or name not in bound.structures:
            raise DosePredictionError(
                f"--goal {goal.structure} {goal.text}: there is no such structure; there are "
                f"{', '.join(bound.structures)}."
            )
        inside = bound.structures[name].mask.binary()
        values = wanted[inside]
        moved = _moved(goal, values, bound, dose.grid.voxel_volume_cc)
        counted = np.maximum(weights[inside], np.float32(weight))
        weights[inside] = np.where(moved != values, counted, weights[inside])
        wanted[inside] = moved
    return Wanted(dose.with_array(wanted), dose.with_array(weights))


def _moved(
    goal: Goal, values: NDArray[np.float32], bound: BoundCase, voxel_cc: float
) -> NDArray[np.float32]:
    """Doses of a structure's voxels that meet a goal, as near as can be to those given."""
    metric, upper = goal.metric, goal.comparison in _UPPER
    highest_gy = max(bound.prescriptions_gy.values(), default=None)
    needs_rx = metric.of_prescription or metric.unit == "%Rx"
    if needs_rx and highest_gy is None:
        raise DosePredictionError(f"--goal {goal.text}: it needs a prescription; give one.")
    rx = (highest_gy or 0.0) / 100
    if metric.kind == "volume":
        level = float(metric.amount or 0.0) * (rx if metric.of_prescription else 1.0)
        share = goal.limit / 100 if metric.unit == "%" else goal.limit / voxel_cc / values.size
        return _dose_volume(values, level, share, upper)
    level = goal.limit * (rx if metric.unit == "%Rx" else 1.0)
    if metric.kind == "mean":
        mean = float(values.mean())
        missed = mean > level if upper else mean < level
        return values * np.float32(level / mean) if missed and mean > 0 else values
    if metric.kind in ("min", "max"):
        return values.clip(max=level) if upper else values.clip(min=level)
    if metric.kind in ("dose_percent", "dose_cc"):
        amount = float(metric.amount or 0.0)
        share = amount / 100 if metric.kind == "dose_percent" else amount / voxel_cc / values.size
        return _dose_volume(values, level, share, upper)
    raise DosePredictionError(
        f"--goal {goal.structure} {goal.text}: a plan can be asked for V, D, Dmean, Dmin and Dmax, "
        "not for this."
    )


def _dose_volume(
    values: NDArray[np.float32], level_gy: float, share: float, upper: bool
) -> NDArray[np.float32]:
    """At most (or at least) a share of the voxels gets a dose or more."""
    allowed = int(np.clip(share, 0, 1) * values.size)
    order = np.argsort(values)[::-1]  # highest first
    moved = values.copy()
    if upper:
        rest = order[allowed:]
        moved[rest] = np.minimum(moved[rest], np.float32(level_gy * _ASIDE))
    else:
        first = order[: int(np.ceil(np.clip(share, 0, 1) * values.size))]
        moved[first] = np.maximum(moved[first], np.float32(level_gy))
    return moved
