"""All numbers of one case, in the form that the command line prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import CaseError
from ..volume import Volume
from .cohort import summarize_cohort
from .dvh import Dvh, dvh, dvhs
from .goals import Goal, GoalSet, evaluate_goals
from .indices import pelvic_endpoints, pelvic_score_terms
from .scores import (
    bias,
    dose_score,
    dvh_score_terms,
    isodose_dice,
    mae,
    mae_above,
    masked_mae_after_d97,
    ssim,
)

__all__ = [
    "ENDPOINTS",
    "endpoints_of",
    "evaluate_case",
    "judge_goals",
    "require_plausible_dose",
    "summarize_cohort",
]

ENDPOINTS = (
    "Dmean_gy",
    "Dmin_gy",
    "Dmax_gy",
    "D99_gy",
    "D98_gy",
    "D95_gy",
    "D50_gy",
    "D2_gy",
    "D1_gy",
    "D0.1cc_gy",
    "D0.03cc_gy",
    "V20Gy_percent",
    "V30Gy_percent",
    "V40Gy_percent",
    "V20Gy_cc",
    "V95percent_percent",
)
"""DVH endpoints that results list; see `dvh.parse_endpoint` for how they read."""

Resolve = Callable[[str], str | None]

_LOWEST_PLAUSIBLE_GY = -0.5


def require_plausible_dose(dose: Volume, label: str) -> None:
    """Refuse a dose that cannot be one.

    Raises:
        CaseError: NaN or infinite, clearly negative, or zero everywhere.
    """
    if not np.all(np.isfinite(dose.array)):
        raise CaseError(f"{label} holds NaN or infinite doses.")
    lowest = float(dose.array.min())
    if lowest < _LOWEST_PLAUSIBLE_GY:
        raise CaseError(f"{label} holds negative doses, down to {lowest:.2f} Gy.")
    if float(dose.array.max()) <= 0:
        raise CaseError(f"{label} is zero everywhere.")


def endpoints_of(
    curves: Mapping[str, Dvh], prescriptions_gy: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Volume and DVH endpoints by structure.

    Args:
        curves: DVHs by structure.
        prescriptions_gy: what percentages of prescription refer to, by structure; the highest of
            them for a structure that has none.
    """
    highest = max(prescriptions_gy.values(), default=None)
    result = {}
    for name, curve in curves.items():
        reference_gy = prescriptions_gy.get(name, highest)
        values = curve.endpoints(ENDPOINTS, reference_gy)
        result[name] = {"volume_cc": curve.volume_cc, "endpoints": values}
    return result


def judge_goals(
    goals: GoalSet | Iterable[Goal],
    curves: Sequence[Mapping[str, Dvh]],
    doses: Sequence[Volume],
    *,
    body: Volume,
    prescriptions_gy: Mapping[str, float],
    resolve: Resolve | None = None,
) -> list[dict[str, Any]]:
    """What `evaluate_goals` says of a predicted dose, and of the plan's beside it.

    Args:
        goals: a set, or goals.
        curves: DVHs by structure: of the prediction, and of the plan if there is one.
        doses: Gy, in the same order; for conformity in the body.
        body: the external contour.
        prescriptions_gy: target → Gy.
        resolve: a goal's structure → a name of the curves.

    Returns:
        A record per goal; with a plan its `reference` holds the plan's status, value and margin.
    """
    chosen = goals.goals if isinstance(goals, GoalSet) else tuple(goals)
    in_body = any(goal.metric.needs_body for goal in chosen)
    judged = [
        evaluate_goals(
            chosen,
            each,
            resolve=resolve,
            prescriptions_gy=prescriptions_gy,
            body=dvh(dose, body, name="Body") if in_body else None,
        )
        for each, dose in zip(curves, doses, strict=True)
    ]
    records = judged[0]
    for plans in judged[1:]:
        for record, plan in zip(records, plans, strict=True):
            record["reference"] = {key: plan[key] for key in ("status", "value", "margin")}
    return records


def evaluate_case(
    prediction: Volume,
    reference: Volume,
    structures: Mapping[str, Volume],
    *,
    targets: Iterable[str],
    organs: Iterable[str],
    body: Volume,
    prescriptions_gy: Mapping[str, float],
    dose_mask: Volume | None = None,
    goals: GoalSet | Iterable[Goal] = (),
    resolve: Resolve | None = None,
    curves: Mapping[str, Dvh] | None = None,
) -> dict[str, Any]:
    """Every score of a predicted dose against a plan's, on one grid.

    Args:
        prediction: Gy.
        reference: Gy.
        structures: masks by name; those of targets and organs enter the DVH score.
        targets: names scored as targets.
        organs: names scored as organs.
        body: the external contour.
        prescriptions_gy: target → Gy; may be empty.
        dose_mask: where a dose may be; the dose score divides by its voxels, or by the body's.
        goals: judged on the prediction and on the plan.
        resolve: a goal's structure → a name of `structures`; see `goals.evaluate_goals`.
        curves: DVHs of the prediction, where they are known already.

    Returns:
        The JSON object of `evaluate` without `case` and `gamma`; plus `dvh_score_terms_gy`, which
        a cohort pools. `pelvic_score_points` is there for a case with one target, PTV.
    """
    terms = dvh_score_terms(prediction, reference, structures, targets=targets, organs=organs)
    data_range_gy = max(prescriptions_gy.values(), default=float(reference.array.max()))
    region = body if dose_mask is None else dose_mask
    if curves is None:
        curves = dvhs(prediction, structures)
    plan_curves = dvhs(reference, structures)
    predicted = endpoints_of(curves, prescriptions_gy)
    referred = endpoints_of(plan_curves, prescriptions_gy)
    return {
        "mae_body_gy": mae(prediction, reference, body),
        "bias_body_gy": bias(prediction, reference, body),
        "mae_above_5gy_gy": mae_above(prediction, reference, 5.0),
        "ssim": ssim(prediction, reference, data_range_gy=data_range_gy, region=body),
        "dose_score_gy": dose_score(prediction, reference, region),
        "dose_score_region": "body" if dose_mask is None else "possible_dose_mask",
        "dvh_score_gy": float(np.mean(list(terms.values()))) if terms else None,
        "dvh_score_terms_gy": {f"{name} {key}": value for (name, key), value in terms.items()},
        "structures": {
            name: {
                "volume_cc": predicted[name]["volume_cc"],
                "mae_gy": mae(prediction, reference, mask),
                "bias_gy": bias(prediction, reference, mask),
                "endpoints": {
                    key: {"prediction": value, "reference": referred[name]["endpoints"][key]}
                    for key, value in predicted[name]["endpoints"].items()
                },
            }
            for name, mask in structures.items()
        },
        "masked_mae_d97_gy": _masked_mae(prediction, reference, structures, prescriptions_gy, body),
        **_pelvic(curves, plan_curves, (prediction, reference), prescriptions_gy, body),
        "isodose_dice": _dice(prediction, reference, prescriptions_gy, body),
        "goals": judge_goals(
            goals,
            (curves, plan_curves),
            (prediction, reference),
            body=body,
            prescriptions_gy=prescriptions_gy,
            resolve=resolve,
        ),
    }


def _masked_mae(
    prediction: Volume,
    reference: Volume,
    structures: Mapping[str, Volume],
    prescriptions_gy: Mapping[str, float],
    body: Volume,
) -> float | None:
    """The masked MAE after D97 normalization, by the target of the highest prescription."""
    levels = {name: gy for name, gy in prescriptions_gy.items() if name in structures}
    if not levels:
        return None
    target = max(levels, key=lambda name: levels[name])
    return masked_mae_after_d97(
        prediction,
        reference,
        target=structures[target],
        body=body,
        prescription_gy=levels[target],
    )


def _pelvic(
    curves: Mapping[str, Dvh],
    plan_curves: Mapping[str, Dvh],
    doses: tuple[Volume, Volume],
    prescriptions_gy: Mapping[str, float],
    body: Volume,
) -> dict[str, Any]:
    """The pelvic endpoint score and its terms, for a case with the one target that it speaks of."""
    if "PTV" not in prescriptions_gy or "PTV" not in curves:
        return {}
    ours, theirs = (
        pelvic_endpoints(each, dvh(dose, body, name="Body"), prescriptions_gy["PTV"])
        for each, dose in zip((curves, plan_curves), doses, strict=True)
    )
    terms = pelvic_score_terms(ours, theirs)
    score = float(np.mean(list(terms.values()))) if terms else None
    return {"pelvic_score_points": score, "pelvic_score_terms": terms}


def _dice(
    prediction: Volume, reference: Volume, prescriptions_gy: Mapping[str, float], body: Volume
) -> dict[str, float | None]:
    """Isodose Dice by percent of the highest prescription, as text; empty without one."""
    if not prescriptions_gy:
        return {}
    levels = isodose_dice(prediction, reference, max(prescriptions_gy.values()), region=body)
    return {f"{level:g}": value for level, value in levels.items()}
