"""What a treatment machine can do: its limits, each with its source."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DosePredictionError
from ..ranges import require_rising
from ..resources import resource_path
from ..schema import FieldError, FreeText, Length, Name, Range, from_json, read_json, validated

__all__ = ["Calibration", "Machine"]

_SCHEMA = "dose-prediction-machine/1"
_ReachMm = Annotated[float, Range(0, 1000)]
_BorderMm = Annotated[float, Range(-1000, 1000)]
_DoseRate = Annotated[float, Range(1, 10_000)]
_NO_LIMIT = ("schema", "id", "title", "description", "sources")


@dataclass(frozen=True)
@validated
class Calibration:
    """What one monitor unit is, in water.

    Args:
        gy_per_mu: dose at the point of calibration.
        depth_mm, ssd_mm: of that point, on the beam's axis.
        field_mm: edge of the square field, in the plane of the isocenter.
    """

    gy_per_mu: Annotated[float, Range(1e-4, 1)]
    depth_mm: Annotated[float, Range(1, 500)]
    field_mm: Annotated[float, Range(10, 400)]
    ssd_mm: Annotated[float, Range(500, 2000)]


@dataclass(frozen=True)
@validated
class Machine:
    """Limits of a linear accelerator with one multileaf collimator; IEC 61217, at the isocenter.

    Args:
        energies_mv: nominal photon energies.
        sad_mm: from the source to the gantry's axis.
        leaves_along: direction in which leaves move.
        leaf_boundaries_mm: across the leaves, one more than leaf pairs.
        leaf_retract_mm: how far a leaf goes back from the axis.
        leaf_overtravel_mm: how far a leaf goes beyond the axis.
        leaf_span_mm: between the foremost and the hindmost leaf of one bank.
        min_gap_mm: between the two leaves of a pair.
        interdigitation: whether a leaf may pass the neighbors of its opposite.
        transmission: share of the fluence that passes the leaves.
        leaf_speed_mm_s, gantry_speed_degrees_s: at most.
        dose_rate_mu_min: lowest and highest.
        jaw_x_mm, jaw_y_mm: how far a jaw goes back from the axis, and how far beyond it.
        min_jaw_opening_mm: between two jaws.
        jaws_follow_segments: whether jaws may move between the segments of a beam.
        max_beam_mu: of one beam.
        min_segment_mu: of a shape that is given while nothing moves.
        min_segment_area_mm2: that leaves and jaws leave open.
        max_mu_per_gy: monitor units of a fraction over its prescribed dose.
        calibration: of the monitor unit.
        sources: of every limit, by its name.

    Raises:
        DosePredictionError: from `load`; names the file and the place.
    """

    schema: Literal["dose-prediction-machine/1"]
    id: Name
    title: Name
    energies_mv: Annotated[tuple[Annotated[float, Range(0.1, 50)], ...], Length(1, 10)]
    sad_mm: Annotated[float, Range(500, 2000)]
    leaves_along: Literal["X", "Y"]
    leaf_boundaries_mm: Annotated[tuple[_BorderMm, ...], Length(2, 400, unique=True)]
    leaf_retract_mm: _ReachMm
    leaf_overtravel_mm: _ReachMm
    leaf_span_mm: _ReachMm
    min_gap_mm: Annotated[float, Range(0, 50)]
    interdigitation: bool
    transmission: Annotated[float, Range(0, 0.2)]
    leaf_speed_mm_s: Annotated[float, Range(1, 1000)]
    gantry_speed_degrees_s: Annotated[float, Range(0.1, 100)]
    dose_rate_mu_min: tuple[_DoseRate, _DoseRate]
    jaw_x_mm: tuple[_ReachMm, _ReachMm]
    jaw_y_mm: tuple[_ReachMm, _ReachMm]
    min_jaw_opening_mm: Annotated[float, Range(0, 100)]
    jaws_follow_segments: bool
    max_beam_mu: Annotated[float, Range(1, 1e5)]
    min_segment_mu: Annotated[float, Range(0, 100)]
    min_segment_area_mm2: Annotated[float, Range(0, 1e5)]
    max_mu_per_gy: Annotated[float, Range(1, 1e5)]
    calibration: Calibration
    sources: dict[Name, FreeText]
    description: FreeText = ""

    def __post_init__(self) -> None:
        if np.any(np.diff(self.leaf_boundaries_mm) <= 0):
            raise FieldError("leaf_boundaries_mm", "must rise from one to the next.")
        require_rising("dose_rate_mu_min", *self.dose_rate_mu_min)
        limits = [field.name for field in fields(self) if field.name not in _NO_LIMIT]
        missing = [name for name in limits if not self.sources.get(name, "").strip()]
        if missing:
            raise FieldError("sources", f"must name the source of every limit; {missing} lack it.")

    @classmethod
    def load(cls, name: str) -> Machine:
        """A shipped machine by its id, or a file by its path.

        Raises:
            DosePredictionError: there is no such machine, or the file cannot be read.
        """
        if name.endswith(".json"):
            return _read(Path(name))
        path = resource_path("Machines", f"{name}.json")
        if not name or Path(name).name != name or not path.is_file():
            raise DosePredictionError(
                f"There is no machine {name!r}; there are {', '.join(cls.available())}. Name one "
                "of them, or a JSON file of limits."
            )
        return _shipped(path)

    @staticmethod
    def available() -> list[str]:
        """Ids of the shipped machines."""
        return sorted(path.stem for path in resource_path("Machines").glob("*.json"))

    @property
    def borders_mm(self) -> NDArray[np.float64]:
        """`leaf_boundaries_mm` as an array."""
        return np.asarray(self.leaf_boundaries_mm)


def _read(path: Path) -> Machine:
    content = read_json(path)
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != _SCHEMA:
        raise DosePredictionError(f"{path} has the schema {schema!r}; machines have {_SCHEMA!r}.")
    return from_json(Machine, content, str(path))


@cache
def _shipped(path: Path) -> Machine:
    return _read(path)
