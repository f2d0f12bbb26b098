"""Structure sets from files that hold several structures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import segment_keys, write_segmentation

from DosePredictionLib.io import read_case
from DosePredictionLib.io.dicom import read_dicom
from DosePredictionLib.io.volumes import write_volume

Run = Callable[..., tuple[int, Any, str]]


def test_labels_and_segments_become_a_structure_each(
    run: Run, patient: Path, tmp_path: Path
) -> None:
    case = read_dicom(patient).case
    for file in patient.glob("r*.dcm"):
        file.unlink()
    inside = case.structures["PTV"].array > 0.5
    left, right = inside.copy(), inside.copy()
    middle = inside.shape[2] // 2
    left[..., :middle], right[..., middle:] = False, False
    labels = (left * 1 + right * 2).astype(np.uint8)
    keys = segment_keys(("Femur L", 1, 0), ("Femur R", 2, 0))
    write_segmentation(tmp_path / "s.seg.nrrd", labels, case.grid, keys)
    write_volume(tmp_path / "all.nii.gz", case.ct.with_array(labels))
    output = patient / "rs.dcm"
    end = ("--output", output)
    code, result, _ = run("rtstruct", patient, "--masks", tmp_path / "all.nii.gz", *end)
    assert code == 2 and "2 labels (1, 2)" in result["error"]["message"]
    (tmp_path / "all.json").write_text('{"1": "One", "2": "Two"}')
    masks = (tmp_path / "all.nii.gz", tmp_path / "s.seg.nrrd")
    code, result, _ = run("rtstruct", patient, "--masks", *masks, *end)
    assert code == 0 and set(result["structures"]) == {"One", "Two", "Femur L", "Femur R"}
    back = read_case(patient).structures
    for name, mask in (("One", left), ("Femur L", left), ("Two", right)):
        assert float(back[name].array.sum()) == pytest.approx(float(mask.sum()), rel=0.05)
