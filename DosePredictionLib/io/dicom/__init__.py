"""DICOM in and out: CT, RTSTRUCT, RTPLAN, RTDOSE and SEG."""

from .case import DicomCase, read_dicom
from .selection import is_dicom

__all__ = ["DicomCase", "is_dicom", "read_dicom"]
