"""Errors of the measures that clinical goals are about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import DosePredictionError
from ..evaluation.differentiable import generalized_eud, percentiles, soft_shares
from ..evaluation.goals import Goal, GoalSet
from .inputs import LossInput, StructureDoses
from .soft_vx import hard_shares

__all__ = ["goal_template"]

_INDICES = ("CI", "RTOG_CI", "HI", "R50")
_MM3_PER_CC = 1000.0


def goal_template(
    x: LossInput,
    goals: str,
    prescription_gy: Mapping[str, float] | None = None,
    slope_per_gy: float = 10.0,
) -> Tensor:
    """Mean error of the measures that a goals file names, against the reference's own.

        L = mean_g |m_g(p) − m_g(r)|

    Dose measures (Dmean, Dmin, Dmax, D_x%, D_xcc, gEUD) count in the dose's unit, volumes V_x as
    shares of the structure, soft on the prediction and hard on the reference. It compares with the
    plan and not with the limit: a prediction is to be as good as the plan, not better. Per patient
    over goals on structures that are present, then over patients. After Gao et al. 2026,
    arXiv 2603.29670. Goals on channels that the model lacks, conformity and homogeneity indices,
    and gEUD without an exponent have no part in it. D_xcc needs the spacing, and is left out where
    a crop holds less of the structure.

    Args:
        x: the batch.
        goals: id of a shipped set, or the path of a goals file.
        prescription_gy: target → Gy, which V_x%Rx needs; the highest where a goal names no target.
        slope_per_gy: of the soft step.

    Raises:
        DosePredictionError: the file cannot be read, holds no goal for these channels, or needs a
            prescription that is not given.
    """
    chosen = [goal for goal in _measures(goals) if goal.structure in x.names]
    if not chosen:
        raise DosePredictionError(
            f"The goals {goals} measure none of the structures {', '.join(x.names)}."
        )
    terms = []
    for each in x.sorted_doses:
        for goal in chosen:
            if goal.structure != x.names[each.channel]:
                continue
            error = _error(x, each, goal, dict(prescription_gy or {}), slope_per_gy)
            terms += [(each.patient, error)] if error is not None else []
    return x.mean_of_patients(terms)


@lru_cache(maxsize=8)
def _measures(goals: str) -> tuple[Goal, ...]:
    """Goals that differ in what they measure; limits play no part."""
    kept = {}
    for goal in GoalSet.load(goals).goals:
        exponent = goal.geud_a if goal.metric.amount is None else goal.metric.amount
        if goal.metric.kind in _INDICES or (goal.metric.kind == "geud" and exponent is None):
            continue
        measure = replace(goal.metric, unit="")
        kept[goal.structure, measure, goal.prescription, goal.geud_a] = goal
    return tuple(kept.values())


def _error(
    x: LossInput,
    doses: StructureDoses,
    goal: Goal,
    prescription_gy: Mapping[str, float],
    slope_per_gy: float,
) -> Tensor | None:
    """|Δ| of one measure; None where a crop holds too little of the structure."""
    scale = x.dose_scale_gy
    if goal.metric.kind == "volume":
        level_gy = [_level_gy(goal, prescription_gy)]
        soft = soft_shares(doses.predicted * scale, level_gy, slope_per_gy)
        return (soft - hard_shares(doses.reference * scale, level_gy)).abs()[0]
    ours = _dose(x, doses, doses.predicted, goal)
    theirs = _dose(x, doses, doses.reference, goal)
    return None if ours is None or theirs is None else (ours - theirs).abs()


def _dose(x: LossInput, doses: StructureDoses, ascending: Tensor, goal: Goal) -> Tensor | None:
    """A dose measure of sorted voxels, in the dose's unit."""
    kind, amount = goal.metric.kind, goal.metric.amount
    if kind == "mean":
        return ascending.mean()
    if kind == "geud":
        exponent = goal.geud_a if amount is None else amount
        assert exponent is not None
        scale = x.dose_scale_gy
        return generalized_eud(ascending * scale, torch.ones_like(ascending), exponent) / scale
    percent = {"min": 0.0, "max": 100.0}.get(kind)
    if percent is None:
        assert amount is not None
        share = amount
        if kind == "dose_cc":
            voxels = amount * _MM3_PER_CC / x.voxel_mm3[doses.patient]
            share = 100.0 * voxels / ascending.numel()
        if share > 100:
            return None
        percent = 100.0 - share
    return percentiles(ascending, [percent])[0]


def _level_gy(goal: Goal, prescription_gy: Mapping[str, float]) -> float:
    """The dose of a V_x, by the rule of `evaluation.goals` for prescriptions."""
    amount = goal.metric.amount or 0.0
    if not goal.metric.of_prescription:
        return amount
    if not prescription_gy:
        raise DosePredictionError(
            f"The goal {goal.text!r} refers to the prescription: give prescription_gy."
        )
    target = goal.prescription or goal.structure
    return amount / 100.0 * prescription_gy.get(target, max(prescription_gy.values()))
