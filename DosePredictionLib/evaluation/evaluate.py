"""All numbers of one case, in the form that the command line prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..errors import CaseError
from ..volume import Volume
from .cohort import summarize_cohort
from .dvh import Dvh, dvh, dvhs
from .goals import Goal, GoalSet, evaluate_goals
from .scores import bias, dose_score, dvh_score_terms, isodose_dice, mae, mae_above, ssim

__all__ = ["ENDPOINTS", "endpoints", "evaluate_case", "require_plausible_dose", "summarize_cohort"]

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


def endpoints(
    dose: Volume, structures: Mapping[str, Volume], prescriptions_gy: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Volume and DVH endpoints by structure.

    Args:
        dose: Gy.
        structures: masks by name.
        prescriptions_gy: what percentages of prescription refer to, by structure; the highest of
            them for a structure that has none.
    """
    return _endpoints_of(dvhs(dose, structures), prescriptions_gy)


def _endpoints_of(
    curves: Mapping[str, Dvh], prescriptions_gy: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    highest = max(prescriptions_gy.values(), default=None)
    result = {}
    for name, curve in curves.items():
        reference_gy = prescriptions_gy.get(name, highest)
        values = curve.endpoints(ENDPOINTS, reference_gy)
        result[name] = {"volume_cc": curve.volume_cc, "endpoints": values}
    return result


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
    resolve: Callable[[str], str | None] | None = None,
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
        goals: judged on the prediction.
        resolve: a goal's structure → a name of `structures`; see `goals.evaluate_goals`.

    Returns:
        The JSON object of `evaluate` without `case` and `gamma`; plus `dvh_score_terms_gy`, which
        a cohort pools.
    """
    terms = dvh_score_terms(prediction, reference, structures, targets=targets, organs=organs)
    data_range_gy = max(prescriptions_gy.values(), default=float(reference.array.max()))
    region = body if dose_mask is None else dose_mask
    curves = dvhs(prediction, structures)
    predicted = _endpoints_of(curves, prescriptions_gy)
    referred = endpoints(reference, structures, prescriptions_gy)
    chosen = goals.goals if isinstance(goals, GoalSet) else tuple(goals)
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
        "isodose_dice": _dice(prediction, reference, prescriptions_gy, body),
        "goals": evaluate_goals(
            chosen,
            curves,
            resolve=resolve,
            prescriptions_gy=prescriptions_gy,
            body=dvh(prediction, body, name="Body") if chosen else None,
        ),
    }


def _dice(
    prediction: Volume, reference: Volume, prescriptions_gy: Mapping[str, float], body: Volume
) -> dict[str, float | None]:
    """Isodose Dice by percent of the highest prescription, as text; empty without one."""
    if not prescriptions_gy:
        return {}
    levels = isodose_dice(prediction, reference, max(prescriptions_gy.values()), region=body)
    return {f"{level:g}": value for level, value in levels.items()}
