"""RTPLAN: prescription, fractions, technique, beams and their control points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from ...case import Prescription
from ...delivery import TreatmentBeam
from ...errors import CaseError
from .files import RTPLAN, DicomFile, Item
from .plan_faults import broken_references, unread, unstated

__all__ = ["FractionGroup", "Plan", "Technique", "read_plan"]

Technique = Literal["VMAT", "conformal arc", "IMRT", "3D-CRT", "brachytherapy"]
Array = NDArray[np.float64]

_FEW_SEGMENTS = 10
_OF_ONE_TREATMENT = ("CONCURRENT", "PRIOR")
_MOST_PRESCRIBED_GY = 200.0
_X_JAWS, _Y_JAWS = ("ASYMX", "X"), ("ASYMY", "Y")


@dataclass(frozen=True)
class FractionGroup:
    """Fractions that are given alike.

    Args:
        number: None when not stated.
        setups: numbers of the brachytherapy application setups in it.
    """

    number: int | None
    fractions: int | None
    setups: frozenset[int]


@dataclass(frozen=True, eq=False)
class Plan:
    """The content of an RTPLAN.

    Args:
        targets: (ROI number or None, description, Gy) of each prescribed target.
        structure_set_uid: what it was planned on; empty when it names none.
        groups: its fraction groups; their doses add up to the plan's.
        companions: instances of the plans that the same treatment consists of, besides this one.
        broken_references: see `plan_faults`.
        left_out: beams that are said to treat and have no monitor units, which others have.
    """

    file: DicomFile
    label: str
    fractions: int | None
    technique: Technique
    targets: tuple[tuple[int | None, str, float], ...]
    beams: tuple[TreatmentBeam, ...]
    structure_set_uid: str
    groups: tuple[FractionGroup, ...] = ()
    companions: frozenset[str] = frozenset()
    broken_references: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def prescription(self, names: dict[int, str], target_names: list[str]) -> Prescription | None:
        """Dose per target, called as the structures are; None when the plan prescribes none.

        Args:
            names: ROI number → structure.
            target_names: structures that are targets; a single one takes a single prescription
                whose description names no structure.
        """
        prescribed: dict[str, float] = {}
        for number, description, dose_gy in self.targets:
            name = names.get(number, "") if number is not None else ""
            if not name and len(self.targets) == 1 and len(target_names) == 1:
                name = target_names[0]
            name = name or description or f"Target {len(prescribed) + 1}"
            prescribed[name] = max(dose_gy, prescribed.get(name, 0.0))
        if not prescribed:
            return None
        return Prescription(prescribed, self.fractions, self.technique)


def read_plan(file: DicomFile) -> Plan:
    """Read a plan; beams that only set up or image are left out.

    Raises:
        CaseError: damaged, or values that no plan has.
    """
    item = file.item
    if file.sop_class != RTPLAN:
        kind = UID(file.sop_class).name
        raise CaseError(f"{file.path} is no RTPLAN but {kind}: name a plan of photon beams.")
    groups = item.items("FractionGroupSequence")
    metersets = {
        beam.integer("ReferencedBeamNumber"): beam.number("BeamMeterset")
        for group in groups
        for beam in group.items("ReferencedBeamSequence")
        if beam.has("BeamMeterset")
    }
    fraction_groups = tuple(_group(group) for group in groups)
    fractions = [each.fractions for each in fraction_groups if each.fractions is not None]
    every = item.items("BeamSequence")
    treating = [
        beam
        for beam in every
        if beam.text("TreatmentDeliveryType", "TREATMENT") in ("TREATMENT", "CONTINUATION")
    ]
    # An imaging field may call itself treatment, but has no meterset.
    given = [b for b in treating if not metersets or b.integer("BeamNumber") in metersets]
    beams = tuple(_beam(beam, metersets) for beam in given)
    sets = item.items("ReferencedStructureSetSequence")
    return Plan(
        file=file,
        label=item.text("RTPlanLabel", ""),
        fractions=_fractions(file, fractions),
        technique=_technique(beams),
        targets=_targets(item),
        beams=beams,
        structure_set_uid=sets[0].text("ReferencedSOPInstanceUID", "") if sets else "",
        groups=fraction_groups,
        companions=frozenset(
            other.text("ReferencedSOPInstanceUID", "")
            for other in item.items("ReferencedRTPlanSequence")
            if other.text("RTPlanRelationship", "").upper() in _OF_ONE_TREATMENT
        ),
        broken_references=broken_references(every, groups),
        left_out=tuple(_name(beam) for beam in treating if beam not in given),
    )


def _group(item: Item) -> FractionGroup:
    setups = item.items("ReferencedBrachyApplicationSetupSequence")
    return FractionGroup(
        item.integer("FractionGroupNumber", None),
        item.integer("NumberOfFractionsPlanned", None),
        frozenset(each.integer("ReferencedBrachyApplicationSetupNumber") for each in setups),
    )


def _fractions(file: DicomFile, planned: list[int]) -> int | None:
    """Those of one fraction group; groups follow each other, so several add up."""
    total = sum(planned)
    if not 0 <= total <= 200:
        raise CaseError(f"{file.path} plans {total} fractions, which cannot be.")
    return total or None


def _targets(item: Item) -> tuple[tuple[int | None, str, float], ...]:
    targets = []
    for reference in item.items("DoseReferenceSequence"):
        kind = reference.text("DoseReferenceType", "")
        if kind != "TARGET" or not reference.has("TargetPrescriptionDose"):
            continue
        dose_gy = reference.number("TargetPrescriptionDose")
        if dose_gy == 0:
            continue
        if not 0 < dose_gy <= _MOST_PRESCRIBED_GY:
            raise CaseError(f"{item.path} prescribes {dose_gy:g} Gy, which cannot be.")
        number = (
            reference.integer("ReferencedROINumber")
            if reference.has("ReferencedROINumber")
            else None
        )
        targets.append((number, reference.text("DoseReferenceDescription", ""), dose_gy))
    return tuple(targets)


def _name(beam: Item) -> str:
    return beam.text("BeamName", "") or f"Beam {beam.integer('BeamNumber')}"


def _beam(beam: Item, metersets: dict[int, float]) -> TreatmentBeam:
    number = beam.integer("BeamNumber")
    points = beam.items("ControlPointSequence")
    if not points:
        raise CaseError(f"{beam.path}: beam {number} has no control points.")
    devices = beam.items("BeamLimitingDeviceSequence")
    mlc = next((d for d in devices if d.text("RTBeamLimitingDeviceType")[:3] == "MLC"), None)
    kind = mlc.text("RTBeamLimitingDeviceType") if mlc else ""
    pairs = mlc.integer("NumberOfLeafJawPairs") if mlc else 0
    if mlc and pairs < 1:
        raise CaseError(f"{beam.path}: {kind} of beam {number} has {pairs} leaf pairs.")
    positions = _device_positions(points)
    final = beam.number("FinalCumulativeMetersetWeight", 1.0)
    weight = _held(points, "CumulativeMetersetWeight", 0.0)
    energy = points[0].number("NominalBeamEnergy", None)
    isocenter = points[0].numbers("IsocenterPosition", default=())
    return TreatmentBeam(
        number=number,
        name=_name(beam),
        machine=beam.text("TreatmentMachineName", ""),
        kind=beam.text("BeamType", "STATIC"),
        radiation=beam.text("RadiationType", ""),
        energy_mv=energy,
        meterset=metersets.get(number),
        weight=weight / final if final > 0 else weight,
        gantry_degrees=_held(points, "GantryAngle", 0.0),
        collimator_degrees=_held(points, "BeamLimitingDeviceAngle", 0.0),
        couch_degrees=_held(points, "PatientSupportAngle", 0.0),
        jaws_x_mm=_positions(beam, positions, _X_JAWS, 2),
        jaws_y_mm=_positions(beam, positions, _Y_JAWS, 2),
        leaves_mm=_positions(beam, positions, (kind,), 2 * pairs).reshape(len(points), 2, -1),
        leaf_borders_mm=mlc.numbers("LeafPositionBoundaries", pairs + 1) if mlc else np.zeros(0),
        leaves_along=kind[3:4],
        isocenter_mm=tuple(isocenter) if isocenter.size == 3 else None,
        dose_rate_mu_min=_held(points, "DoseRateSet", np.nan),
        stated_points=beam.integer("NumberOfControlPoints", None),
        sad_mm=beam.number("SourceAxisDistance", None),
        unstated=unstated(beam, points),
        unread=unread(beam, points, (kind, _kind(positions, _X_JAWS), _kind(positions, _Y_JAWS))),
    )


def _held(points: list[Item], keyword: str, first: float) -> Array:
    """A value at each control point; one that is not given stays as it was."""
    values = []
    for point in points:
        first = point.number(keyword, first)
        values.append(first)
    return np.array(values)


def _device_positions(points: list[Item]) -> list[dict[str, Array]]:
    """Positions by device at each control point; what is not given stays as it was."""
    held: dict[str, Array] = {}
    result = []
    for point in points:
        for device in point.items("BeamLimitingDevicePositionSequence"):
            kind = device.text("RTBeamLimitingDeviceType")
            held = {**held, kind: device.numbers("LeafJawPositions")}
        result.append(held)
    return result


def _positions(
    beam: Item, positions: list[dict[str, Array]], kinds: tuple[str, ...], count: int
) -> Array:
    """`(control point, count)` of the first device that there is; NaN without it."""
    kind = _kind(positions, kinds)
    rows = [
        at.get(kind, np.full(count, np.nan)) if kind else np.full(count, np.nan) for at in positions
    ]
    if any(row.size != count for row in rows):
        raise CaseError(
            f"{beam.path}: {kind} of beam {beam.text('BeamNumber', '')} has not {count} positions "
            "at every control point."
        )
    return np.array(rows).reshape(len(positions), count)


def _kind(positions: list[dict[str, Array]], kinds: tuple[str, ...]) -> str:
    """The first of some devices that has positions; empty without one."""
    return next((kind for kind in kinds if kind in positions[-1]), "")


def _technique(beams: tuple[TreatmentBeam, ...]) -> Technique:
    """What the machine's motion says; the plan has no field that can be relied on."""
    if not beams:
        return "brachytherapy"
    rotates = any(np.ptp(beam.gantry_degrees) > 1.0 for beam in beams)
    shapes = max(_shapes(beam) for beam in beams)
    if rotates:
        return "VMAT" if shapes > 1 else "conformal arc"
    return "IMRT" if shapes > _FEW_SEGMENTS or any(b.kind == "DYNAMIC" for b in beams) else "3D-CRT"


def _shapes(beam: TreatmentBeam) -> int:
    """Distinct leaf positions of a beam."""
    if beam.leaves_mm.size == 0:
        return 1
    return len(np.unique(np.nan_to_num(beam.leaves_mm).reshape(len(beam.leaves_mm), -1), axis=0))
