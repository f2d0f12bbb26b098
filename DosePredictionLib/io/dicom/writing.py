"""What every DICOM object written here shares: patient, study, series, equipment, safe saving."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

from ... import __version__
from ...case import Case
from ...models.manifest import ModelManifest
from ...origin import Reference
from ..volumes import whole_file

__all__ = ["WARNING", "Equipment", "decimal", "new_object", "new_uid", "reference", "save"]

WARNING = "PREDICTED – NOT FOR CLINICAL USE"
"""Series description of everything that is predicted."""

_SOFTWARE = "DosePrediction"
_LONGEST_TEXT = 64
_UTF_8 = "ISO_IR 192"


@dataclass(frozen=True)
class Equipment:
    """What contributed to an object, as its contributing equipment states it.

    Args:
        name: of the model.
        version: of the model; its weights' checksum distinguishes one from another.
        contribution: what it did.
    """

    name: str
    version: str
    contribution: str = "Dose predicted by a neural network; research only"

    @classmethod
    def of_model(cls, manifest: ModelManifest) -> Equipment:
        """A model of this software's version."""
        version = f"{__version__}, weights {manifest.weights_sha256[:16]}"
        return cls(manifest.name, version)


def new_uid(*sources: str) -> str:
    """A UID below 2.25; the same for the same sources, a new one without."""
    if not sources:
        return str(generate_uid(prefix=None))
    digest = hashlib.sha256("\0".join(sources).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def decimal(value: float) -> str:
    """A decimal string of at most 16 characters, as the standard wants it."""
    return format_number_as_ds(float(value))


def reference(target: Reference) -> Dataset:
    """An item that refers to an object."""
    item = Dataset()
    item.ReferencedSOPClassUID = target.class_uid
    item.ReferencedSOPInstanceUID = target.instance_uid
    return item


def new_object(
    class_uid: str, modality: str, case: Case, description: str, equipment: Equipment
) -> Dataset:
    """A new instance in a new series of the case's study.

    A case that does not come from DICOM has no patient: its name stands for patient name and ID,
    birth date and sex stay empty, and study and frame of reference get UIDs derived from the name
    and the grid, so that several results of one case lie together.
    """
    now = datetime.now()
    dataset = Dataset()
    dataset.SpecificCharacterSet = _UTF_8
    dataset.SOPClassUID, dataset.SOPInstanceUID = class_uid, new_uid()
    dataset.Modality, dataset.SeriesInstanceUID = modality, new_uid()
    dataset.SeriesDescription = description[:_LONGEST_TEXT]
    dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = now.strftime("%H%M%S")
    for keyword, value in _identity(case).items():
        setattr(dataset, keyword, value)
    dataset.SeriesNumber, dataset.InstanceNumber = 1, 1
    dataset.OperatorsName = ""
    dataset.Manufacturer, dataset.ManufacturerModelName = _SOFTWARE, _SOFTWARE
    dataset.SoftwareVersions = __version__
    dataset.ContributingEquipmentSequence = [_contribution(equipment, now)]
    return dataset


def _identity(case: Case) -> dict[str, str]:
    if case.origin is not None:
        return {
            **case.origin.patient,
            **case.origin.study,
            "FrameOfReferenceUID": case.origin.frame_of_reference_uid,
            "PositionReferenceIndicator": "",
        }
    source = f"{case.name} {case.grid}"
    empty = dict.fromkeys(
        ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"), ""
    )
    return {
        **empty,
        "PatientName": case.name[:_LONGEST_TEXT],
        "PatientID": case.name[:_LONGEST_TEXT],
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "StudyInstanceUID": new_uid("study", source),
        "FrameOfReferenceUID": new_uid("frame", source),
        "PositionReferenceIndicator": "",
    }


def _contribution(equipment: Equipment, now: datetime) -> Dataset:
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer = _SOFTWARE
    item.ManufacturerModelName = equipment.name[:_LONGEST_TEXT]
    item.SoftwareVersions = equipment.version[:_LONGEST_TEXT]
    item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    item.ContributionDescription = equipment.contribution
    return item


def save(path: Path, dataset: Dataset, implicit: bool = False) -> None:
    """Write the file whole or not at all.

    Args:
        implicit: leave out the VRs, where a value may outgrow the 64 KiB that explicit VR allows.
    """
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0  # counted when written
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(new_uid("implementation", _SOFTWARE, __version__))
    meta.ImplementationVersionName = _SOFTWARE.upper()[:16]
    dataset.file_meta, dataset.preamble = meta, b"\0" * 128
    if int(pydicom.__version__.split(".")[0]) < 3:
        dataset.is_implicit_VR, dataset.is_little_endian = implicit, True
    with whole_file(path) as partial:
        pydicom.dcmwrite(partial, dataset)
