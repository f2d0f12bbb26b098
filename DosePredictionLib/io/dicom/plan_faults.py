"""What a plan's file leaves unsaid, or says beyond what is read of it.

A plan may be read in spite of it, for its prescription. Whoever judges whether a machine can
deliver it must be told: nothing that is missing may pass for a value, and nothing that is passed
over for something judged. Demands: DICOM PS3.3 C.8.8.13 and C.8.8.14.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from .files import Item

__all__ = ["broken_references", "unread", "unstated"]

_AT_FIRST_POINT = (
    "GantryAngle",
    "BeamLimitingDeviceAngle",
    "PatientSupportAngle",
    "IsocenterPosition",
)
_TAKEN_ONCE = {"NominalBeamEnergy": 0.01, "IsocenterPosition": 0.01}
"""Read at the first control point alone → by how much it may change."""

_MODIFIERS = {
    "wedges": ("NumberOfWedges", "WedgeSequence"),
    "blocks": ("NumberOfBlocks", "BlockSequence"),
    "compensators": ("NumberOfCompensators", "CompensatorSequence"),
    "an applicator": ("", "ApplicatorSequence"),
}


def unstated(beam: Item, points: Sequence[Item]) -> tuple[str, ...]:
    """What a beam has to state and does not, by keyword, with the control point."""
    faults = [keyword for keyword in _AT_FIRST_POINT if not points[0].has(keyword)]
    if not beam.has("NumberOfControlPoints"):
        faults.append("NumberOfControlPoints")
    final = beam.number("FinalCumulativeMetersetWeight", 0.0)
    if final <= 0:
        faults.append("FinalCumulativeMetersetWeight above 0")
    faults += [
        f"CumulativeMetersetWeight at control point {index}"
        for index, point in enumerate(points)
        if not point.has("CumulativeMetersetWeight")
    ]
    order = [point.integer("ControlPointIndex", None) for point in points]
    if order != list(range(len(points))):
        faults.append(f"ControlPointIndex from 0 to {len(points) - 1} in order")
    return tuple(faults)


def unread(beam: Item, points: Sequence[Item], kinds: Iterable[str]) -> tuple[str, ...]:
    """What shapes or moves a beam beside what is read of it, in words.

    Args:
        kinds: devices whose positions are read.
    """
    passed_over = [
        name
        for name, (count, sequence) in _MODIFIERS.items()
        if (count and beam.number(count, 0.0) > 0) or beam.items(sequence)
    ]
    positioned = {
        device.text("RTBeamLimitingDeviceType")
        for point in points
        for device in point.items("BeamLimitingDevicePositionSequence")
    }
    stated = [d.text("RTBeamLimitingDeviceType") for d in beam.items("BeamLimitingDeviceSequence")]
    twice = {kind for kind, count in Counter(stated).items() if count > 1}
    passed_over += sorted((positioned - set(kinds)) | twice)
    for keyword, most in _TAKEN_ONCE.items():
        values = [point.numbers(keyword) for point in points if point.has(keyword)]
        if any(v.shape != values[0].shape or np.abs(v - values[0]).max() > most for v in values):
            passed_over.append(f"a change of {keyword}")
    unit = beam.text("PrimaryDosimeterUnit", "MU") or "MU"
    if unit != "MU":
        passed_over.append(f"a meterset in {unit}")
    return tuple(passed_over)


def broken_references(beams: Sequence[Item], groups: Sequence[Item]) -> tuple[str, ...]:
    """Where beams and the monitor units of the fraction groups do not belong to each other.

    Args:
        beams: all that the plan has.
        groups: its fraction groups.
    """
    numbers = [beam.integer("BeamNumber") for beam in beams]
    faults = [f"two beams {n}" for n, count in Counter(numbers).items() if count > 1]
    given: dict[int, set[float]] = {}
    for group in groups:
        for each in group.items("ReferencedBeamSequence"):
            if each.has("BeamMeterset"):
                mu = each.number("BeamMeterset")
                given.setdefault(each.integer("ReferencedBeamNumber"), set()).add(mu)
    faults += [f"monitor units of no beam {n}" for n in given if n not in numbers]
    faults += [f"beam {n} has two numbers of them" for n, mu in given.items() if len(mu) > 1]
    return tuple(faults)
