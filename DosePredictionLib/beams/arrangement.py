"""How the beams of a plan stand: gantry angles and arcs, isocenter, distances, apertures.

Gantry angles are those of IEC 61217. Beams are coplanar: a couch angle is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from ..errors import CaseError
from ..schema import FieldError, Length, Name, Range, from_json, validated

__all__ = [
    "ARRANGEMENTS",
    "Aperture",
    "Beam",
    "BeamArrangement",
    "Field",
    "PatientPosition",
    "parse_beams",
]

PatientPosition = Literal["HFS", "HFP", "FFS", "FFP"]
"""Head or feet first, supine or prone (DICOM PS3.3 C.7.3.1.1.2)."""

SENSE: Mapping[PatientPosition, tuple[int, int]] = {
    "HFS": (1, 1),
    "HFP": (-1, -1),
    "FFS": (-1, 1),
    "FFP": (1, -1),
}
"""Patient's left along the room's x, patient's anterior along the room's z (IEC 61217 fixed)."""

Degrees = Annotated[float, Range(0, 360)]
_Mm = Annotated[float, Range(-1e5, 1e5)]
SAME_DEGREES = 0.1
_MOST_FIELDS = 400


@dataclass(frozen=True)
@validated
class Aperture:
    """What a beam's aperture leaves open: what it sees of targets, and a margin.

    Args:
        targets: names of the targets; empty: all of them.
        margin_mm: around them, in the plane of the isocenter.
    """

    targets: Annotated[tuple[Name, ...], Length(0, 100, unique=True)] = ()
    margin_mm: Annotated[float, Range(0, 100)] = 5.0


@dataclass(frozen=True)
@validated
class Beam:
    """A coplanar beam, or an arc.

    Args:
        gantry_degrees: IEC 61217; 0 comes from above, 90 from the patient's left (head first,
            supine).
        stop_degrees: where an arc ends; None: the gantry stands.
        clockwise: sense of the arc: rising angles.
        on: whether it gives dose.
        aperture: what is open.
        couch_degrees: 0; stated so that a plan that needs another is refused and not bent.
    """

    gantry_degrees: Degrees
    stop_degrees: Degrees | None = None
    clockwise: bool = True
    on: bool = True
    aperture: Aperture = Aperture()
    couch_degrees: Degrees = 0.0

    def __post_init__(self) -> None:
        if self.couch_degrees % 360.0:
            raise FieldError(
                "couch_degrees",
                f"must be 0: beams are coplanar here; got {self.couch_degrees:g}°. Leave such "
                "beams out.",
            )

    @property
    def span_degrees(self) -> float:
        """How far an arc turns, 0…360; 0 for a beam."""
        if self.stop_degrees is None:
            return 0.0
        turned = self.stop_degrees - self.gantry_degrees
        turned = turned if self.clockwise else -turned
        return turned % 360.0 or 360.0

    def angles(self, step_degrees: float) -> list[float]:
        """Gantry angles that stand for it: its own, or those of an arc, evenly spread."""
        if self.stop_degrees is None:
            return [self.gantry_degrees % 360.0]
        span, sense = self.span_degrees, 1.0 if self.clockwise else -1.0
        count = max(1, math.ceil(span / step_degrees - 1e-9))
        return [
            (self.gantry_degrees + sense * span * (index + 0.5) / count) % 360.0
            for index in range(count)
        ]

    def mirrored(self) -> Beam:
        """The beam that does in the left–right mirrored patient what this one does."""
        stop = None if self.stop_degrees is None else _mirrored(self.stop_degrees)
        return replace(
            self,
            gantry_degrees=_mirrored(self.gantry_degrees),
            stop_degrees=stop,
            clockwise=self.clockwise if stop is None else not self.clockwise,
        )


@dataclass(frozen=True)
class Field:
    """One direction from which dose comes.

    Args:
        gantry_degrees: 0…360.
        aperture: what is open.
    """

    gantry_degrees: float
    aperture: Aperture


@dataclass(frozen=True)
@validated
class BeamArrangement:
    """All beams of a plan.

    Args:
        beams: at least one of them on.
        isocenter_mm: LPS; None: the center of the box around all targets.
        sad_mm: from the source to the isocenter.
        patient_position: how the patient lies.
        arc_step_degrees: angle between the fields that stand for an arc.
        modulated: whether the fluence within an aperture varies; not where fields are open and
            have weights alone, as in a box.

    Raises:
        FieldError: no beam is on, two beams are the same, or the angles look like radians.
    """

    beams: Annotated[tuple[Beam, ...], Length(1, 100)]
    isocenter_mm: tuple[_Mm, _Mm, _Mm] | None = None
    sad_mm: Annotated[float, Range(300, 5000)] = 1000.0
    patient_position: PatientPosition = "HFS"
    arc_step_degrees: Annotated[float, Range(1, 45)] = 10.0
    modulated: bool = True

    def __post_init__(self) -> None:
        if not any(beam.on for beam in self.beams):
            raise FieldError("beams", "must hold one that is on; all are off.")
        for index, beam in enumerate(self.beams):
            for other in self.beams[:index]:
                if beam.on and other.on and _alike(beam, other):
                    raise FieldError(
                        "beams",
                        f"must differ; two come from {beam.gantry_degrees:g}°. Leave one out.",
                    )
        _require_degrees(self.beams)
        if len(self.fields) > _MOST_FIELDS:
            raise FieldError(
                "arc_step_degrees",
                f"must leave at most {_MOST_FIELDS} directions; these are {len(self.fields)}.",
            )

    @classmethod
    def of_angles(
        cls, gantry_degrees: Sequence[float], open_margin_mm: float | None = None
    ) -> BeamArrangement:
        """Standing beams, each open for all targets.

        Args:
            open_margin_mm: of fields that have weights alone; None: the fields are modulated.
        """
        aperture = Aperture() if open_margin_mm is None else Aperture(margin_mm=open_margin_mm)
        beams = tuple(Beam(float(angle), aperture=aperture) for angle in gantry_degrees)
        return cls(beams, modulated=open_margin_mm is None)

    @property
    def fields(self) -> list[Field]:
        """Every direction of the beams that are on, arcs as many directions."""
        return [
            Field(angle, beam.aperture)
            for beam in self.beams
            if beam.on
            for angle in beam.angles(self.arc_step_degrees)
        ]

    @property
    def gantry_degrees(self) -> list[float]:
        """The fields' gantry angles."""
        return [field.gantry_degrees for field in self.fields]

    def source_direction(self, gantry_degrees: float) -> tuple[float, float, float]:
        """From the isocenter towards the source, LPS, of length 1."""
        left, anterior = SENSE[self.patient_position]
        angle = math.radians(gantry_degrees)
        return (left * math.sin(angle), -anterior * math.cos(angle), 0.0)

    def mirrored(self, about_x_mm: float = 0.0) -> BeamArrangement:
        """The arrangement of the patient mirrored left–right: θ becomes 360° − θ.

        Args:
            about_x_mm: the mirror's place, LPS.
        """
        center = self.isocenter_mm
        if center is not None:
            center = (2 * about_x_mm - center[0], center[1], center[2])
        beams = tuple(beam.mirrored() for beam in self.beams)
        return replace(self, beams=beams, isocenter_mm=center)

    def __str__(self) -> str:
        words = [
            f"{beam.gantry_degrees:g}°"
            if beam.stop_degrees is None
            else f"{beam.gantry_degrees:g}° to {beam.stop_degrees:g}°"
            for beam in self.beams
            if beam.on
        ]
        return ("" if self.modulated else "open fields at ") + ", ".join(words)


def parse_beams(text: str, where: str = "--beams") -> BeamArrangement:
    """From a name such as `nine-field`, or gantry angles such as `0,40,80` or `181-179`.

    Args:
        text: `A-B` is an arc by rising angles from A to B.
        where: names the place in messages.

    Raises:
        CaseError: it cannot be read, or is no arrangement.
    """
    named = ARRANGEMENTS.get(text.strip())
    if named is not None:
        return named
    beams = []
    for part in text.split(","):
        ends = part.strip().split("-")
        try:
            numbers = [float(end) for end in ends]
        except ValueError:
            numbers = []
        if not 1 <= len(numbers) <= 2:
            raise CaseError(
                f"{where} takes gantry angles in degrees, as in 0,40,80 or 181-179 for an arc, or "
                f"one of {', '.join(ARRANGEMENTS)}; got {text!r}."
            )
        names = ("gantry_degrees", "stop_degrees")
        beams.append(dict(zip(names, numbers, strict=False)))
    return from_json(BeamArrangement, {"beams": beams}, where, CaseError)


def _mirrored(degrees: float) -> float:
    return (360.0 - degrees) % 360.0


def _alike(one: Beam, other: Beam) -> bool:
    """Whether two beams are the same, but for a tenth of a degree."""
    if one.aperture != other.aperture or one.span_degrees != other.span_degrees:
        return False
    apart = abs(one.gantry_degrees - other.gantry_degrees) % 360.0
    same_sense = one.stop_degrees is None or one.clockwise == other.clockwise
    return same_sense and min(apart, 360.0 - apart) < SAME_DEGREES


def _require_degrees(beams: Sequence[Beam]) -> None:
    """Refuse what are radians: several angles, none beyond 2π, most with decimals."""
    angles = [beam.gantry_degrees for beam in beams]
    broken = [angle for angle in angles if abs(angle - round(angle, 1)) > 1e-6]
    if len(angles) > 2 and max(angles) <= 2 * math.pi + 1e-3 and 2 * len(broken) >= len(angles):
        raise FieldError(
            "beams",
            f"must have gantry angles in degrees; {', '.join(f'{a:g}' for a in angles)} look like "
            "radians.",
        )


def _full_arc(count: int) -> BeamArrangement:
    arcs = (Beam(181.0, 179.0), Beam(179.0, 181.0, clockwise=False))
    return BeamArrangement(arcs[:count])


ARRANGEMENTS: Mapping[str, BeamArrangement] = {
    "nine-field": BeamArrangement.of_angles(range(0, 360, 40)),
    "seven-field": BeamArrangement.of_angles([0, 51, 103, 154, 206, 257, 309]),
    "five-field": BeamArrangement.of_angles(range(0, 360, 72)),
    "four-field": BeamArrangement.of_angles([0, 90, 180, 270]),
    "four-field-open": BeamArrangement.of_angles([0, 90, 180, 270], open_margin_mm=7.0),
    "arc": _full_arc(1),
}
"""What `--beams` and files may name. `nine-field` is that of the OpenKBP plans (doi
10.1002/mp.14845)."""
