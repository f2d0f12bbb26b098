"""`calibration.json`: how far plans lay from a model's predictions, and the bands that follow.

Made of patients whose plans did not shape the weights. It is bound to the weights by their
checksums, to the protocol and to the prescription, and is refused with others. The format has a
version and a minor version, as `models.manifest` says.

Records are those of `evaluate` with `curves`: `structures` holds each endpoint of prediction and
plan, `curves` the dose at 1, 2, … 99 % of each structure's volume in both, `goals` further
endpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..ranges import DoseGy
from ..schema import (
    FieldError,
    FreeText,
    Length,
    Name,
    Pattern,
    Range,
    from_json,
    read_versioned,
    validated,
)
from .conformal import (
    SCALE_FLOOR_GY,
    conformal_quantile,
    curve_scores,
    monotone_band,
    residual_interval,
    smallest_count,
)
from .result import Evaluation
from .widths import VOLUMES_PERCENT, StructureWidths, Widths, curve_doses

__all__ = [
    "CALIBRATION_FILE",
    "LEVELS",
    "VOLUMES_PERCENT",
    "Calibration",
    "CohortErrors",
    "LevelCoverage",
    "StructureCalibration",
    "calibrated_structures",
    "cohort_errors",
    "curve_doses",
    "curve_error",
    "endpoint_pairs",
    "read_calibration",
    "recorded_widths",
]

Array = NDArray[np.float64]
Record = Mapping[str, Any]

CALIBRATION_FILE = "calibration.json"
"""In a model's folder."""

SCHEMA_VERSION, SCHEMA_MINOR = 1, 2
"""1: `predictions`. 2: `grid`, `widths`, `curve_ratios` and both interval scores."""

LEVELS = (90, 50)
"""Percents that bands hold."""

WIDTH_FLOOR = 0.5
"""What a width counts at least, in its endpoint's unit, and is added to it."""

_FEWEST = smallest_count(max(LEVELS))
_MOST = 100_000
_SAME_PRESCRIPTION = 0.01

_Sha256 = Annotated[str, Pattern("[0-9a-f]{64}", "a SHA-256 of 64 hexadecimal digits")]
_Residual = Annotated[float, Range(-1e6, 1e6)]
_Score = Annotated[float, Range(0, 1e6)]
_Percent = Annotated[float, Range(0, 100)]


@dataclass(frozen=True)
@validated
class StructureCalibration:
    """How far plans lay from predictions in one structure.

    Args:
        endpoints: endpoint key → plan minus prediction of each patient, rising, in the key's unit.
        curve_scale_gy: what deviations of the curve are measured by at 1, 2, … 99 % of the volume.
        curve_scores: `conformal.curve_scores` of each patient, rising.
        predictions: endpoint key → what was predicted for the patients, in the order of the
            residuals; without those of a file of version 1.0.
        widths: endpoint key → how wide the expected error made the endpoint (`evaluation.widths`),
            in the order of the residuals; empty where the model has no head that knows it.
        curve_ratios: the highest |error| / (width + 0.5 Gy) along the curve of each patient,
            rising; likewise.
    """

    endpoints: Annotated[
        Mapping[Name, Annotated[tuple[_Residual, ...], Length(_FEWEST, _MOST)]], Length(0, 100)
    ]
    curve_scale_gy: Annotated[
        tuple[Annotated[float, Range(0, 1000, above=True)], ...],
        Length(len(VOLUMES_PERCENT), len(VOLUMES_PERCENT)),
    ]
    curve_scores: Annotated[tuple[_Score, ...], Length(_FEWEST, _MOST)]
    predictions: Annotated[
        Mapping[Name, Annotated[tuple[_Residual, ...], Length(_FEWEST, _MOST)]], Length(0, 100)
    ] = field(default_factory=dict)
    widths: Annotated[
        Mapping[Name, Annotated[tuple[_Score, ...], Length(_FEWEST, _MOST)]], Length(0, 100)
    ] = field(default_factory=dict)
    curve_ratios: Annotated[tuple[_Score, ...], Length(0, _MOST)] = ()

    def __post_init__(self) -> None:
        for name, beside in (("predictions", self.predictions), ("widths", self.widths)):
            for key, values in beside.items():
                if len(values) != len(self.endpoints.get(key, ())):
                    raise FieldError(
                        name, f"must have one of {key} for each residual; got {len(values)}."
                    )

    @property
    def plain(self) -> StructureCalibration:
        """The residuals as they were measured."""
        return self

    def for_case(self, widths: StructureWidths | None) -> StructureCalibration:
        """The same with residuals as a case of these widths has them.

        Each is divided by its own patient's width and multiplied by the case's (normalised
        conformal intervals: Papadopoulos et al. 2008, doi 10.5772/6078); curves likewise. Without
        widths, of the case or of the calibration, nothing changes.
        """
        if widths is None or not self.widths or not self.curve_ratios:
            return self
        endpoints = {
            key: tuple(
                residual * (widths.endpoints[key] + WIDTH_FLOOR) / (own + WIDTH_FLOOR)
                for residual, own in zip(residuals, self.widths[key], strict=True)
            )
            if key in self.widths and key in widths.endpoints
            else residuals
            for key, residuals in self.endpoints.items()
        }
        scale = tuple(each + SCALE_FLOOR_GY for each in widths.curve_gy)
        adapted = _OfCase(endpoints, scale, self.curve_ratios, self.predictions)
        object.__setattr__(adapted, "measured", self)
        return adapted

    def endpoint(self, key: str, value: NDArray | float, percent: int) -> tuple[NDArray, NDArray]:
        """Where the plan's endpoint lies beside the prediction's, both ends in the value's shape.

        Args:
            key: of `endpoints`.
            value: of the prediction; one, or several patients'.
        """
        low, high = residual_interval(np.asarray(self.endpoints[key]), percent)
        most = 100.0 if key.endswith("_percent") else np.inf
        return np.clip(value + np.float64(low), 0, most), np.clip(value + np.float64(high), 0, most)

    def curve(self, dose_gy: NDArray, percent: int) -> tuple[Array, Array]:
        """The band in which the plan's whole curve lies, `(99,)` each, Gy.

        Args:
            dose_gy: the prediction's dose at 1, 2, … 99 % of the volume.
        """
        width = conformal_quantile(np.asarray(self.curve_scores), percent)
        return monotone_band(np.asarray(dose_gy), width * np.asarray(self.curve_scale_gy))


class _OfCase(StructureCalibration):
    """Of one case: `measured` is what it was made from."""

    measured: StructureCalibration

    @property
    def plain(self) -> StructureCalibration:
        """The residuals as they were measured."""
        return self.measured


@dataclass(frozen=True)
@validated
class LevelCoverage:
    """What bands held in random halves of the calibration patients, made of the other halves.

    Args:
        level_percent: what they are to hold.
        endpoints_percent, curves_percent: what they held, of all structures together.
        range_percent: where the share of one half's patients lies with a probability of 90 %.
        splits: number of random halves.
        interval_score_gy: mean interval score of dose endpoints in these halves; None: of a file
            of version 1.1.
        constant_score_gy: likewise of bands that are as wide for every case, where the widths are
            the case's; None: they are not.
    """

    level_percent: Annotated[int, Range(1, 99)]
    endpoints_percent: _Percent
    curves_percent: _Percent
    range_percent: tuple[_Percent, _Percent]
    splits: Annotated[int, Range(1, 1_000_000)]
    interval_score_gy: _Score | None = None
    constant_score_gy: _Score | None = None


@dataclass(frozen=True)
@validated
class Calibration:
    """A model's calibration, as `calibration.json` holds it.

    Args:
        schema_version: version of this format.
        model: its name when it was calibrated, for people.
        weights_sha256: checksums of all its networks, in the model's order.
        protocol: id.
        prescription_gy: target → Gy of the calibration patients.
        patients: who they are.
        structures: by the names of results; one that fewer patients have than a level takes is
            not among them.
        coverage: measured within the patients; empty where they are too few to be halved.
        cohort: what they are, in words.
        grid: of the model when it was calibrated, in words; empty in a file before version 1.2.
        schema_minor: which additions to this version of the format the file may hold.
    """

    schema_version: Annotated[int, Range(1, SCHEMA_VERSION)]
    model: Name
    weights_sha256: Annotated[tuple[_Sha256, ...], Length(1, 101)]
    protocol: Name
    prescription_gy: Annotated[Mapping[Name, DoseGy], Length(1, 100)]
    patients: Annotated[tuple[Name, ...], Length(_FEWEST, _MOST, unique=True)]
    structures: Annotated[Mapping[Name, StructureCalibration], Length(1, 1000)]
    coverage: Annotated[tuple[LevelCoverage, ...], Length(0, 98)] = ()
    cohort: FreeText = ""
    grid: FreeText = ""
    schema_minor: Annotated[int, Range(0, 10_000)] = SCHEMA_MINOR

    def require_grid(self, grid: str, what: str) -> None:
        """Refuse a model that works on another grid than it was calibrated on.

        Args:
            grid: in words, as the file has it.
            what: whose it is, for the message.

        Raises:
            ModelError: says what differs.
        """
        if self.grid and self.grid != grid:
            raise ModelError(
                f"The calibration of {self.model} was made on the grid {self.grid}; {what} works "
                f"on {grid}: calibrate it by `python -m training calibrate`."
            )

    def require_weights(self, weights: Sequence[str], protocol: str, what: str) -> None:
        """Refuse a model, or a prediction, of other weights or of another protocol.

        Args:
            weights: checksums of all its networks.
            protocol: id.
            what: whose they are, for the message.

        Raises:
            ModelError: says what differs.
        """
        if tuple(weights) != self.weights_sha256:
            raise ModelError(
                f"The calibration of {self.model} was made for the weights "
                f"{self.weights_sha256[0][:12]}…, {what} has {weights[0][:12]}… or further "
                "networks: calibrate these by `python -m training calibrate`."
            )
        if protocol != self.protocol:
            raise ModelError(
                f"The calibration of {self.model} is for the protocol {self.protocol}, {what} for "
                f"{protocol}."
            )

    def other_prescription(self, prescription_gy: Mapping[str, float]) -> str | None:
        """What of a prescription was not calibrated, in words; None: it was, within 1 %."""
        for target, gy in prescription_gy.items():
            known = self.prescription_gy.get(target)
            if known is None or abs(gy / known - 1) > _SAME_PRESCRIPTION:
                ours = ", ".join(
                    f"{name} {level:g} Gy" for name, level in self.prescription_gy.items()
                )
                return f"{target} is prescribed {gy:g} Gy, the calibration is of {ours}"
        return None

    def summary(self) -> dict[str, Any]:
        """What is to be said wherever a band is shown, as JSON types."""
        return {
            "patients": len(self.patients),
            "cohort": self.cohort,
            "prescription_gy": dict(self.prescription_gy),
            "adapted": any(each.curve_ratios for each in self.structures.values()),
            "coverage": {
                str(each.level_percent): {
                    "endpoints_percent": each.endpoints_percent,
                    "curves_percent": each.curves_percent,
                    "range_percent": list(each.range_percent),
                    "interval_score_gy": each.interval_score_gy,
                    "constant_score_gy": each.constant_score_gy,
                }
                for each in self.coverage
            },
        }

    def for_case(self, widths: Widths) -> dict[str, StructureCalibration]:
        """Every structure's calibration for a case whose expected error gave these widths."""
        return {name: each.for_case(widths.get(name)) for name, each in self.structures.items()}

    def bands(self, evaluation: Evaluation) -> dict[str, Any]:
        """The content of `bands` in `prediction.json`: calibration, and bands by structure."""
        values, structures = evaluation.endpoints(), {}
        for name, known in self.for_case(evaluation.widths).items():
            predicted = evaluation.predicted.get(name)
            if predicted is None or predicted.curve is None:
                continue
            endpoints = {
                key: {str(p): _ends(*known.endpoint(key, value, p)) for p in LEVELS}
                for key, value in values[name]["endpoints"].items()
                if value is not None and key in known.endpoints
            }
            curve: dict[str, Any] = {"volume_percent": list(VOLUMES_PERCENT)}
            doses = curve_doses(predicted.curve)
            for percent in LEVELS:
                low, high = known.curve(doses, percent)
                curve[str(percent)] = {"low_gy": _rounded(low), "high_gy": _rounded(high)}
            structures[name] = {
                "patients": len(known.curve_scores),
                "endpoints": endpoints,
                "curve": curve,
            }
        return {"calibration": self.summary(), "structures": structures}


@dataclass(frozen=True, eq=False)
class CohortErrors:
    """Plan minus prediction of one structure in the patients who have it.

    Args:
        patients: their places in the cohort, `(n,)`.
        curves_gy: at 1, 2, … 99 % of the volume, `(n, 99)`.
        endpoints: key → places of the patients who have it defined, its errors, and what was
            predicted.
        widths: what the expected errors made of the case; one a patient, or none.
    """

    patients: NDArray
    curves_gy: Array
    endpoints: Mapping[str, tuple[NDArray, Array, Array]]
    widths: tuple[StructureWidths, ...] = ()

    @property
    def count(self) -> int:
        """How many patients have the structure."""
        return int(self.patients.size)

    def endpoint_widths(self, key: str) -> Array | None:
        """Of the patients who have the endpoint, `(n,)`; None: not all are known."""
        if not self.widths:
            return None
        places = np.searchsorted(self.patients, self.endpoints[key][0])
        found = [self.widths[place].endpoints.get(key) for place in places]
        return None if None in found else np.array(found, dtype=np.float64)

    @property
    def curve_ratios(self) -> Array | None:
        """The highest |error| / (width + 0.5 Gy) along each patient's curve, `(n,)`."""
        if not self.widths:
            return None
        scale = np.array([each.curve_gy for each in self.widths]) + SCALE_FLOOR_GY
        ratios: Array = (np.abs(self.curves_gy) / scale).max(axis=1)
        return ratios


def read_calibration(path: Path) -> Calibration:
    """A calibration from its file.

    Raises:
        ModelError: it is missing, of a newer version, or malformed.
    """
    return read_versioned(
        Calibration, path, (SCHEMA_VERSION, SCHEMA_MINOR), "calibration", ModelError
    )


def calibrated_structures(
    errors: Mapping[str, CohortErrors],
) -> tuple[dict[str, StructureCalibration], dict[str, int]]:
    """The structures of a cohort, and those that too few patients have with their number.

    An endpoint that too few patients have defined in both doses is left out.

    Raises:
        DosePredictionError: an error is not finite.
    """
    structures, few = {}, {}
    for name, each in errors.items():
        if each.count < _FEWEST:
            few[name] = each.count
            continue
        scores, scale = curve_scores(each.curves_gy)
        enough = {key: e for key, e in each.endpoints.items() if e[1].size >= _FEWEST}
        structures[name] = StructureCalibration(
            {key: _rising(residuals) for key, (_, residuals, _) in enough.items()},
            tuple(round(float(value), 4) for value in scale),
            _rising(scores),
            {
                key: tuple(round(float(v), 2) for v in values[np.argsort(residuals)])
                for key, (_, residuals, values) in enough.items()
            },
            {
                key: tuple(round(float(v), 4) for v in widths[np.argsort(residuals)])
                for key, (_, residuals, _) in enough.items()
                if (widths := each.endpoint_widths(key)) is not None
            },
            () if (ratios := each.curve_ratios) is None else _rising(ratios),
        )
    return structures, few


def cohort_errors(records: Sequence[Record]) -> dict[str, CohortErrors]:
    """The errors of each structure that has curves, over the patients who have it."""
    errors = {}
    for name in dict.fromkeys(name for record in records for name in record["curves"]):
        mine = [index for index, record in enumerate(records) if name in record["curves"]]
        found: dict[str, list[tuple[int, float, float]]] = {}
        for index in mine:
            for key, pair in endpoint_pairs(records[index], name).items():
                if pair["prediction"] is not None and pair["reference"] is not None:
                    apart = pair["reference"] - pair["prediction"]
                    found.setdefault(key, []).append((index, apart, pair["prediction"]))
        errors[name] = CohortErrors(
            np.array(mine),
            np.stack([curve_error(records[index]["curves"][name]) for index in mine]),
            {
                key: (np.array([each[0] for each in e]), *np.array(e, dtype=np.float64).T[1:])
                for key, e in found.items()
            },
            _widths_of(name, [records[index] for index in mine]),
        )
    return errors


def curve_error(curve: Mapping[str, Sequence[float]]) -> Array:
    """Plan minus prediction in Gy at 1, 2, … 99 % of the volume, `(99,)`."""
    error: Array = np.subtract(curve["reference_gy"], curve["prediction_gy"], dtype=np.float64)
    return error


def endpoint_pairs(record: Record, name: str) -> dict[str, Mapping[str, float | None]]:
    """Endpoint key → prediction's and plan's of one structure: those of results, then of goals."""
    pairs = dict(record["structures"][name]["endpoints"])
    for goal in record.get("goals", ()):
        endpoint, plan = goal["endpoint"], goal.get("reference")
        if goal["bound_to"] == name and endpoint and plan:
            values = {"prediction": goal["value"], "reference": plan["value"]}
            in_unit = {k: None if v is None else v * endpoint["factor"] for k, v in values.items()}
            pairs.setdefault(endpoint["key"], in_unit)
    return pairs


def recorded_widths(record: Record, name: str) -> StructureWidths | None:
    """The widths of a structure that a record holds, as JSON types; None without any."""
    known = record.get("widths", {}).get(name)
    return None if known is None else from_json(StructureWidths, known, f"widths.{name}")


def _widths_of(name: str, records: Sequence[Record]) -> tuple[StructureWidths, ...]:
    """The widths of a structure in each record; none unless all of them have some."""
    found = [recorded_widths(record, name) for record in records]
    return tuple(each for each in found if each is not None) if None not in found else ()


def _rising(values: Sequence[float] | NDArray) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in sorted(values))


def _ends(low: NDArray, high: NDArray) -> dict[str, float]:
    return {"low": round(float(low), 3), "high": round(float(high), 3)}


def _rounded(values: NDArray) -> list[float]:
    return [round(float(value), 2) for value in values]
