"""From an RTPLAN's beams to an arrangement, or to the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...beams.arrangement import SENSE, Beam, BeamArrangement
from ...delivery import TreatmentBeam as PlanBeam
from ...errors import CaseError, DosePredictionError
from ...findings import Finding
from .files import open_dicom, quiet_parser
from .plan import Plan, read_plan

__all__ = ["arrangement_of", "read_beams"]

_STANDS_DEGREES = 1.0
_APART_MM = 1.0
_STANDS_MM = 0.5
_REMEDY = "State the beams by --beams, or the model's own are taken."


def arrangement_of(
    plan: Plan | None, patient_position: str
) -> tuple[BeamArrangement | None, list[Finding]]:
    """The arrangement of a plan; None, with a finding, where this model of beams cannot say it.

    Beams from one angle count once: a planning system splits wide fields. Apertures are not taken
    from the plan: they are what the beam sees of the targets. Where no leaf moves, fields are open.

    Args:
        patient_position: of the CT (DICOM PS3.3 C.7.3.1.1.2).
    """
    if plan is None or not plan.beams:
        return None, []
    fault = _fault(plan.beams, patient_position)
    if fault:
        message = f"The beams of {plan.file.path.name} are not used: {fault}."
        return None, [Finding("plan-beams-unused", "warning", message, _REMEDY)]
    beams: list[Beam] = []
    for each in plan.beams:
        beam = _beam(each)
        if all(_direction(beam) != _direction(other) for other in beams):
            beams.append(beam)
    first = plan.beams[0]
    try:
        arrangement = BeamArrangement(
            tuple(beams),
            isocenter_mm=first.isocenter_mm,
            sad_mm=first.sad_mm or 1000.0,
            patient_position=patient_position,  # type: ignore[arg-type]
            modulated=any(_is_modulated(beam) for beam in plan.beams),
        )
    except DosePredictionError as exception:
        message = f"The beams of {plan.file.path.name} are not used: {exception}"
        return None, [Finding("plan-beams-unused", "warning", message, _REMEDY)]
    return arrangement, []


def read_beams(path: Path) -> BeamArrangement:
    """The arrangement of an RTPLAN without its CT; its own setup says how the patient lies.

    Raises:
        CaseError: it is no RTPLAN, or its beams are none that can be calculated.
    """
    with quiet_parser():
        file = open_dicom(path)
        plan = read_plan(file)
        setups = file.item.items("PatientSetupSequence")
        position = setups[0].text("PatientPosition", "") if setups else ""
    arrangement, findings = arrangement_of(plan, position)
    if arrangement is None:
        said = findings[0].message if findings else f"{path.name} has no beams that treat."
        raise CaseError(f"{said} Choose another plan, or type the angles.")
    return arrangement


def _fault(beams: Sequence[PlanBeam], patient_position: str) -> str:
    """Why the beams are none that can be calculated; empty if they are."""
    kinds = sorted({beam.radiation.lower() + "s" for beam in beams} - {"photons", "s"})
    if kinds:
        return f"they are {' and '.join(kinds)}"
    for beam in beams:
        if "GantryAngle" in beam.unstated:
            return f"{beam.name} does not state its GantryAngle"
    turned = [beam for beam in beams if np.any(np.abs(_wrapped(beam.couch_degrees)) > 0.5)]
    if turned:
        angle = float(turned[0].couch_degrees.max())
        return f"{turned[0].name} turns the couch to {angle:g}°, and beams are coplanar here"
    centers = np.array([b.isocenter_mm for b in beams if b.isocenter_mm is not None])
    if len(centers) and np.ptp(centers, axis=0).max() > _APART_MM:
        return "they have several isocenters"
    if patient_position not in SENSE:
        return f"the CT does not say how the patient lies ({patient_position or 'no position'})"
    return ""


def _beam(beam: PlanBeam) -> Beam:
    angles = beam.gantry_degrees
    turned = float(_wrapped(np.diff(angles)).sum())
    start = float(angles[0] % 360.0)
    if abs(turned) <= _STANDS_DEGREES:
        return Beam(start)
    return Beam(start, float(angles[-1] % 360.0), clockwise=turned > 0)


def _is_modulated(beam: PlanBeam) -> bool:
    """Whether leaves move while a beam gives dose; a plan of none that do has open fields."""
    moved = beam.leaves_mm[1:] - beam.leaves_mm[:-1] if beam.leaves_mm.size else np.zeros(1)
    return beam.kind == "DYNAMIC" or bool(np.abs(moved).max(initial=0) > _STANDS_MM)


def _direction(beam: Beam) -> tuple[float, float | None, bool]:
    stop = None if beam.stop_degrees is None else round(beam.stop_degrees, 1)
    return round(beam.gantry_degrees, 1) % 360.0, stop, beam.clockwise


def _wrapped(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles as −180…180."""
    return (degrees + 180.0) % 360.0 - 180.0
