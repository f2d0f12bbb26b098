"""A distribution of patients from their numbers: robust statistics, correlation, threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import DosePredictionError
from .anatomy import PRESENT
from .distribution import SCHEMA_VERSION, WINSORISED, Apart, Distribution, Measured

__all__ = ["FEWEST", "Identity", "fit_distribution"]

Array = NDArray[np.float64]

FEWEST = 40
"""Patients without whom correlations of dozens of numbers say nothing."""

FOLDS = 10
SHRINKAGE = 0.5
"""The share of independence in the correlation matrix; chosen on the perturbed OpenKBP patients."""
SHARE_PERCENT = 95.0

_REGULAR = 97.0
_GAUSSIAN = 2.170  # of which 97 % do not exceed it in absolute value
_LOWEST = {"alone": 1.0, "by_rest": 0.6}
_FEWEST_OF_ONE = 20
_FLOORS = {
    "prescription": 2.0,
    "technique": 0.1,
    **dict.fromkeys(("volume", "area"), 0.05),
    **dict.fromkeys(("apart", "flatness"), 0.03),
    **dict.fromkeys(("left", "back", "up", "length", "above", "below"), 2.0),
    **dict.fromkeys(("hu_low", "hu_middle", "hu_high", "soft_tissue"), 5.0),
    **dict.fromkeys(("noise", "fat", "bone"), 1.0),
    "metal": 0.7,
    "in_target": 0.7,
    "in_organ": 0.7,
    "cut": 5.0,
    "spacing": 0.05,
    "air": 0.5,
    PRESENT: 0.07,
}
"""Measure → the smallest standard deviation that is believed, in its own unit."""


@dataclass(frozen=True)
class Identity:
    """Whose distribution it is; see `Distribution`."""

    model: str
    weights_sha256: tuple[str, ...]
    protocol: str
    cohort: str = ""


def fit_distribution(patients: Sequence[Mapping[str, float]], identity: Identity) -> Distribution:
    """The distribution of patients' numbers.

    How far regular patients deviate, and the threshold, come from patients that are scored by the
    statistics of the nine tenths that they are not in.

    Args:
        patients: of `anatomy`.

    Raises:
        DosePredictionError: there are too few, or a number is infinite.
    """
    if len(patients) < FEWEST:
        raise DosePredictionError(
            f"{len(patients)} patients cannot say what is usual: that takes {FEWEST} or more."
        )
    every = [name for numbers in patients for name in numbers]
    names = [n for n in sorted(set(every)) if every.count(n) >= _FEWEST_OF_ONE]
    table = np.array([[numbers.get(name, np.nan) for name in names] for numbers in patients])
    if np.isinf(table).any():
        raise DosePredictionError("A number of a patient is infinite: leave that patient out.")
    whole = _fitted(table, names, identity)
    folds = np.random.default_rng(0).permutation(len(patients)) % FOLDS
    parts = [_fitted(table[folds != fold], names, identity) for fold in range(FOLDS)]
    apart = [parts[fold].raw(numbers) for fold, numbers in zip(folds, patients, strict=True)]
    measures = [_comparable(each, index, apart) for index, each in enumerate(whole.measures)]
    directions = {}
    for name in whole.directions:
        moved = [a.directions[name][0] for a in apart if name in a.directions]
        directions[name] = round(max(_regular(moved), 1.0), 4) if moved else 1.0
    parts = [
        replace(part, measures=_normalised(part, measures), directions=directions) for part in parts
    ]
    scores = [
        parts[fold].deviations(numbers)[0].score
        for fold, numbers in zip(folds, patients, strict=True)
    ]
    rank = min(math.ceil((len(scores) + 1) * SHARE_PERCENT / 100), len(scores))
    threshold = round(float(np.sort(scores)[rank - 1]), 4)
    return replace(whole, threshold=threshold, measures=tuple(measures), directions=directions)


def _comparable(each: Measured, index: int, apart: Sequence[Apart]) -> Measured:
    """The number with how far regular patients deviate in it."""
    mine = [(a, int(np.flatnonzero(a.known == index)[0])) for a in apart if index in a.known]
    by_rest = max(_regular([a.by_rest[place] for a, place in mine]), _LOWEST["by_rest"])
    alone = max(_regular([a.alone[place] for a, place in mine]), _LOWEST["alone"])
    if each.measure == PRESENT:  # a missing organ deviates by how rare that is
        alone = 1.0
    return replace(each, alone=round(alone, 4), by_rest=round(by_rest, 4))


def _normalised(part: Distribution, measures: Sequence[Measured]) -> tuple[Measured, ...]:
    return tuple(
        replace(each, alone=whole.alone, by_rest=whole.by_rest)
        for each, whole in zip(part.measures, measures, strict=True)
    )


def _regular(deviations: Sequence[float]) -> float:
    """How far regular patients deviate, as a multiple of a Gaussian's standard deviation."""
    return float(np.percentile(deviations, _REGULAR)) / _GAUSSIAN


def _fitted(table: Array, names: Sequence[str], identity: Identity) -> Distribution:
    """Statistics and correlation, with no threshold yet.

    Args:
        table: `(patients, numbers)`; NaN where a patient has none.
    """
    measures = [_measured(name, column) for name, column in zip(names, table.T, strict=True)]
    matrix = _correlation(table, measures)
    lower = matrix[np.tril_indices(len(names), -1)]
    return Distribution(
        schema_version=SCHEMA_VERSION,
        model=identity.model,
        weights_sha256=identity.weights_sha256,
        protocol=identity.protocol,
        patients=len(table),
        measures=tuple(measures),
        correlation=tuple(round(float(value), 3) for value in lower),
        threshold=0.0,
        share_percent=SHARE_PERCENT,
        directions={"size": 1.0, "hu": 1.0},
        cohort=identity.cohort,
    )


def _measured(name: str, column: Array) -> Measured:
    known = column[~np.isnan(column)]
    measure = name.rpartition(".")[2]
    floor = _FLOORS.get(measure, 1e-3)
    low, first, middle, third, high = np.percentile(known, (1, 25, 50, 75, 99))
    scale = max((third - first) / 1.349, known.std() / 2, floor)
    if measure == PRESENT:  # two values have no quartiles
        middle, scale = known.mean(), max(known.std(), floor)
    away = np.clip((known - middle) / scale, -WINSORISED, WINSORISED)
    spread = 1.0 if measure == PRESENT else max(float(np.sqrt(np.mean(away**2))), 1e-3)
    return Measured(name, *(round(float(v), 5) for v in (middle, scale, low, high, spread)))


def _correlation(table: Array, measures: Sequence[Measured]) -> Array:
    """The shrunk correlation of the winsorised numbers, over the patients who have both."""
    away = (table - [each.median for each in measures]) / [each.scale for each in measures]
    known = ~np.isnan(away)
    away = np.where(known, np.clip(away, -WINSORISED, WINSORISED), 0.0)
    counts = known.astype(float)
    covariance = away.T @ away / np.maximum(counts.T @ counts, 1)
    spread = np.sqrt(np.maximum(np.diag(covariance), 1e-6))
    shrunk: Array = np.clip((1 - SHRINKAGE) * covariance / np.outer(spread, spread), -1, 1)
    np.fill_diagonal(shrunk, 1.0)
    return shrunk
