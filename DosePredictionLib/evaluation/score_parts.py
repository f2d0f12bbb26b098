"""What is scored against a plan, one part a function: the keys of the result's JSON.

A new score is a function here and a line in `SCORES`. Each runs in steps, some planes or one
structure a turn, so that a window stays responsive and a cancellation is heard.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..mask import to_binary
from ..structures.bound import BoundCase
from ..volume import Volume
from .dvh import Dvh
from .indices import pelvic_endpoints, pelvic_score_terms
from .scores import (
    ErrorSums,
    dvh_score_terms,
    error_sums,
    error_sums_in,
    isodose_dice,
    masked_mae_after_d97,
    ssim,
)

__all__ = ["ALL_SCORES", "QUICK_SCORES", "SCORES", "Scored", "block", "structure_errors"]

_SLAB = 32  # planes a step
_HIGH_DOSE_GY = 5.0
_STEP = "Scores against the plan"

Part = Generator[str, None, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Scored:
    """What the scores are taken of.

    Args:
        bound: whose structures and region count.
        dose: Gy.
        reference: the plan's dose, Gy, on the same grid.
        curves: DVHs of the dose.
        planned: DVHs of the plan.
        body: DVH of the body in both.
    """

    bound: BoundCase
    dose: Volume
    reference: Volume
    curves: Mapping[str, Dvh]
    planned: Mapping[str, Dvh]
    body: tuple[Dvh, Dvh]

    @property
    def highest_gy(self) -> float | None:
        """The highest prescription."""
        return max(self.bound.prescriptions_gy.values(), default=None)


def _errors(scored: Scored) -> Part:
    """Errors in the body and where the plan exceeds 5 Gy, and the dose score in its region."""
    dose, reference, bound = scored.dose.array, scored.reference.array, scored.bound
    body, region = bound.external.array, bound.region
    in_body = above = everywhere = ErrorSums()
    for start in range(0, dose.shape[0], _SLAB):
        part = slice(start, start + _SLAB)
        regions = [body[part], reference[part] > _HIGH_DOSE_GY, None]
        sums = error_sums_in(dose[part], reference[part], regions)
        in_body, above, everywhere = in_body + sums[0], above + sums[1], everywhere + sums[2]
        yield _STEP
    voxels = int(np.count_nonzero(to_binary(region.block)))
    return {
        "mae_body_gy": in_body.mae_gy,
        "bias_body_gy": in_body.bias_gy,
        "mae_above_5gy_gy": above.mae_gy,
        "dose_score_gy": everywhere.absolute_gy / voxels if voxels else None,
        "dose_score_region": bound.region_name,
    }


def _ssim(scored: Scored) -> Part:
    highest = scored.highest_gy or float(scored.reference.array.max())
    yield _STEP
    body = scored.bound.external
    return {"ssim": ssim(scored.dose, scored.reference, data_range_gy=highest, region=body)}


def _dvh_score(scored: Scored) -> Part:
    """The challenge's endpoints, from each structure's box."""
    terms: dict[tuple[str, str], float] = {}
    for role in ("organ", "target"):
        for name in scored.bound.named(role):
            mask = scored.bound.structures[name].mask
            box = mask.bounding_box()
            assert box is not None
            doses = block(scored.dose, box), block(scored.reference, box)
            targets = [name] if role == "target" else []
            terms |= dvh_score_terms(*doses, {name: block(mask, box)}, targets=targets)
            yield _STEP
    return {
        "dvh_score_gy": float(np.mean(list(terms.values()))) if terms else None,
        "dvh_score_terms_gy": {f"{name} {key}": value for (name, key), value in terms.items()},
    }


def _masked_mae(scored: Scored) -> Part:
    """By the target of the highest prescription."""
    yield _STEP
    structures = scored.bound.structures
    levels = {n: gy for n, gy in scored.bound.prescriptions_gy.items() if n in structures}
    if not levels:
        return {"masked_mae_d97_gy": None}
    target = max(levels, key=lambda name: levels[name])
    value = masked_mae_after_d97(
        scored.dose,
        scored.reference,
        target=structures[target].mask,
        body=scored.bound.external,
        prescription_gy=levels[target],
    )
    return {"masked_mae_d97_gy": value}


def _pelvic(scored: Scored) -> Part:
    """The pelvic endpoint score, for a case with the one target that it speaks of."""
    yield _STEP
    prescription_gy = scored.bound.prescriptions_gy.get("PTV")
    if prescription_gy is None or "PTV" not in scored.curves:
        return {}
    ours = pelvic_endpoints(scored.curves, scored.body[0], prescription_gy)
    theirs = pelvic_endpoints(scored.planned, scored.body[1], prescription_gy)
    terms = pelvic_score_terms(ours, theirs)
    score = float(np.mean(list(terms.values()))) if terms else None
    return {"pelvic_score_points": score, "pelvic_score_terms": terms}


def _dice(scored: Scored) -> Part:
    """Isodose Dice by percent of the highest prescription; empty without one."""
    yield _STEP
    if scored.highest_gy is None:
        return {"isodose_dice": {}}
    body = scored.bound.external
    levels = isodose_dice(scored.dose, scored.reference, scored.highest_gy, region=body)
    return {"isodose_dice": {f"{level:g}": value for level, value in levels.items()}}


SCORES: Mapping[str, Callable[[Scored], Part]] = {
    "errors": _errors,
    "ssim": _ssim,
    "dvh_score": _dvh_score,
    "masked_mae": _masked_mae,
    "pelvic": _pelvic,
    "isodose_dice": _dice,
}
"""Parts of the scores, in the order of the result."""

ALL_SCORES = frozenset({*SCORES, "structures"})
QUICK_SCORES = frozenset({"errors", "dvh_score"})
"""What a window waits for; `structures` are the errors of each structure's voxels."""


def structure_errors(
    scored: Scored,
) -> Generator[str, None, dict[str, dict[str, float | None]]]:
    """Mean absolute difference and mean difference in each structure, whose occupancy weighs."""
    result = {}
    for name, structure in scored.bound.structures.items():
        box = structure.mask.bounding_box()
        assert box is not None
        sums = error_sums(
            block(scored.dose, box), block(scored.reference, box), block(structure.mask, box)
        )
        result[name] = {"mae_gy": sums.mae_gy, "bias_gy": sums.bias_gy}
        yield f"Errors in {name}"
    return result


def block(volume: Volume, box: tuple[slice, slice, slice]) -> Volume:
    """The block of a volume that slices (z, y, x) cut out."""
    z, y, x = box
    size = (x.stop - x.start, y.stop - y.start, z.stop - z.start)
    return Volume(volume.within(box), volume.grid.cropped((x.start, y.start, z.start), size))
