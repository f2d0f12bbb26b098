"""Where a case comes from: what a result in DICOM must name of its patient, study and images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["DicomOrigin", "Reference"]


@dataclass(frozen=True)
class Reference:
    """One DICOM object by class and instance."""

    class_uid: str
    instance_uid: str


@dataclass(frozen=True)
class DicomOrigin:
    """Identity of the patient, study and objects that a case was read from.

    It holds personal data. Only DICOM writers use it; it never enters a report or a training set.

    Args:
        patient: keyword → value of the patient module ("PatientName" …), as stored.
        study: keyword → value of the study module ("StudyInstanceUID" …), as stored.
        frame_of_reference_uid: that of the CT.
        ct_series_uid: the CT's series.
        ct_slices: one for each slice of the case's CT in array order; None where it was filled in.
        structure_set, plan: what the structures and the plan were read from.
        roi_numbers: structure → its number in the structure set.
        patient_position: HFS, FFP …; empty when not stated.
    """

    patient: Mapping[str, str] = field(repr=False)
    study: Mapping[str, str] = field(repr=False)
    frame_of_reference_uid: str
    ct_series_uid: str
    ct_slices: tuple[Reference | None, ...] = field(repr=False)
    structure_set: Reference | None = None
    plan: Reference | None = None
    roi_numbers: Mapping[str, int] = field(default_factory=dict)
    patient_position: str = ""
