"""Whether a dose can be that of a case's plan: its unit, its height, its extent, its parts.

One rule for everything that compares with a plan or learns from it. It scales nothing: a dose in
another unit is refused, and the likely unit is named.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import CaseError
from ..findings import DOSE_GAP, UNCERTAIN_DOSE, UNKNOWN_PARTS, Finding
from ..structures.bound import BoundCase
from ..volume import Volume
from .thresholds import (
    BEYOND_PRESCRIPTION,
    EXPLAINED_RATIO,
    HIGHEST_PLAN_GY,
    LOWEST_DOSE_GY,
    PLAN_HIGHEST_MEAN_SHARE,
    PLAN_LOWEST_MEAN_SHARE,
    PLAN_LOWEST_PEAK_SHARE,
)
from .view import CaseView

__all__ = [
    "IMPOSSIBLE",
    "NOT_COMPARABLE",
    "UNLIKE",
    "check_plan_dose",
    "dose_finding",
    "learning_finding",
    "plan_finding",
    "require_plausible_dose",
    "require_possible_dose",
    "scored_structures",
]

IMPOSSIBLE = "dose-impossible"
"""Id of the finding that a dose is no plan's, as one in cGy."""
UNLIKE = "dose-unlike-prescription"
"""Id of the finding that a dose is far from the prescription."""
NOT_COMPARABLE = "plan-dose-not-comparable"
"""Id of the finding that a plan's dose covers too little, or may be a part of it."""

_NOT_USED = "There are no scores against it, and it is not learned from."


def require_plausible_dose(dose: Volume, label: str) -> None:
    """Refuse a dose that cannot be one, whatever the case.

    Raises:
        CaseError: NaN or infinite, clearly negative, zero everywhere, or above every plan's.
    """
    message = _impossible_anywhere(dose, label)
    if message is not None:
        raise CaseError(message)


def dose_finding(bound: BoundCase, dose: Volume, label: str) -> Finding | None:
    """What is wrong with a dose (Gy) by itself and beside the prescription; None: nothing.

    Args:
        bound: whose prescription, fractions and targets count, on the dose's grid.
        label: how the message calls the dose.
    """
    message = _impossible_anywhere(dose, label)
    if message is not None:
        return Finding(IMPOSSIBLE, "warning", message, "Export the plan's dose in Gy.")
    if bound.prescription is None:
        return None
    seen = _in_target(bound, dose)
    if not seen.is_far:
        return None
    stated = (
        f"{label} has a mean of {seen.mean_gy:.4g} Gy in {seen.where}, for which "
        f"{seen.prescribed_gy:g} Gy are prescribed"
    )
    cause = _cause(seen, bound.prescription.fractions)
    if cause is not None:
        remedy = "Convert it to the plan's whole dose in Gy, or export it so."
        return Finding(IMPOSSIBLE, "warning", f"{stated}: {cause}.", remedy)
    if seen.peak_gy > BEYOND_PRESCRIPTION * seen.prescribed_gy:
        remedy = "Check its unit, and that it belongs to this case; export it in Gy."
        message = f"{stated}: more than {BEYOND_PRESCRIPTION:g} times as much is no plan's."
        return Finding(IMPOSSIBLE, "warning", message, remedy)
    remedy = "Check that dose, prescription and number of fractions belong together and are whole."
    return Finding(UNLIKE, "warning", f"{stated}: the two hardly belong together.", remedy)


def plan_finding(bound: BoundCase) -> Finding | None:
    """Why nothing is compared with the case's plan dose; None: it belongs, or there is none."""
    plan = bound.case.plan_dose
    if plan is None:
        return None
    found = dose_finding(bound, plan, "The plan dose")
    if found is not None:
        return Finding(found.id, "warning", found.message, f"{_NOT_USED} {found.remedy}")
    scored = {bound.structures[name].source for name in scored_structures(bound)}
    for noticed in bound.case.findings:
        # A warning is a dose that leaves out most of a structure, the body even.
        leaves_out = noticed.structure in scored or noticed.severity == "warning"
        is_gap = noticed.id == DOSE_GAP and leaves_out
        if is_gap or (noticed.id == UNKNOWN_PARTS and bound.prescription is None):
            remedy = _NOT_USED if is_gap else f"{_NOT_USED} {noticed.remedy}"
            return Finding(NOT_COMPARABLE, "warning", noticed.message, remedy, noticed.structure)
    return None


def learning_finding(bound: BoundCase) -> Finding | None:
    """Why nothing is learned from the case's plan dose: as `plan_finding`, and every doubt."""
    doubts = (finding for finding in bound.case.findings if finding.id in UNCERTAIN_DOSE)
    return plan_finding(bound) or next(doubts, None)


def require_possible_dose(bound: BoundCase, dose: Volume, label: str) -> list[Finding]:
    """Refuse a dose that is no plan's; one that is far from the prescription is a finding.

    Raises:
        CaseError: in cGy, per fraction, zero everywhere …: names the likely cause.
    """
    found = dose_finding(bound, dose, label)
    if found is not None and found.id == IMPOSSIBLE:
        raise CaseError(f"{found.message} {found.remedy}")
    return [] if found is None else [found]


def scored_structures(bound: BoundCase) -> dict[str, Volume]:
    """The structures that doses must cover: all but the external contour and those beyond the
    protocol."""
    return {
        name: structure.mask
        for name, structure in bound.structures.items()
        if name != bound.external_name and (structure.channel is not None or bound.protocol is None)
    }


def check_plan_dose(view: CaseView) -> list[Finding]:
    """A plan dose that does not belong: the case is predicted, but not scored against it."""
    found = plan_finding(view.bound)
    return [] if found is None else [found]


class _Seen(NamedTuple):
    """A dose in the target that is prescribed most: near-maximum (D2 %) and mean, Gy."""

    peak_gy: float
    mean_gy: float
    prescribed_gy: float
    where: str

    @property
    def is_far(self) -> bool:
        """Far from the prescription: the hottest part too cold, or the mean too low or high."""
        peak, mean = self.peak_gy / self.prescribed_gy, self.mean_gy / self.prescribed_gy
        within = PLAN_LOWEST_MEAN_SHARE <= mean <= PLAN_HIGHEST_MEAN_SHARE
        return peak < PLAN_LOWEST_PEAK_SHARE or not within


def _in_target(bound: BoundCase, dose: Volume) -> _Seen:
    """By the highest prescribed target that is there, else the hottest, else the whole dose."""
    levels = {n: gy for n, gy in bound.prescriptions_gy.items() if n in bound.structures}
    if levels:
        name = max(levels, key=lambda each: levels[each])
        return _seen(_values(bound, dose, name), levels[name], name)
    highest_gy = max(bound.prescriptions_gy.values())
    found = [_seen(_values(bound, dose, n), highest_gy, n) for n in bound.named("target")]
    if found:
        return max(found, key=lambda seen: seen.peak_gy)
    peak_gy = float(np.percentile(dose.array, 99.9))
    return _Seen(peak_gy, peak_gy, highest_gy, "its hottest part")


def _values(bound: BoundCase, dose: Volume, name: str) -> NDArray:
    mask = bound.structures[name].mask
    box = mask.bounding_box()
    assert box is not None
    values: NDArray = dose.array[box][mask.block.astype(bool, copy=False)]
    return values


def _seen(values: NDArray, prescribed_gy: float, where: str) -> _Seen:
    peak_gy, mean_gy = float(np.percentile(values, 98)), float(values.mean(dtype=np.float64))
    return _Seen(peak_gy, mean_gy, prescribed_gy, where)


def _impossible_anywhere(dose: Volume, label: str) -> str | None:
    """Why no case can have such a dose."""
    lowest, highest = float(dose.array.min()), float(dose.array.max())
    if not (math.isfinite(lowest) and math.isfinite(highest)):  # NaN is both
        return f"{label} holds NaN or infinite doses."
    if lowest < LOWEST_DOSE_GY:
        return f"{label} holds negative doses, down to {lowest:.2f} Gy."
    if highest <= 0:
        return f"{label} is zero everywhere."
    if highest <= HIGHEST_PLAN_GY:
        return None
    likely = ""
    if 0.05 * HIGHEST_PLAN_GY <= highest / 100 <= HIGHEST_PLAN_GY:
        likely = f" It is most likely in cGy: a hundredth is {highest / 100:.4g} Gy."
    return f"{label} reaches {highest:.4g} Gy; no plan has above {HIGHEST_PLAN_GY:g} Gy.{likely}"


def _cause(seen: _Seen, fractions: int | None) -> str | None:
    """The mistake that explains a dose far from its prescription best; None: none does."""
    causes = {
        "it is most likely in cGy": 100.0,
        "it was most likely converted from cGy twice": 0.01,
        "it is most likely in percent of the prescription": 100.0 / seen.prescribed_gy,
        "it is most likely a share of the prescription": 1.0 / seen.prescribed_gy,
    }
    if fractions is not None and fractions > 3:  # of two or three, one may be missing
        causes["it is most likely the dose of one fraction"] = 1.0 / fractions
        causes["it is most likely the dose of one fraction in cGy"] = 100.0 / fractions
    ratio = seen.peak_gy / seen.prescribed_gy
    if ratio <= 0:
        return None
    away = {cause: abs(math.log(ratio / factor)) for cause, factor in causes.items()}
    best = min(away, key=lambda cause: away[cause])
    return best if away[best] < math.log(EXPLAINED_RATIO) else None
