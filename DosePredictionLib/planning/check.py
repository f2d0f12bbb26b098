"""Whether a machine can deliver a plan: every limit a row with value, limit, source and verdict.

A row shows the worst value of a beam, and where it is. Positions are compared to a hundredth of a
millimeter and shares to a millionth: files hold decimals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..delivery import TreatmentBeam
from .aperture import in_jaws, open_area_mm2, segments
from .machine import Machine

__all__ = ["CheckRow", "check_beam", "check_plan"]

Array = NDArray[np.float64]

_MM = 0.01
_SHARE = 1e-6
_MU = 0.005
_STANDARD = "DICOM PS3.3 C.8.8.14"
_IEC = "IEC 61217"
_NOT_MODELLED = "machines here have photons, jaws and one MLC"


@dataclass(frozen=True)
class CheckRow:
    """One limit of one beam, or of the plan.

    Args:
        id: stable name, in kebab case.
        label: what is limited, in words.
        beam: name; None: the whole plan.
        value: the worst; None: the plan does not state it.
        lowest, highest: what is allowed; None: no such end.
        unit: of value and limits.
        source: of the limit.
        place: where the value is.
        passed: whether the value is within the limits; a value that is not stated is not.
    """

    id: str
    label: str
    beam: str | None
    value: float | None
    lowest: float | None
    highest: float | None
    unit: str
    source: str
    place: str
    passed: bool

    @property
    def margin(self) -> float:
        """Distance to the nearer limit, as a share of it or in the unit; negative beyond it."""
        if self.value is None:
            return -np.inf
        ends = [
            (sense * (self.value - end)) / (abs(end) or 1.0)
            for sense, end in ((1, self.lowest), (-1, self.highest))
            if end is not None
        ]
        return float(min(ends))

    def as_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class _Limit:
    """What a rule states of its quantity; `tolerance` is what rounding in files may cost."""

    id: str
    label: str
    unit: str
    source: str
    lowest: float | None = None
    highest: float | None = None
    tolerance: float = 0.0

    def row(self, beam: str | None, value: float | None, place: str = "") -> CheckRow:
        passed = value is not None and np.isfinite(value)
        if passed and self.lowest is not None:
            passed = value >= self.lowest - self.tolerance  # type: ignore[operator]
        if passed and self.highest is not None:
            passed = value <= self.highest + self.tolerance  # type: ignore[operator]
        shown = None if value is None or not np.isfinite(value) else round(float(value), 6)
        return CheckRow(
            self.id,
            self.label,
            beam,
            shown,
            self.lowest,
            self.highest,
            self.unit,
            self.source,
            place,
            bool(passed),
        )


_Rule = Callable[[TreatmentBeam, Machine], Iterator[CheckRow]]


def check_plan(
    beams: Sequence[TreatmentBeam],
    machine: Machine,
    fraction_gy: float | None = None,
    broken_references: Sequence[str] = (),
) -> list[CheckRow]:
    """Rows of every beam, then those of the plan.

    Args:
        fraction_gy: prescribed dose of one fraction; None: not known, and nothing is said of
            monitor units per Gy.
        broken_references: between beams and monitor units, in words.
    """
    rows = [row for beam in beams for row in check_beam(beam, machine)]
    limit = _Limit("beams", "number of beams", "", _STANDARD, lowest=1)
    rows.append(limit.row(None, float(len(beams))))
    words = "beams and their MU do not match"
    rows.append(_none_of(broken_references, "beam-references", words, _STANDARD))
    if fraction_gy:
        total = sum(beam.meterset or 0.0 for beam in beams)
        limit = _limit(
            "mu-per-gy", "monitor units per prescribed Gy", "MU/Gy", machine, "max_mu_per_gy"
        )
        rows.append(limit.row(None, total / fraction_gy))
    return rows


def check_beam(beam: TreatmentBeam, machine: Machine) -> list[CheckRow]:
    """Rows of one beam. A rule that its equipment gives nothing to judge by is left out."""
    return [row for rule in _RULES for row in rule(beam, machine)]


def _limit(
    id_: str, label: str, unit: str, machine: Machine, field: str, tolerance: float = _SHARE
) -> _Limit:
    """A limit that one field of the machine states: `min_…` from below, others from above."""
    value, source = getattr(machine, field), machine.sources[field]
    low, high = (value, None) if field.startswith("min_") else (None, value)
    return _Limit(id_, label, unit, source, low, high, tolerance)


def _none_of(
    what: Sequence[str], id_: str, label: str, source: str, beam: str | None = None
) -> CheckRow:
    """A row of things of which there must be none, named as its place."""
    return _Limit(id_, label, "", source, None, 0).row(beam, float(len(what)), ", ".join(what))


def _told(beam: TreatmentBeam, machine: Machine) -> Iterator[CheckRow]:
    """Whether the file says all that is judged below, and nothing that is not."""
    words = "what the plan does not state"
    yield _none_of(beam.unstated, "unstated", words, _STANDARD, beam.name)
    yield _none_of(beam.unread, "unread", "what is not judged", _NOT_MODELLED, beam.name)
    is_photon = beam.radiation.upper() == "PHOTON"
    limit = _Limit("photons", "photons (1: yes)", "", machine.sources["energies_mv"], 1, 1)
    yield limit.row(beam.name, float(is_photon), "" if is_photon else beam.radiation or "no type")


def _control_points(beam: TreatmentBeam, machine: Machine) -> Iterator[CheckRow]:
    stated = beam.stated_points
    exact = float(stated) if stated is not None else None
    limit = _Limit("control-points", "control points", "", _STANDARD, max(2.0, exact or 2.0), exact)
    yield limit.row(beam.name, float(beam.points))


def _meterset(beam: TreatmentBeam, machine: Machine) -> Iterator[CheckRow]:
    weight, name = beam.weight, beam.name
    limit = _Limit("meterset-start", "first cumulative meterset", "", _STANDARD, 0, 0, _SHARE)
    yield limit.row(name, float(weight[0]))
    steps = np.diff(weight)
    worst = int(np.argmin(steps)) if steps.size else 0
    limit = _Limit("meterset-rises", "smallest meterset step", "", _STANDARD, 0, None, _SHARE)
    yield limit.row(name, float(steps.min()) if steps.size else None, f"control point {worst}")
    limit = _Limit("meterset-end", "last cumulative meterset", "", _STANDARD, 1, 1, 1e-4)
    yield limit.row(name, float(weight[-1]))
    most, source = machine.max_beam_mu, machine.sources["max_beam_mu"]
    limit = _Limit("beam-mu", "monitor units", "MU", source, 0, most, _SHARE)
    yield limit.row(name, beam.meterset or None)


def _energy(beam: TreatmentBeam, machine: Machine) -> Iterator[CheckRow]:
    energies = np.asarray(machine.energies_mv)
    stated = beam.energy_mv
    nearest = float(energies[np.argmin(np.abs(energies - (stated or 0.0)))])
    source = machine.sources["energies_mv"]
    limit = _Limit("energy", "nominal energy", "MV", source, nearest, nearest, _MM)
    yield limit.row(beam.name, stated)
    if beam.sad_mm is not None:
        sad, source = machine.sad_mm, machine.sources["sad_mm"]
        limit = _Limit("sad", "source to axis", "mm", source, sad, sad, _MM)
        yield limit.row(beam.name, beam.sad_mm)


def _angles(beam: TreatmentBeam, machine: Machine) -> Iterator[CheckRow]:
    parts = (("gantry", beam.gantry_degrees), ("collimator", beam.collimator_degrees))
    for part, degrees in (*parts, ("couch", beam.couch_degrees)):
        limit = _Limit(f"{part}-angle", f"{part} angle", "°", _IEC, 0, 360, _MM)
        off = np.maximum(-degrees, degrees - 360)
        yield limit.row(beam.name, float(degrees[off.argmax()]), f"control point {off.argmax()}")


def _leaf_boundaries(beam: TreatmentBeam, machine: Machine) -> Iterator[CheckRow]:
    if not beam.leaf_borders_mm.size:
        return
    source = machine.sources["leaf_boundaries_mm"]
    pairs = machine.borders_mm.size - 1
    limit = _Limit("leaf-pairs", "leaf pairs", "", source, pairs, pairs)
    yield limit.row(beam.name, float(beam.leaf_borders_mm.size - 1))
    if beam.leaf_borders_mm.size == pairs + 1:
        apart = float(np.abs(beam.leaf_borders_mm - machine.borders_mm).max())
        limit = _Limit("leaf-boundaries", "leaf boundaries off by", "mm", source, None, 0, _MM)
        yield limit.row(beam.name, apart)
    same = float(beam.leaves_along == machine.leaves_along)
    source = machine.sources["leaves_along"]
    words = f"leaves move along {machine.leaves_along} (1: yes)"
    yield _Limit("leaf-direction", words, "", source, 1, 1).row(beam.name, same)


def _gaps(beam: TreatmentBeam, machine: Machine) -> Iterator[CheckRow]:
    if not beam.leaves_mm.size:
        return
    gap = beam.leaves_mm[:, 1] - beam.leaves_mm[:, 0]  # (control point, pair)
    yield _worst(
        _Limit("leaf-crossing", "smallest gap of any pair", "mm", _STANDARD, 0, None, _MM),
        beam,
        gap,
    )
    limit = _limit("leaf-gap", "smallest gap within the jaws", "mm", machine, "min_gap_mm", _MM)
    inside = in_jaws(beam)
    if inside.any():
        yield _worst(limit, beam, np.where(inside, gap, np.inf))
    if not machine.interdigitation and gap.shape[1] > 1:
        left, right = beam.leaves_mm[:, 0], beam.leaves_mm[:, 1]
        ahead = np.minimum(right[:, 1:] - left[:, :-1], right[:, :-1] - left[:, 1:])
        ahead = np.where(inside[:, 1:] & inside[:, :-1], ahead, np.inf)
        source = machine.sources["interdigitation"]
        words = "room to the opposite neighbor"
        limit = _Limit("interdigitation", words, "mm", source, 0, None, _MM)
        if np.isfinite(ahead).any():
            yield _worst(limit, beam, ahead)


def _leaf_reach(beam: TreatmentBeam, machine: Machine) -> Iterator[CheckRow]:
    if not beam.leaves_mm.size:
        return
    # Away from the axis on the leaf's own side, positive; beyond the axis, negative.
    back = np.stack([-beam.leaves_mm[:, 0], beam.leaves_mm[:, 1]], axis=1)
    limit = _limit(
        "leaf-retract", "farthest leaf from the axis", "mm", machine, "leaf_retract_mm", _MM
    )
    yield _worst(limit, beam, back.max(axis=1))
    words = "farthest leaf beyond the axis"
    limit = _limit("leaf-overtravel", words, "mm", machine, "leaf_overtravel_mm", _MM)
    yield _worst(limit, beam, (-back).max(axis=1))
    span = np.ptp(beam.leaves_mm, axis=2)  # (control point, bank)
    limit = _limit("leaf-span", "span within one bank", "mm", machine, "leaf_span_mm", _MM)
    yield limit.row(beam.name, float(span.max()), f"control point {int(span.max(axis=1).argmax())}")


def _jaws(beam: TreatmentBeam, machine: Machine) -> Iterator[CheckRow]:
    for axis, jaws in (("x", beam.jaws_x_mm), ("y", beam.jaws_y_mm)):
        if not np.isfinite(jaws).any():
            continue
        field = f"jaw_{axis}_mm"
        retract, overtravel = getattr(machine, field)
        source = machine.sources[field]
        back = np.stack([-jaws[:, 0], jaws[:, 1]])
        words = f"farthest {axis.upper()} jaw from the axis"
        limit = _Limit(f"jaw-{axis}-retract", words, "mm", source, None, retract, _MM)
        yield limit.row(beam.name, float(back.max()))
        words = f"farthest {axis.upper()} jaw beyond the axis"
        limit = _Limit(f"jaw-{axis}-overtravel", words, "mm", source, None, overtravel, _MM)
        yield limit.row(beam.name, float((-back).max()))
        words = f"narrowest {axis.upper()} jaws"
        limit = _limit(f"jaw-{axis}-opening", words, "mm", machine, "min_jaw_opening_mm", _MM)
        yield limit.row(beam.name, float((jaws[:, 1] - jaws[:, 0]).min()))
        if not machine.jaws_follow_segments:
            words = f"{axis.upper()} jaws move by"
            source = machine.sources["jaws_follow_segments"]
            limit = _Limit(f"jaw-{axis}-stands", words, "mm", source, None, 0, _MM)
            yield limit.row(beam.name, float(np.ptp(jaws, axis=0).max()))


def _speeds(beam: TreatmentBeam, machine: Machine) -> Iterator[CheckRow]:
    """What moves while the beam is on, at the lowest dose rate: the beam can take no longer."""
    slowest, fastest = machine.dose_rate_mu_min
    stated = beam.dose_rate_mu_min[np.isfinite(beam.dose_rate_mu_min)]
    if stated.size:
        source = machine.sources["dose_rate_mu_min"]
        limit = _Limit("dose-rate", "stated dose rate", "MU/min", source, slowest, fastest, _SHARE)
        off = np.maximum(slowest - stated, stated - fastest)
        yield limit.row(beam.name, float(stated[off.argmax()]))
    on = beam.step_mu > 0
    if not on.any():
        return
    seconds = np.where(on, beam.step_mu, np.inf) / (slowest / 60)
    turned = np.abs(np.diff(beam.gantry_degrees))
    turned = np.minimum(turned, 360 - turned)
    field, words = "gantry_speed_degrees_s", "gantry speed needed"
    limit = _limit("gantry-speed", words, "°/s", machine, field)
    yield _fastest(limit, beam, turned / seconds)
    if beam.leaves_mm.size:
        moved = np.abs(np.diff(beam.leaves_mm, axis=0)).max(axis=(1, 2))
        limit = _limit("leaf-speed", "leaf speed needed", "mm/s", machine, "leaf_speed_mm_s")
        yield _fastest(limit, beam, moved / seconds)


def _fastest(limit: _Limit, beam: TreatmentBeam, speed: Array) -> CheckRow:
    return limit.row(beam.name, float(speed.max()), f"control point {int(speed.argmax())}")


def _segments(beam: TreatmentBeam, machine: Machine) -> Iterator[CheckRow]:
    """What is given while nothing moves; an arc has no such segments."""
    found = segments(beam)
    if not found:
        return
    mu = np.array([each.mu for each in found])
    limit = _limit("segment-mu", "smallest segment", "MU", machine, "min_segment_mu", _MU)
    yield limit.row(beam.name, float(mu.min()), f"control point {found[int(mu.argmin())].first}")
    if beam.leaves_mm.size:
        areas = np.array([open_area_mm2(beam, each.first) for each in found])
        words, field = "smallest open area", "min_segment_area_mm2"
        limit = _limit("segment-area", words, "mm²", machine, field, 1.0)
        place = f"control point {found[int(areas.argmin())].first}"
        yield limit.row(beam.name, float(areas.min()), place)


def _worst(limit: _Limit, beam: TreatmentBeam, values: Array) -> CheckRow:
    """The row of `(control point, leaf pair)` that the limit's one end is nearest to."""
    flat = int(np.argmin(values) if limit.lowest is not None else np.argmax(values))
    point, pair = np.unravel_index(flat, values.shape)
    place = f"control point {point}, leaf pair {pair + 1}"
    return limit.row(beam.name, float(values[point, pair]), place)


_RULES: tuple[_Rule, ...] = (
    _told,
    _control_points,
    _meterset,
    _energy,
    _angles,
    _leaf_boundaries,
    _gaps,
    _leaf_reach,
    _jaws,
    _speeds,
    _segments,
)
