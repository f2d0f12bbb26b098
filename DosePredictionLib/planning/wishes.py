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
from ..evaluation.goals import Goal, GoalTextError, NotEvaluable, parse_goal, prescription_of
from ..structures.bound import BoundCase
from ..volume import Volume

__all__ = ["Limit", "Wanted", "can_be_asked", "parse_wish", "wanted_dose"]

Single = NDArray[np.float32]

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
        limit = Limit.of(goal, bound)
        inside, values = limit.inside, wanted[limit.inside]
        moved = limit.met_by(values)
        counted = np.maximum(weights[inside], np.float32(weight))
        weights[inside] = np.where(moved != values, counted, weights[inside])
        wanted[inside] = moved
    return Wanted(dose.with_array(wanted), dose.with_array(weights))


@dataclass(frozen=True, eq=False)
class Limit:
    """What a goal says of the voxels of its structure.

    Args:
        inside: those voxels, on the case's grid.
        upper: whether it bounds from above.
        gy: the dose that it speaks of; None: a mean over the voxels.
        share: of the voxels that may (upper) or must get that dose or more; None: a mean.
        mean_gy: the mean that it bounds; None: it bounds no mean.
    """

    inside: NDArray[np.bool_]
    upper: bool
    gy: float | None = None
    share: float | None = None
    mean_gy: float | None = None

    @classmethod
    def of(cls, goal: Goal, bound: BoundCase) -> Limit:
        """The limit of a goal on one of a case's structures.

        Raises:
            DosePredictionError: there is no such structure or prescription, or no plan can be
                asked for the goal.
        """
        asked = f"--goal {goal.structure} {goal.text}"
        name = bound.resolve(goal.structure)
        if name is None or name not in bound.structures:
            raise DosePredictionError(
                f"{asked}: there is no such structure; there are {', '.join(bound.structures)}."
            )
        if not can_be_asked(goal):
            raise DosePredictionError(
                f"{asked}: a plan can be asked for V, D, Dmean, Dmin and Dmax, not for this."
            )
        inside = bound.structures[name].mask.binary()
        metric, upper = goal.metric, goal.comparison in _UPPER
        rx = _rx_gy(goal, name, bound, asked) / 100
        amount = float(metric.amount or 0.0)
        all_cc = np.count_nonzero(inside) * bound.case.grid.voxel_volume_cc
        if metric.kind == "volume":
            level = amount * (rx if metric.of_prescription else 1.0)
            return cls(inside, upper, level, goal.limit / (100 if metric.unit == "%" else all_cc))
        level = goal.limit * (rx if metric.unit == "%Rx" else 1.0)
        if metric.kind == "mean":
            return cls(inside, upper, mean_gy=level)
        if metric.kind in ("min", "max"):
            return cls(inside, upper, level, 0.0 if upper else 1.0)
        return cls(
            inside, upper, level, amount / (100 if metric.kind == "dose_percent" else all_cc)
        )

    def met_by(self, values: Single) -> Single:
        """Doses of the voxels that meet it, as near as can be to those given."""
        if self.mean_gy is not None:
            mean = float(values.mean())
            missed = mean > self.mean_gy if self.upper else mean < self.mean_gy
            return values * np.float32(self.mean_gy / mean) if missed and mean > 0 else values
        assert self.gy is not None and self.share is not None
        return _dose_volume(values, self.gy, self.share, self.upper)


def _rx_gy(goal: Goal, name: str, bound: BoundCase, asked: str) -> float:
    """The dose that the goal's `%Rx` means, Gy; 0 where it says none."""
    if not (goal.metric.of_prescription or goal.metric.unit == "%Rx"):
        return 0.0
    try:
        found = prescription_of(goal, name, bound.prescriptions_gy, bound.resolve)
    except NotEvaluable as error:
        raise DosePredictionError(f"{asked}: {error}.") from None
    if found is None:
        raise DosePredictionError(f"{asked}: it needs a prescription; give one.")
    return found


def _dose_volume(values: Single, level_gy: float, share: float, upper: bool) -> Single:
    """At most (or at least) a share of the voxels gets a dose or more."""
    allowed = int(np.clip(share, 0, 1) * values.size)
    order = np.argsort(values)[::-1]  # highest first
    moved = values.copy()
    if upper:
        if np.count_nonzero(values >= level_gy) <= allowed:
            return values
        rest = order[allowed:]
        moved[rest] = np.minimum(moved[rest], np.float32(level_gy * _ASIDE))
    else:
        first = order[: int(np.ceil(np.clip(share, 0, 1) * values.size))]
        moved[first] = np.maximum(moved[first], np.float32(level_gy))
    return moved
