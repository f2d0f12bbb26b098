"""A dose for another planning system: isodoses as structures, endpoints as objectives."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from plans import MACHINE
from support import DICOM_SAMPLE, write_nifti

from DosePredictionLib.case import Case
from DosePredictionLib.io import read_case
from DosePredictionLib.io.dicom.files import open_dicom
from DosePredictionLib.planning.wishes import parse_wish
from DosePredictionLib.volume import Volume

Run = Callable[..., tuple[int, Any, str]]


def test_a_dicom_case_gets_isodoses_and_objectives(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    dose = DICOM_SAMPLE / "RD.dcm"
    code, result, _ = run(
        "objectives", DICOM_SAMPLE, "--prediction", dose, "--output", out, "--levels", 95, 50
    )
    assert code == 0
    names = {Path(file).name for file in result["files"]}
    assert names == {"isodoses.dcm", "objectives.csv"}
    folder = out / DICOM_SAMPLE.name
    rois = open_dicom(folder / "isodoses.dcm").item.items("StructureSetROISequence")
    assert [roi.text("ROIName") for roi in rois] == [
        "Isodose 95% 43.70Gy",
        "Isodose 50% 23.00Gy",
    ]
    with (folder / "objectives.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    mean = next(row for row in rows if row["structure"] == "Rectum" and row["type"] == "mean")
    assert float(mean["dose_gy"]) == pytest.approx(39.11, abs=0.1)  # the planning system's
    assert {row["type"] for row in rows if row["role"] == "target"} == {"lower", "upper"}
    # The text of a row is what `plan --goal` takes.
    for row in rows:
        assert parse_wish(row["text"]).structure == row["structure"]
    assert MACHINE.id


def test_a_case_without_dicom_gets_masks(
    run: Run, case: Case, case_folder: Path, tmp_path: Path
) -> None:
    plan = read_case(case_folder).plan_dose
    assert plan is not None
    dose = write_nifti(tmp_path / "dose.nii.gz", Volume(plan.array, plan.grid))
    code, _, _ = run("objectives", case_folder, "--prediction", dose, "--output", tmp_path / "o")
    assert code == 0
    mask = tmp_path / "o" / case_folder.name / "Isodose_50%_22.50Gy.nii.gz"
    inside = np.asarray(nibabel.load(mask).dataobj) > 0
    assert inside.sum() == np.count_nonzero(plan.array >= 22.5)


@pytest.mark.parametrize("level", [0, -5, 200])
def test_levels_that_are_none_are_refused(run: Run, tmp_path: Path, level: float) -> None:
    code, result, _ = run(
        "objectives",
        DICOM_SAMPLE,
        "--prediction",
        DICOM_SAMPLE / "RD.dcm",
        "--output",
        tmp_path / "o",
        f"--levels={level}",
    )
    assert code == 2 and "Isodose levels" in result["error"]["message"]
