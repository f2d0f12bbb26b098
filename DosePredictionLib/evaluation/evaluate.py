"""All numbers of one case, and of a cohort, in the form that the command line prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import CaseError
from ..volume import Volume
from .dvh import dvhs
from .scores import dose_score, dvh_score_terms, mae, mae_above, ssim

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
_BOOTSTRAPS = 2000


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
        prescriptions_gy: what percentages of prescription refer to, by structure; the highest of
            them for a structure that has none.
    """
    highest = max(prescriptions_gy.values(), default=None)
    result = {}
    for name, curve in dvhs(dose, structures).items():
        reference_gy = prescriptions_gy.get(name, highest)
        values = {key: curve.endpoint(key, reference_gy) for key in ENDPOINTS}
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
) -> dict[str, Any]:
    """Every score of a predicted dose against a plan's, on one grid.

    Args:
        prediction, reference: Gy.
        structures: masks by name; those of targets and organs enter the DVH score.
        body: the external contour.
        dose_mask: where a dose may be; the dose score divides by its voxels, or by the body's.

    Returns:
        The JSON object of `evaluate` without `case`, `gamma` and `goals`; plus
        `dvh_score_terms_gy`, which a cohort pools.
    """
    terms = dvh_score_terms(prediction, reference, structures, targets=targets, organs=organs)
    data_range_gy = max(prescriptions_gy.values(), default=float(reference.array.max()))
    region = body if dose_mask is None else dose_mask
    predicted = endpoints(prediction, structures, prescriptions_gy)
    referred = endpoints(reference, structures, prescriptions_gy)
    return {
        "mae_body_gy": mae(prediction, reference, body),
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
                "endpoints": {
                    key: {"prediction": value, "reference": referred[name]["endpoints"][key]}
                    for key, value in predicted[name]["endpoints"].items()
                },
            }
            for name, mask in structures.items()
        },
    }


def summarize_cohort(records: Sequence[Mapping[str, Any]], seed: int = 0) -> dict[str, Any]:
    """Mean, standard deviation and bootstrap 95 % interval over patients of every score.

    `dvh_score_gy.mean` is the challenge's: the mean over all endpoints of all patients pooled;
    the mean of the patients' own scores stands beside it as `per_patient_mean`.
    """
    keys = ("mae_body_gy", "mae_above_5gy_gy", "ssim", "dose_score_gy", "dvh_score_gy")
    summary: dict[str, Any] = {}
    for key in keys:
        values = np.array([r[key] for r in records if r.get(key) is not None], dtype=float)
        if values.size:
            summary[key] = _statistics([np.array([value]) for value in values], seed)
    terms = [np.array(list(r["dvh_score_terms_gy"].values())) for r in records]
    terms = [each for each in terms if each.size]
    if terms:
        per_patient_mean = summary["dvh_score_gy"]["mean"]
        summary["dvh_score_gy"] = _statistics(terms, seed) | {"per_patient_mean": per_patient_mean}
    return summary


def _statistics(groups: Sequence[np.ndarray], seed: int) -> dict[str, Any]:
    """Pooled mean, spread of the patients' means, and a bootstrap interval over patients."""
    sums = np.array([group.sum() for group in groups])
    counts = np.array([group.size for group in groups])
    means = sums / counts
    drawn = np.random.default_rng(seed).integers(0, len(groups), (_BOOTSTRAPS, len(groups)))
    pooled = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return {
        "mean": float(sums.sum() / counts.sum()),
        "std": float(means.std(ddof=1)) if means.size > 1 else None,
        "ci95": [float(value) for value in np.percentile(pooled, [2.5, 97.5])],
        "patients": len(groups),
    }
