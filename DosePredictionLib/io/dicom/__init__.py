"""DICOM in and out: CT, RTSTRUCT, RTPLAN, RTDOSE and SEG."""

from .case import DicomCase, read_contours, read_dicom, read_images
from .dose import read_dose_file
from .selection import is_dicom

__all__ = [
    "DicomCase",
    "is_dicom",
    "read_contours",
    "read_dicom",
    "read_dose_file",
    "read_images",
]
