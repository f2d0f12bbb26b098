"""RTPLAN out: static beams in segments, unapproved, for research."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ...case import Case, Prescription
from ...delivery import TreatmentBeam
from ...errors import CaseError
from ...origin import Reference
from .files import RTDOSE, RTPLAN
from .writing import Equipment, decimal, new_object, new_uid, reference, save

__all__ = ["NOT_CLINICAL", "PlanFile", "plan_reference", "write_rtplan"]

NOT_CLINICAL = "NOT FOR CLINICAL USE"
_LABEL = "NOT FOR CLIN USE"  # 16 characters are all that a label holds
_SHORT = 16


@dataclass(frozen=True)
class PlanFile:
    """What an RTPLAN holds.

    Args:
        beams: each with its monitor units.
        prescription: dose of the whole treatment and its fractions.
        description: what a person should know; the warning goes before it.
        instance_uid: of the plan; other objects may refer to it before it is written.
        dose: the RTDOSE that goes with it.
    """

    beams: Sequence[TreatmentBeam]
    prescription: Prescription
    description: str
    instance_uid: str
    dose: Reference | None = None


def plan_reference() -> tuple[Reference, Reference]:
    """A plan and its dose that are yet to be written, so that each can name the other."""
    return Reference(RTPLAN, new_uid()), Reference(RTDOSE, new_uid())


def write_rtplan(path: Path, plan: PlanFile, case: Case, equipment: Equipment) -> None:
    """Write a plan, whole or not at all.

    It refers to the case's structure set, where it has one; else its geometry is the machine's.
    It has no patient setup beyond the position, and no tolerance table: nothing treats by it.

    Raises:
        CaseError: no beam, no monitor units, no number of fractions, or a gantry or collimator that
            turns.
    """
    if not plan.beams or any(not beam.meterset for beam in plan.beams):
        raise CaseError(f"The plan of {case.name} has no beam, or one without monitor units.")
    for beam in plan.beams:
        if np.ptp(beam.gantry_degrees) > 0 or np.ptp(beam.collimator_degrees) > 0:
            raise CaseError(
                f"{beam.name} turns gantry or collimator: only leaves and jaws may move."
            )
    if plan.prescription.fractions is None:
        raise CaseError(
            f"The plan of {case.name} has no number of fractions. Give one (--fractions)."
        )
    dataset = new_object(RTPLAN, "RTPLAN", case, NOT_CLINICAL, equipment)
    dataset.SOPInstanceUID = plan.instance_uid
    dataset.RTPlanLabel, dataset.RTPlanName = _LABEL, NOT_CLINICAL
    dataset.RTPlanDescription = f"{NOT_CLINICAL}. {plan.description}"
    dataset.RTPlanDate, dataset.RTPlanTime = (
        dataset.InstanceCreationDate,
        dataset.InstanceCreationTime,
    )
    dataset.PlanIntent, dataset.ApprovalStatus = "RESEARCH", "UNAPPROVED"
    origin = case.origin
    if origin is not None and origin.structure_set is not None:
        dataset.RTPlanGeometry = "PATIENT"
        dataset.ReferencedStructureSetSequence = [reference(origin.structure_set)]
    else:
        dataset.RTPlanGeometry = "TREATMENT_DEVICE"
    if plan.dose is not None:
        dataset.ReferencedDoseSequence = [reference(plan.dose)]
    numbers = {} if origin is None else origin.roi_numbers
    dataset.DoseReferenceSequence = [
        _dose_reference(number, name, gy, numbers.get(name))
        for number, (name, gy) in enumerate(plan.prescription.target_gy.items(), start=1)
    ]
    dataset.FractionGroupSequence = [_fraction_group(plan)]
    dataset.PatientSetupSequence = [_setup("" if origin is None else origin.patient_position)]
    dataset.BeamSequence = [_beam(beam) for beam in plan.beams]
    save(path, dataset, implicit=True)


def _dose_reference(number: int, name: str, dose_gy: float, roi: int | None) -> Dataset:
    item = Dataset()
    item.DoseReferenceNumber, item.DoseReferenceUID = number, new_uid()
    item.DoseReferenceStructureType = "SITE" if roi is None else "VOLUME"
    if roi is not None:
        item.ReferencedROINumber = roi
    item.DoseReferenceDescription, item.DoseReferenceType = name[:64], "TARGET"
    item.TargetPrescriptionDose = decimal(dose_gy)
    return item


def _fraction_group(plan: PlanFile) -> Dataset:
    group = Dataset()
    group.FractionGroupNumber = 1
    group.NumberOfFractionsPlanned = plan.prescription.fractions
    group.NumberOfBeams, group.NumberOfBrachyApplicationSetups = len(plan.beams), 0
    group.ReferencedBeamSequence = []
    for beam in plan.beams:
        item = Dataset()
        item.ReferencedBeamNumber, item.BeamMeterset = beam.number, decimal(beam.meterset or 0.0)
        group.ReferencedBeamSequence.append(item)
    return group


def _setup(position: str) -> Dataset:
    item = Dataset()
    item.PatientSetupNumber, item.PatientPosition = 1, position or "HFS"
    return item


def _beam(beam: TreatmentBeam) -> Dataset:
    item = Dataset()
    item.BeamNumber, item.BeamName = beam.number, beam.name[:64]
    item.BeamType, item.RadiationType = beam.kind, "PHOTON"
    item.TreatmentMachineName = beam.machine[:_SHORT]
    item.PrimaryDosimeterUnit, item.SourceAxisDistance = "MU", decimal(beam.sad_mm or 1000.0)
    item.BeamLimitingDeviceSequence = _devices(beam)
    item.ReferencedPatientSetupNumber = 1
    item.TreatmentDeliveryType = "TREATMENT"
    for part in ("Wedges", "Compensators", "Boli", "Blocks"):
        setattr(item, f"NumberOf{part}", 0)
    item.FinalCumulativeMetersetWeight = "1"
    item.NumberOfControlPoints = beam.points
    item.ControlPointSequence = [_point(beam, index) for index in range(beam.points)]
    return item


def _devices(beam: TreatmentBeam) -> list[Dataset]:
    devices = []
    for kind, pairs in (
        ("ASYMX", 1),
        ("ASYMY", 1),
        (f"MLC{beam.leaves_along}", beam.leaves_mm.shape[2]),
    ):
        item = Dataset()
        item.RTBeamLimitingDeviceType, item.NumberOfLeafJawPairs = kind, pairs
        if kind.startswith("MLC"):
            item.LeafPositionBoundaries = [decimal(border) for border in beam.leaf_borders_mm]
        devices.append(item)
    return devices


def _point(beam: TreatmentBeam, index: int) -> Dataset:
    """A control point; what the one before has states is stated again only where it may change."""
    item = Dataset()
    item.ControlPointIndex = index
    item.CumulativeMetersetWeight = decimal(float(beam.weight[index]))
    if not index or _moved(beam, index):
        # The standard asks for what moves alone; some readers want every device where one does.
        item.BeamLimitingDevicePositionSequence = [
            _positions("ASYMX", beam.jaws_x_mm[index]),
            _positions("ASYMY", beam.jaws_y_mm[index]),
            _positions(f"MLC{beam.leaves_along}", beam.leaves_mm[index].ravel()),
        ]
    if index:
        return item
    item.NominalBeamEnergy = decimal(beam.energy_mv or 0.0)
    if np.isfinite(beam.dose_rate_mu_min[0]):
        item.DoseRateSet = decimal(float(beam.dose_rate_mu_min[0]))
    for keyword, degrees in (
        ("Gantry", beam.gantry_degrees),
        ("BeamLimitingDevice", beam.collimator_degrees),
        ("PatientSupport", beam.couch_degrees),
        ("TableTopEccentric", np.zeros(1)),
    ):
        setattr(item, f"{keyword}Angle", decimal(float(degrees[0])))
        setattr(item, f"{keyword}RotationDirection", "NONE")
    for axis in ("Vertical", "Longitudinal", "Lateral"):
        setattr(item, f"TableTop{axis}Position", "")
    assert beam.isocenter_mm is not None
    item.IsocenterPosition = [decimal(mm) for mm in beam.isocenter_mm]
    return item


def _moved(beam: TreatmentBeam, index: int) -> bool:
    """Whether leaves or jaws stand otherwise than at the control point before."""
    parts = (beam.leaves_mm, beam.jaws_x_mm, beam.jaws_y_mm)
    return any(np.any(part[index] != part[index - 1]) for part in parts)


def _positions(kind: str, positions: np.ndarray) -> Dataset:
    item = Dataset()
    item.RTBeamLimitingDeviceType = kind
    item.LeafJawPositions = [decimal(float(mm)) for mm in positions]
    return item
