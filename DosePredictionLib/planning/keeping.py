"""Goals that the dose to reach meets, and the plan shall meet.

A plan comes near to the wanted dose everywhere, and may still lose a goal by little. Voxels that
miss both what is wanted and the goal's dose lack the difference. Where no voxel does, the goal is
met, as it is by the wanted dose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..evaluation.evaluate import EvaluationParts, evaluate
from ..evaluation.goals import Goal
from ..structures.bound import BoundCase
from ..volume import Volume
from .wishes import Limit, can_be_asked

__all__ = ["KeptGoals"]

Single = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class KeptGoals:
    """Goals of a case that its wanted dose, Gy, meets.

    What a person asks for on top is none of them: it counts as much as its weight says.
    """

    bound: BoundCase
    wanted: Volume
    goals: tuple[Goal, ...]

    @classmethod
    def of(cls, bound: BoundCase, dose: Volume, wanted: Volume, goals: Sequence[Goal]) -> KeptGoals:
        """Those of some goals that a plan can be asked for and both doses meet.

        Args:
            dose: to reach, Gy.
            wanted: the same, changed by what a person asks for.
        """
        met = _with(bound, dose, [goal for goal in goals if can_be_asked(goal)], met=True)
        return cls(bound, wanted, tuple(_with(bound, wanted, met, met=True)))

    def lacking(self, given: Volume) -> Volume | None:
        """What a plan's dose lacks, below 0 what it has too much; None: it loses no goal.

        Args:
            given: Gy, on the case's grid.
        """
        lost = _with(self.bound, given, self.goals, met=False)
        if not lost:
            return None
        return given.with_array(np.sum([self._short(goal, given.array) for goal in lost], axis=0))

    def _short(self, goal: Goal, given: Single) -> Single:
        """Of voxels of the goal's structure and around it: a DVH reads the dose between voxels."""
        limit = Limit.of(goal, self.bound)
        wanted = self.wanted.array
        if limit.upper:
            level = -np.inf if limit.gy is None else limit.gy
            short = np.minimum(np.maximum(wanted, level) - given, 0)
        else:
            level = np.inf if limit.gy is None else limit.gy
            short = np.maximum(np.minimum(wanted, level) - given, 0)
        return np.where(ndimage.binary_dilation(limit.inside), short, 0).astype(np.float32)


def _with(bound: BoundCase, dose: Volume, goals: Sequence[Goal], *, met: bool) -> list[Goal]:
    """Those of some goals that a dose meets, or misses."""
    parts = EvaluationParts(reference=None, scores=frozenset(), goals=goals)
    records = evaluate(bound, dose, parts).goals or ()
    return [
        goal
        for goal, record in zip(goals, records, strict=True)
        if record["status"] != "not_evaluable" and (record["status"] == "met") == met
    ]
