"""A small DICOM patient, and the shipped one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_support import dose, plan, refer, save, square, structure_set, write_ct
from pydicom.uid import generate_uid
from support import DICOM_SAMPLE

from DosePredictionLib.io.dicom import DicomCase, read_dicom


@pytest.fixture(scope="session")
def eclipse() -> DicomCase:
    return read_dicom(DICOM_SAMPLE)


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    """CT of eight slices with target and body, a plan of 50 Gy and its dose."""
    folder, series = tmp_path / "patient", generate_uid()
    write_ct(folder, SeriesInstanceUID=series)
    body = ((-50, -50), (50, -50), (50, 50), (-50, 50))
    structures = structure_set(
        {
            "PTV": square([10, 15, 20]),
            "Body": square([5.0 * z for z in range(8)], body),
            "Empty": [],
        },
        series,
    )
    planned = plan(structures, {1: 50.0})
    array = np.zeros((8, 24, 24))
    array[2:5, 8:16, 8:16] = np.arange(1, 4)[:, None, None] * 10
    planned_dose = dose(array, (-57.5, -57.5, 0))
    refer(planned_dose, "ReferencedRTPlanSequence", planned)
    save(folder / "rs.dcm", structures)
    save(folder / "rp.dcm", planned)
    save(folder / "rd.dcm", planned_dose)
    return folder
