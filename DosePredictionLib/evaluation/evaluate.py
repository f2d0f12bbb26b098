"""The one implementation of a dose's numbers, in steps or at once. Needs no torch but for gamma."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..checks.plan_dose import plan_finding, require_plausible_dose
from ..structures.bound import BoundCase
from ..volume import Volume
from .arrays import require_same_grid
from .cohort import summarize_cohort
from .dvh import Dvh, checked_dose, dvh_region, known_dvh
from .gamma import MAX_GAMMA, gamma_pass_rates
from .goals import Goal, GoalSet
from .result import ENDPOINTS, Evaluation
from .score_parts import ALL_SCORES, QUICK_SCORES, SCORES, Scored, structure_errors
from .scorecard import Scorecard, score_plan

__all__ = [
    "ALL_SCORES",
    "ENDPOINTS",
    "QUICK_SCORES",
    "Evaluation",
    "EvaluationParts",
    "evaluate",
    "evaluate_steps",
    "plan_curve_steps",
    "require_plausible_dose",
    "summarize_cohort",
]

_BODY = "Body"


@dataclass(frozen=True, eq=False)
class EvaluationParts:
    """What to compute beside the DVHs.

    Args:
        reference: the dose that is compared with, Gy; "plan": the case's own plan dose, if it has
            one; None: compare with nothing. Nothing is compared with the case's own plan dose if
            that does not belong (`checks.plan_dose.plan_finding` says why).
        scores: names in `score_parts.SCORES`, and "structures".
        goals: what the doses are held against; "default": the shipped set for the protocol and the
            prescription, if there is one; None: nothing.
        gamma: criteria, as "3%/3mm".
        max_gamma: where the search for gamma ends; None: nowhere.
        scorecard: a plan scorecard.
    """

    reference: Volume | Literal["plan"] | None = "plan"
    scores: frozenset[str] = ALL_SCORES
    goals: GoalSet | Iterable[Goal] | Literal["default"] | None = None
    gamma: tuple[str, ...] = ()
    max_gamma: float | None = MAX_GAMMA
    scorecard: Scorecard | None = None


def evaluate(
    bound: BoundCase,
    dose: Volume,
    parts: EvaluationParts | None = None,
    heard: Callable[[str], None] = lambda stage: None,
) -> Evaluation:
    """Evaluate a dose at once; see `evaluate_steps`.

    Args:
        heard: told of each step in words; what it raises ends the evaluation.
    """
    steps = evaluate_steps(bound, dose, parts)
    while True:
        try:
            heard(next(steps))
        except StopIteration as end:
            result: Evaluation = end.value
            return result


def evaluate_steps(
    bound: BoundCase, dose: Volume, parts: EvaluationParts | None = None
) -> Generator[str, None, Evaluation]:
    """Evaluate a dose; yields what it did in words, returns the numbers.

    Nothing is resampled: dose, plan and structures lie on one grid.

    Args:
        bound: whose structures, prescription and scored region count.
        dose: Gy.
        parts: what to compute; None: DVHs, and every score against the case's own plan.

    Raises:
        GeometryError: the grids differ.
        DosePredictionError: a dose is negative or not finite, or a gamma criterion is impossible.
    """
    parts = parts or EvaluationParts()
    reference = bound.case.plan_dose if parts.reference == "plan" else parts.reference
    assert not isinstance(reference, str)
    if reference is bound.case.plan_dose and plan_finding(bound) is not None:
        reference = None
    require_same_grid(dose, bound.case.ct, "The dose", "the case")
    curves = yield from _curve_steps(bound, dose, reference)
    predicted, planned, body = curves
    scores: dict[str, Any] | None = None
    errors: dict[str, dict[str, float | None]] = {}
    if reference is not None and planned is not None and body[1] is not None:
        scored = Scored(bound, dose, reference, predicted, planned, (body[0], body[1]))
        scores = {}
        for name, score in SCORES.items():
            if name in parts.scores:
                scores |= yield from score(scored)
        if "structures" in parts.scores:
            errors = yield from structure_errors(scored)
    result = Evaluation(
        predicted=predicted,
        planned=planned,
        body=body,
        targets=tuple(bound.named("target")),
        external=bound.external_name,
        prescriptions_gy=dict(bound.prescriptions_gy),
        names=bound.resolver,
        scores=scores,
        errors=errors,
        gamma=_gamma(reference, dose, parts),
        scorecard=_scorecard(parts.scorecard, bound, predicted, body[0]),
    )
    return result.judged(_goals(parts, bound))


def plan_curve_steps(bound: BoundCase) -> Generator[str, None, None]:
    """Prepare a case before there is a dose to evaluate, a structure a step."""
    given = bound.case.plan_dose
    plan = None if plan_finding(bound) is not None else given
    for name, structure in bound.structures.items():
        if plan is None:
            dvh_region(structure.mask, name)
        else:
            known_dvh(structure.mask, name, plan)
        yield f"DVH of {name} in the plan"


Curves = tuple[dict[str, Dvh], "dict[str, Dvh] | None", "tuple[Dvh, Dvh | None]"]


def _curve_steps(
    bound: BoundCase, dose: Volume, reference: Volume | None
) -> Generator[str, None, Curves]:
    """DVHs of all structures and of the body, in the dose and in the plan."""
    if reference is not None:
        require_same_grid(dose, reference, "The dose", "the plan")
    ours = checked_dose(dose)
    predicted: dict[str, Dvh] = {}
    planned: dict[str, Dvh] = {}
    for name, structure in bound.structures.items():
        predicted[name] = dvh_region(structure.mask, name).dvh_in(*ours)
        yield f"DVH of {name}"
        if reference is not None:
            planned[name] = known_dvh(structure.mask, name, reference)
            yield f"DVH of {name} in the plan"
    by_plan = None if reference is None else planned
    drawn = bound.external_name
    if drawn is not None:
        return predicted, by_plan, (predicted[drawn], planned.get(drawn))
    of_dose = dvh_region(bound.external, _BODY).dvh_in(*ours)
    yield "DVH of the body"
    if reference is None:
        return predicted, None, (of_dose, None)
    body = of_dose, known_dvh(bound.external, _BODY, reference)
    yield "DVH of the body in the plan"
    return predicted, planned, body


def _goals(parts: EvaluationParts, bound: BoundCase) -> GoalSet | Iterable[Goal] | None:
    if parts.goals != "default":
        assert not isinstance(parts.goals, str)
        return parts.goals
    if bound.protocol is None:
        return None
    return GoalSet.default(bound.protocol.id, bound.prescriptions_gy)


def _gamma(reference: Volume | None, dose: Volume, parts: EvaluationParts) -> dict[str, Any]:
    if reference is None or not parts.gamma:
        return {}
    return gamma_pass_rates(reference, dose, list(parts.gamma), max_gamma=parts.max_gamma)


def _scorecard(
    card: Scorecard | None, bound: BoundCase, curves: Mapping[str, Dvh], body: Dvh
) -> dict[str, Any] | None:
    if card is None:
        return None
    # The card's own prescription counts only for a case that has none.
    highest_gy = max(bound.prescriptions_gy.values(), default=None)
    return score_plan(card, curves, resolve=bound.resolver, prescription_gy=highest_gy, body=body)
