"""`distribution.json`: what the patients were like whom a model was made on, and how unlike them a
case is.

Beside a model's weights, and bound to them by their checksums. Each number of `anatomy` is held
against the patients' in two ways: alone, by robust quantiles, and by what the case's other numbers
let expect, by a Gaussian of winsorised numbers whose correlation matrix is shrunk towards
independence (Ledoit and Wolf 2004, doi 10.1016/S0047-259X(03)00096-4, give the idea; the share is a
constant here). Two directions that move everything are looked for as well: a scale of the whole
anatomy, by a matched filter in that Gaussian (the linear discriminant of Fisher 1936, doi
10.1111/j.1469-1809.1936.tb02137.x), so that large patients do not look scaled, and a shift of the
CT's values, whose numbers are too few and too outlying for that. The score is the largest of these
deviations; the threshold is the score that a stated share of the patients does not exceed, each
left out of the statistics that score it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..findings import Finding
from ..models.manifest import ModelFolder
from ..schema import (
    FieldError,
    FreeText,
    Length,
    Name,
    Pattern,
    Range,
    read_versioned,
    validated,
)
from .anatomy import MEASURES, PRESENT, TARGETS

__all__ = [
    "DISTRIBUTION_FILE",
    "EVERYTHING",
    "WINSORISED",
    "Apart",
    "Deviation",
    "Distribution",
    "Measured",
    "model_distribution",
    "read_distribution",
    "usable_distribution",
]

Array = NDArray[np.float64]

DISTRIBUTION_FILE = "distribution.json"
"""In a model's folder."""

SCHEMA_VERSION, SCHEMA_MINOR = 1, 1

EVERYTHING = "everything"
"""The part of the deviations `size` and `hu`."""

WINSORISED = 4.0
"""Robust standard deviations beyond which a patient's number counts no further for correlations."""

_FARTHEST = 50.0
_SMALLEST_SPREAD = 0.3
_WEIGHTS = {"number": 0.9, PRESENT: 1.5, "size": 2.8, "hu": 1.3}
"""What deviations count; chosen on the perturbed OpenKBP validation patients."""
_SIZES = {"volume": 3.0, "area": 2.0, "apart": 1.0, "spacing": 1.0}
_LENGTHS = frozenset({"left", "back", "up", "length"})
_HU_MEASURES = frozenset({"hu_low", "hu_middle", "hu_high", "soft_tissue"})

_Sha256 = Annotated[str, Pattern("[0-9a-f]{64}", "a SHA-256 of 64 hexadecimal digits")]
_Number = Annotated[float, Range(-1e6, 1e6)]
_Positive = Annotated[float, Range(0, 1e6, above=True)]


class Deviation(NamedTuple):
    """How far one number of a case lies from the patients'.

    Args:
        part, measure: which, as `anatomy` says; `everything` and `size` or `hu` for the directions.
        score: comparable between numbers.
        value: of the case; of the directions, the factor of sizes or the HU that were added.
        low, high: between which 98 % of the patients lie.
        expected: from the case's other numbers; None where the number alone is unlike theirs.
    """

    part: str
    measure: str
    score: float
    value: float
    low: float
    high: float
    expected: float | None = None


class Apart(NamedTuple):
    """How far each number of a case lies from the patients', in standard deviations.

    Args:
        known: places among the measures, `(n,)`.
        values: of the case.
        alone, by_rest: beside the median, and beside what the other numbers let expect.
        expected: by the other numbers.
        directions: name → standard deviations along it, and by how much the case was moved.
    """

    known: NDArray[np.int64]
    values: Array
    alone: Array
    by_rest: Array
    expected: Array
    directions: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
@validated
class Measured:
    """One number of the patients.

    Args:
        name: `part.measure`.
        median, scale: robust mean and standard deviation.
        low, high: the 1st and the 99th percentile.
        spread: standard deviation of the winsorised deviations, in units of `scale`.
        alone, by_rest: how far regular patients deviate, as a multiple of a Gaussian's.
    """

    name: Name
    median: _Number
    scale: _Positive
    low: _Number
    high: _Number
    spread: _Positive = 1.0
    alone: _Positive = 1.0
    by_rest: _Positive = 1.0

    @property
    def part(self) -> str:
        """A channel, or one of `anatomy`'s own parts."""
        return self.name.rpartition(".")[0]

    @property
    def measure(self) -> str:
        """A key of `MEASURES`."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
@validated
class Distribution:
    """A model's distribution of patients, as `distribution.json` holds it.

    Args:
        schema_version: version of this format.
        model: its name when it was made, for people.
        weights_sha256: checksums of all its networks, in the model's order.
        protocol: id.
        patients: how many they are.
        measures: in the order of `correlation`.
        correlation: the shrunk matrix's lower triangle below the diagonal, row by row.
        threshold: the score above which a case is called foreign.
        share_percent: of the patients whose score does not exceed the threshold.
        directions: how far regular patients deviate along `size` and `hu`, as `Measured.by_rest`.
            That of `size` is of the unfiltered direction in a file before version 1.1.
        cohort: what the patients are, in words.
        schema_minor: which additions to this version of the format the file may hold.
    """

    schema_version: Annotated[int, Range(1, SCHEMA_VERSION)]
    model: Name
    weights_sha256: Annotated[tuple[_Sha256, ...], Length(1, 101)]
    protocol: Name
    patients: Annotated[int, Range(1, 1_000_000)]
    measures: Annotated[tuple[Measured, ...], Length(2, 1000)]
    correlation: Annotated[tuple[Annotated[float, Range(-1, 1)], ...], Length(1, 1_000_000)]
    threshold: Annotated[float, Range(0, 1000)]
    share_percent: Annotated[float, Range(50, 100)]
    directions: Mapping[Name, _Positive]
    cohort: FreeText = ""
    schema_minor: Annotated[int, Range(0, 10_000)] = SCHEMA_MINOR

    def __post_init__(self) -> None:
        count = len(self.measures)
        if len(self.correlation) != count * (count - 1) // 2:
            raise FieldError("correlation", f"must have a number for each pair of {count}.")
        for each in self.measures:
            if each.measure not in MEASURES:
                raise FieldError("measures", f"has the unknown measure {each.name!r}.")
        if set(self.directions) != {"size", "hu"}:
            raise FieldError("directions", "must have 'size' and 'hu', and nothing else.")

    def summary(self) -> dict[str, Any]:
        """What is to be said of it on a card, as JSON types."""
        return {
            "patients": self.patients,
            "cohort": self.cohort,
            "numbers": len(self.measures),
            "threshold": self.threshold,
            "share_percent": self.share_percent,
        }

    @cached_property
    def matrix(self) -> Array:
        """The correlation matrix, positive definite."""
        count = len(self.measures)
        matrix = np.eye(count)
        matrix[np.tril_indices(count, -1)] = self.correlation
        matrix = matrix + matrix.T - np.eye(count)
        values, vectors = np.linalg.eigh(matrix)
        return np.asarray((vectors * np.maximum(values, 0.02)) @ vectors.T)

    def deviations(self, numbers: Mapping[str, float]) -> list[Deviation]:
        """How far the numbers of a case lie from the patients', the farthest first.

        Args:
            numbers: of `anatomy`; those that were not made of the patients do not count.
        """
        apart = self.raw(numbers)
        found = []
        columns = (column.tolist() for column in apart[:5])
        for index, value, alone, by_rest, expected in zip(*columns, strict=True):
            each = self.measures[index]
            weight = _WEIGHTS.get(each.measure, _WEIGHTS["number"])
            alone, by_rest = (
                weight * alone / each.alone,
                _WEIGHTS["number"] * by_rest / each.by_rest,
            )
            score, foreseen = max(alone, by_rest), expected if by_rest > alone else None
            found.append(
                Deviation(each.part, each.measure, score, value, each.low, each.high, foreseen)
            )
        for name, (score, amount) in apart.directions.items():
            is_filtered = name == "size" and self.schema_minor > 0
            score *= _WEIGHTS["size" if is_filtered else "hu"] / self.directions[name]
            amount = math.exp(min(max(amount, -5.0), 5.0)) if name == "size" else amount
            found.append(Deviation(EVERYTHING, name, score, amount, 0.0, 0.0))
        return sorted(found, key=lambda deviation: -deviation.score)

    def raw(self, numbers: Mapping[str, float]) -> Apart:
        """The deviations before they are made comparable."""
        known = [index for index, each in enumerate(self.measures) if each.name in numbers]
        measures = [self.measures[index] for index in known]
        values = np.array([numbers[each.name] for each in measures], dtype=np.float64)
        unit = np.array([each.scale * max(each.spread, _SMALLEST_SPREAD) for each in measures])
        away = (values - np.array([each.median for each in measures])) / unit
        bounded = np.clip(away, -_FARTHEST, _FARTHEST)
        inverse = np.linalg.inv(self.matrix[np.ix_(known, known)])
        precision = np.asarray(inverse, dtype=np.float64)
        pulled, pull = precision @ bounded, np.diag(precision)
        moved = self._moved(measures, unit, away, precision)
        directions = {name: along for name, along in moved.items() if along is not None}
        by_rest, expected = np.abs(pulled) / np.sqrt(pull), values - pulled / pull * unit
        return Apart(np.array(known), values, np.abs(bounded), by_rest, expected, directions)

    def _moved(
        self, measures: Sequence[Measured], unit: Array, away: Array, precision: Array
    ) -> dict[str, tuple[float, float] | None]:
        """How far the case is moved where the anatomy grows by a factor of e, the CT by 1 HU.

        Targets do not count: they are as large as the disease. A file of version 1.0 has its
        `size` without a filter, and without lengths.
        """
        bounded = np.clip(away, -_FARTHEST, _FARTHEST)
        independent = np.eye(len(measures), dtype=np.float64)
        hu = np.array([m.measure in _HU_MEASURES for m in measures]) / unit
        sizes = [_SIZES.get(m.measure, 0.0) * (m.part != TARGETS) for m in measures]
        lengths = [m.median * (m.measure in _LENGTHS and m.part != TARGETS) for m in measures]
        if self.schema_minor > 0:
            regular = np.clip(away, -WINSORISED, WINSORISED)  # one odd organ is no scale
            grown = (np.array(sizes) + np.array(lengths)) / unit
            size = _along(grown, regular, precision, regular)
        else:
            size = _along(np.array(sizes) / unit, bounded, independent, away)
        return {"size": size, "hu": _along(hu, bounded, independent, away)}


def _along(
    direction: Array, bounded: Array, precision: Array, away: Array
) -> tuple[float, float] | None:
    """Standard deviations along a direction, and by how much a case was moved; None: no number
    moves along it.

    Args:
        direction, bounded, away: in standard deviations of each number, `(n,)`; the case's lie
            `away`, and `bounded` is what counts for the first.
        precision: the inverse of their correlation, `(n, n)`.
    """
    filtered = precision @ direction
    strength = float(direction @ filtered)
    if strength <= 0:
        return None
    return abs(float(filtered @ bounded)) / math.sqrt(strength), float(filtered @ away) / strength


def read_distribution(path: Path) -> Distribution:
    """A distribution from its file.

    Raises:
        ModelError: it is missing, of a newer version, or malformed.
    """
    return read_versioned(
        Distribution, path, (SCHEMA_VERSION, SCHEMA_MINOR), "distribution of patients", ModelError
    )


def usable_distribution(model: ModelFolder) -> tuple[Distribution | None, list[Finding]]:
    """The distribution in a model's folder, or None and why it cannot be used.

    A prediction stands without it.
    """
    try:
        return model_distribution(model), []
    except ModelError as exception:
        message = f"Nobody looked whether the case is like the model's patients: {exception}"
        remedy = f"Remove or renew the model's {DISTRIBUTION_FILE}."
        return None, [Finding("distribution-unusable", "warning", message, remedy)]


def model_distribution(model: ModelFolder) -> Distribution | None:
    """The distribution in a model's folder; None: it has none.

    Raises:
        ModelError: it cannot be read, or is of other weights or another protocol.
    """
    path = model.folder / DISTRIBUTION_FILE
    if not path.is_file():
        return None
    found, manifest = read_distribution(path), model.manifest
    weights = manifest.checksums
    if found.weights_sha256 != weights or found.protocol != manifest.protocol:
        raise ModelError(
            f"{path} was made for the weights {found.weights_sha256[0][:12]}… and the protocol "
            f"{found.protocol}, the model {manifest.name} has {weights[0][:12]}… and "
            f"{manifest.protocol}: make it again by `python -m training distribution`."
        )
    return found
