"""The numbers of a prediction, one structure a step: DVHs, scores against the plan, goals."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..app.summary import scored_structures
from ..case import Case
from ..geometry import bounding_box
from ..mask import Mask
from ..prediction import Prediction
from ..structures.mapping import StructureMapping, find_structure
from ..structures.protocol import StructureProtocol
from ..volume import Volume
from .curve import VolumeCurve
from .dvh import Dvh, DvhRegion
from .goals import GoalSet, evaluate_goals
from .scores import bias, dose_score, dvh_score_terms, mae, mae_above
from .surface import MARGIN

__all__ = [
    "GoalResults",
    "MeasuredCase",
    "Measures",
    "judge",
    "measure_case_steps",
    "measure_steps",
]

GoalResults = Sequence[Mapping[str, Any]]
_BODY = "Body"
_MANY_VOXELS = 300_000
_MOST_VOXELS = 2_000_000
_BIN_GY = 0.01
_SLAB = 32  # planes scored in one step


@dataclass(frozen=True, eq=False)
class Measures:
    """The numbers of a dose and of the plan's.

    Args:
        predicted: DVHs by the structure's key, in display order.
        planned: those of the plan; None without one.
        body: predicted and planned DVH of the external contour, for indices.
        targets: keys that are targets.
        external: key of the external contour, if it is among the structures.
        prescriptions_gy: target's key → Gy.
        evaluation: scores against the plan, by the keys of `evaluate_case`; None without one.
    """

    predicted: Mapping[str, Dvh]
    planned: Mapping[str, Dvh] | None
    body: tuple[Dvh, Dvh | None]
    targets: tuple[str, ...]
    external: str | None
    prescriptions_gy: Mapping[str, float]
    evaluation: Mapping[str, float | None] | None


@dataclass(frozen=True, eq=False)
class MeasuredCase:
    """What can be measured before there is a prediction.

    Args:
        assigned: channel → structure; a prediction of another mapping cannot use it.
        structures: by the key of `Measures`.
        planned: DVHs of the plan; None without one.
    """

    assigned: Mapping[str, str]
    structures: Mapping[str, _Structure]
    planned: Mapping[str, Dvh] | None


def measure_case_steps(
    case: Case, protocol: StructureProtocol, mapping: StructureMapping
) -> Generator[str, None, MeasuredCase]:
    """Measure a case without a prediction, a structure a step."""
    structures, planned = {}, {}
    for key, (mask, _) in scored_structures(case, protocol, mapping).items():
        structures[key] = _Structure(mask, key)
        if case.plan_dose is not None:
            planned[key] = structures[key].dvh(case.plan_dose)
        yield f"DVH of {key} in the plan"
    return MeasuredCase(mapping.assigned, structures, planned if case.plan_dose else None)


def measure_steps(
    prediction: Prediction, plan: Volume | None, measured: MeasuredCase | None = None
) -> Generator[str, None, Measures]:
    """Measure a prediction; yields what it did in words, returns the numbers.

    Args:
        plan: the plan's dose, on the prediction's grid.
        measured: what is known of its case already.
    """
    protocol = prediction.model.protocol
    named = scored_structures(prediction.case, protocol, prediction.mapping)
    masks = {key: mask for key, (mask, _) in named.items()}
    roles = {key: channel.role for key, (_, channel) in named.items() if channel is not None}
    external = next((key for key, role in roles.items() if role == "external"), None)
    if measured is None or measured.assigned != prediction.mapping.assigned:
        measured = MeasuredCase({}, {}, None)
    known = measured.planned or {}
    predicted: dict[str, Dvh] = {}
    planned: dict[str, Dvh] = {}
    for key, mask in masks.items():
        structure = measured.structures.get(key) or _Structure(mask, key)
        predicted[key] = structure.dvh(prediction.dose)
        if plan is not None:
            planned[key] = known.get(key) or structure.dvh(plan)
        yield f"DVH of {key}"
    if external is not None:
        body = (predicted[external], planned.get(external))
    else:
        structure = _Structure(prediction.external, _BODY)
        body = (structure.dvh(prediction.dose), None if plan is None else structure.dvh(plan))
        yield "DVH of the body"
    evaluation: dict[str, float | None] | None = None
    if plan is not None:
        evaluation = yield from _score_steps(prediction, plan, masks, roles)
    by_structure = {name: channel for channel, name in prediction.mapping.assigned.items()}
    levels = prediction.prescription.target_gy
    return Measures(
        predicted=predicted,
        planned=planned if plan is not None else None,
        body=body,
        targets=tuple(key for key, role in roles.items() if role == "target"),
        external=external,
        prescriptions_gy={by_structure.get(name, name): gy for name, gy in levels.items()},
        evaluation=evaluation,
    )


def judge(
    goals: GoalSet,
    curves: Mapping[str, Dvh],
    body: Dvh | None,
    protocol: StructureProtocol,
    prescriptions_gy: Mapping[str, float],
) -> GoalResults:
    """Whether a dose meets each goal; structures are found by the protocol's spellings."""
    names = list(curves)
    return evaluate_goals(
        goals,
        curves,
        resolve=lambda query: find_structure(query, names, protocol),
        prescriptions_gy=prescriptions_gy,
        body=body,
    )


def _score_steps(
    prediction: Prediction, plan: Volume, masks: Mapping[str, Volume], roles: Mapping[str, str]
) -> Generator[str, None, dict[str, float | None]]:
    scores: dict[str, float | None] = {}
    dose, body = prediction.dose, prediction.external
    region = prediction.case.dose_mask or body
    planes, rows, columns = dose.array.shape
    measures: dict[str, Callable[..., float | None]] = {
        "mae_body_gy": mae,
        "bias_body_gy": bias,
    }
    sums = dict.fromkeys((*measures, "mae_above_5gy_gy"), 0.0)
    weights = dict.fromkeys(sums, 0.0)
    for start in range(0, planes, _SLAB):
        slab = (slice(start, min(start + _SLAB, planes)), slice(0, rows), slice(0, columns))
        parts = [_block(volume, slab) for volume in (dose, plan, body)]
        amounts = {name: float(parts[2].array.sum(dtype=np.float64)) for name in measures}
        amounts["mae_above_5gy_gy"] = float(np.count_nonzero(parts[1].array > 5.0))
        values = {name: measure(*parts) for name, measure in measures.items()}
        values["mae_above_5gy_gy"] = mae_above(parts[0], parts[1], 5.0)
        for name, value in values.items():
            sums[name] += (value or 0.0) * amounts[name]
            weights[name] += amounts[name]
        yield "Scores against the plan"
    scores |= {name: sums[name] / weights[name] if weights[name] else None for name in sums}
    scores["dose_score_gy"] = dose_score(dose, plan, region)
    yield "Scores against the plan"
    terms: dict[tuple[str, str], float] = {}
    for key, mask in masks.items():
        box = bounding_box(mask.array) if roles.get(key) in ("target", "organ") else None
        if box is None:
            continue
        part = {key: _block(mask, box)}
        targets = [key] if roles[key] == "target" else []
        terms |= dvh_score_terms(_block(dose, box), _block(plan, box), part, targets=targets)
        yield "Scores against the plan"
    scores["dvh_score_gy"] = float(np.mean(list(terms.values()))) if terms else None
    return scores


class _Structure:
    """A structure, cut out with the voxels around it that its DVHs depend on."""

    def __init__(self, mask: Volume, name: str) -> None:
        self._name = name
        self._box = bounding_box(mask.array, MARGIN)
        self._mask = mask if self._box is None else _block(mask, self._box)
        self._is_large = np.count_nonzero(self._mask.array) > _MANY_VOXELS
        self._region = None if self._is_large else DvhRegion(self._mask, name)

    def dvh(self, dose: Volume) -> Dvh:
        """The DVH in a dose on the mask's whole grid."""
        block = dose if self._box is None else _block(dose, self._box)
        if self._region is None:
            return _dvh_of_voxels(block, self._mask, self._name)
        return self._region.dvh(block)


def _dvh_of_voxels(dose: Volume, mask: Volume, name: str) -> Dvh:
    """The DVH of a large structure (a body) from its voxels' own doses, in bins of 0.01 Gy.

    Nobody waits for the interpolation between millions of voxels, which changes less here
    than a bin is wide. Of more than two million voxels every second, third … row and column
    stands for the others; volume, lowest and highest dose are of all.
    """
    mask = Mask.of(mask)
    inside = mask.touched()
    step = int(np.ceil(np.sqrt(np.count_nonzero(inside) / _MOST_VOXELS)))
    thinned = (slice(None), slice(None, None, step), slice(None, None, step))
    chosen = inside[thinned]
    values_gy = dose.array[thinned][chosen]
    shares = None if mask.array.dtype == bool else mask.array[thinned][chosen]
    bins = (np.clip(values_gy, 0, None) / _BIN_GY).astype(np.int32)
    volume = np.bincount(bins, shares).astype(np.float64)
    total_cc = float(mask.array.sum(dtype=np.float64)) * dose.grid.voxel_volume_cc
    above = np.clip(volume.sum() - np.append(0.0, np.cumsum(volume)), 0, None)
    above[-1] = 0.0
    knots_gy = np.arange(above.size, dtype=np.float64) * _BIN_GY
    return Dvh(
        name=name,
        volume_cc=total_cc,
        min_gy=float(dose.array.min(where=inside, initial=np.inf)),
        max_gy=float(dose.array.max(where=inside, initial=0.0)),
        mean_gy=float(np.average(values_gy, weights=shares)),
        curve=VolumeCurve(knots_gy, above * (total_cc / above[0])),
    )


def _block(volume: Volume, box: tuple[slice, slice, slice]) -> Volume:
    z, y, x = box
    size = (x.stop - x.start, y.stop - y.start, z.stop - z.start)
    return Volume(volume.array[box], volume.grid.cropped((x.start, y.start, z.start), size))
