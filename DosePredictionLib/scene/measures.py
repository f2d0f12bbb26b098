"""The numbers of a result, one structure a step: DVHs, scores against the plan, goals."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..evaluation.arrays import bounding_box
from ..evaluation.curve import VolumeCurve
from ..evaluation.dvh import Dvh, dvh
from ..evaluation.goals import GoalSet, evaluate_goals
from ..evaluation.scores import bias, dose_score, dvh_score_terms, mae, mae_above
from ..evaluation.surface import MARGIN
from ..mapping import find_structure
from ..prediction import Prediction
from ..protocol import StructureProtocol
from ..summary import scored_structures
from ..volume import Volume

__all__ = ["GoalResults", "Measures", "judge", "measure_steps"]

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


def measure_steps(prediction: Prediction, plan: Volume | None) -> Generator[str, None, Measures]:
    """Measure a prediction; yields what it did in words, returns the numbers."""
    protocol = prediction.model.protocol
    named = scored_structures(prediction.case, protocol, prediction.mapping)
    masks = {key: mask for key, (mask, _) in named.items()}
    roles = {key: channel.role for key, (_, channel) in named.items() if channel is not None}
    external = next((key for key, role in roles.items() if role == "external"), None)
    predicted: dict[str, Dvh] = {}
    planned: dict[str, Dvh] = {}
    for key, mask in masks.items():
        predicted[key] = _dvh_of(prediction.dose, mask, key)
        yield f"DVH of {key}"
        if plan is not None:
            planned[key] = _dvh_of(plan, mask, key)
            yield f"DVH of {key} in the plan"
    if external is not None:
        body = (predicted[external], planned.get(external))
    else:
        of_prediction = _dvh_of(prediction.dose, prediction.external, _BODY)
        yield "DVH of the body"
        of_plan = None if plan is None else _dvh_of(plan, prediction.external, _BODY)
        yield "DVH of the body in the plan"
        body = (of_prediction, of_plan)
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


def _dvh_of(dose: Volume, mask: Volume, name: str) -> Dvh:
    """A DVH that looks only at the voxels around the structure."""
    box = bounding_box(mask.array, MARGIN)
    if box is None:
        return dvh(dose, mask, name=name)
    if np.count_nonzero(mask.array[box]) > _MANY_VOXELS:
        return _dvh_of_voxels(_block(dose, box), _block(mask, box), name)
    return dvh(_block(dose, box), _block(mask, box), name=name)


def _dvh_of_voxels(dose: Volume, mask: Volume, name: str) -> Dvh:
    """The DVH of a large structure (a body) from its voxels' own doses, in bins of 0.01 Gy.

    A window cannot wait for the interpolation between millions of voxels, which changes less here
    than a bin is wide. Of more than two million voxels every second, third … row and column
    stands for the others; volume, lowest and highest dose are of all.
    """
    inside = mask.array > 0
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
