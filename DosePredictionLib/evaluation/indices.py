"""Indices of conformity, homogeneity and fall-off, and the fixed pelvic endpoint score.

All are taken from DVHs, so that they share the sub-voxel accuracy of `dvh`. A volume or dose that
an index divides by and that is 0 makes it None.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import DosePredictionError
from ..volume import Volume
from .arrays import as_array, require_same_grid
from .dvh import Dvh

__all__ = [
    "homogeneity_icru83",
    "overlap_cc",
    "paddick_conformity",
    "pelvic_endpoints",
    "pelvic_score_terms",
    "r50",
    "rtog_conformity",
]

_PELVIC_VOLUMES = ("Bladder", "Rectum", "FemurHead_L", "FemurHead_R", "Marrow")
_PELVIC_MAXIMA = ("Small_Intestine", "SpinalCord")


def paddick_conformity(target: Dvh, body: Dvh, isodose_gy: float) -> float | None:
    """Paddick conformity index at an isodose within the body; 1 is perfect.

    (target volume in the isodose)² / (target volume × isodose volume): Paddick 2000,
    doi 10.3171/jns.2000.93.supplement_3.0219.
    """
    covered, isodose = target.volume_at_gy_cc(isodose_gy), body.volume_at_gy_cc(isodose_gy)
    if covered is None or not isodose:
        return None
    return covered * covered / (target.volume_cc * isodose)


def rtog_conformity(target: Dvh, body: Dvh, isodose_gy: float) -> float | None:
    """RTOG conformity index: isodose volume / target volume (Shaw et al. 1993)."""
    isodose = body.volume_at_gy_cc(isodose_gy)
    return None if isodose is None or target.volume_cc <= 0 else isodose / target.volume_cc


def homogeneity_icru83(target: Dvh) -> float | None:
    """ICRU Report 83 homogeneity index (D2% - D98%) / D50%; 0 is homogeneous."""
    high, low, middle = (target.dose_at_percent(percent) for percent in (2, 98, 50))
    if high is None or low is None or not middle:
        return None
    return (high - low) / middle


def r50(target: Dvh, body: Dvh, prescription_gy: float) -> float | None:
    """Volume of half the prescription within the body / target volume."""
    return rtog_conformity(target, body, 0.5 * prescription_gy)


def overlap_cc(first: Volume, second: Volume) -> float:
    """Volume that two structures share, cc.

    In a voxel that both fill partly the smaller occupancy counts: exact where one lies within the
    other, the most that it can be elsewhere.
    """
    require_same_grid(first, second, "The first structure", "the second")
    shared = np.minimum(as_array(first).astype(np.float32), as_array(second).astype(np.float32))
    return float(shared.sum(dtype=np.float64)) * first.grid.voxel_volume_cc


def pelvic_endpoints(
    curves: Mapping[str, Dvh], body: Dvh, prescription_gy: float
) -> dict[str, float | None]:
    """The endpoints of the two-stage pelvic work; `Structure endpoint` → value.

    Doses in percent of the prescription, volumes in percent of the structure, the two indices
    times 100, so that all are percentage points. Structures without a curve are skipped.

    Raises:
        DosePredictionError: the prescription is not positive.
    """
    if not prescription_gy > 0:
        raise DosePredictionError(f"A prescription must be above 0 Gy; got {prescription_gy:g}.")
    percent = 100.0 / prescription_gy
    result: dict[str, float | None] = {}
    target = curves.get("PTV")
    if target is not None:
        for key in ("Dmean_gy", "D98_gy", "D2_gy"):
            result[f"PTV {key[:-3]}"] = _times(target.endpoint(key), percent)
        for level in (95, 100):
            result[f"PTV V{level}%"] = target.volume_at_gy(level / 100.0 * prescription_gy)
        conformity = paddick_conformity(target, body, prescription_gy)
        result["PTV CI"] = _times(conformity, 100.0)
        result["PTV HI"] = _times(homogeneity_icru83(target), 100.0)
    for name in _PELVIC_VOLUMES:
        if name in curves:
            result[f"{name} Dmean"] = _times(curves[name].mean_gy, percent)
            for dose_gy in (30, 40):
                result[f"{name} V{dose_gy}Gy"] = curves[name].volume_at_gy(dose_gy)
    for name in _PELVIC_MAXIMA:
        if name in curves:
            result[f"{name} Dmax"] = _times(curves[name].max_gy, percent)
    return result


def pelvic_score_terms(
    prediction: Mapping[str, float | None], reference: Mapping[str, float | None]
) -> dict[str, float]:
    """Absolute differences of the endpoints that both doses define; the score is their mean."""
    terms = {}
    for key, value in prediction.items():
        other = reference.get(key)
        if value is not None and other is not None:
            terms[key] = abs(value - other)
    return terms


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
