"""Organs found on a DICOM CT that nothing was contoured on, as an RTSTRUCT of its slices."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_support import save, square, structure_set, write_ct
from organs import ORGANS, organ_model, organs_case

from DosePredictionLib.case import Case
from DosePredictionLib.errors import CaseError
from DosePredictionLib.io import read_case
from DosePredictionLib.models.dose_model import DoseModel

pytestmark = pytest.mark.usefixtures("one_thread")

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture(scope="module")
def organs(tmp_path_factory: pytest.TempPathFactory) -> DoseModel:
    return organ_model(tmp_path_factory.mktemp("organs"))


@pytest.fixture(scope="module")
def contoured() -> Case:
    return organs_case((60, 60, 40))


def write_series(folder: Path, case: Case) -> Path:
    """The case's CT as a series of slices."""
    x, y, z = case.grid.origin
    places = [(x, y, z + case.grid.spacing[2] * index) for index in range(case.grid.size[2])]
    files = write_ct(folder, places, spacing=case.grid.spacing[0], size=case.grid.size[0])
    for file, hu in zip(files, case.ct.array, strict=True):
        dataset = pydicom.dcmread(file)
        dataset.PixelData = (hu.astype(int) + 1000).astype("<u2").tobytes()
        dataset["PixelData"].VR = "OW"
        save(file, dataset)
    return folder


def test_contours_on_a_dicom_ct_lie_on_its_slices_and_are_compared(
    run: Run, organs: DoseModel, contoured: Case, tmp_path: Path
) -> None:
    series = write_series(tmp_path / "ct", contoured)
    with pytest.raises(CaseError, match="holds no structure set"):
        read_case(series)
    bare = read_case(series, ct_alone=True)
    assert np.array_equal(bare.ct.array, contoured.ct.array) and not bare.structures
    call = ("segment", series, "--model", organs.folder, "--format", "rtstruct")
    fast = ("--device", "cpu", "--precision", "fp32")
    code, result, _ = run(*call, "--output", tmp_path / "out", *fast)
    assert code == 0
    drawn = Path(result["cases"][0]["files"][0])
    assert drawn.name == "organs.dcm"
    assert str(pydicom.dcmread(drawn).ContributingEquipmentSequence[0]).count("Organs contoured")
    whole = shutil.copytree(series, tmp_path / "whole")
    shutil.copy(drawn, whole / "organs.dcm")
    back = read_case(whole)
    assert set(back.structures) == {"Body", *ORGANS}
    for name in ORGANS:
        one, other = back.structures[name].majority(), contoured.structures[name].binary()
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.8, name
    for other_form in (drawn, drawn.parent, whole):
        code, result, _ = run("evaluate-contours", "--case", whole, "--prediction", other_form)
        assert code == 0 and set(result["structures"]) == set(ORGANS)
        assert all(each["dice"] == 1 for each in result["structures"].values())
    elsewhere = structure_set({"Bladder": square([0.0])}, "1.2.3", frame="1.2.3.4")
    save(tmp_path / "other.dcm", elsewhere)
    code, result, _ = run(
        "evaluate-contours", "--case", whole, "--prediction", tmp_path / "other.dcm"
    )
    assert code == 2 and "belongs to other images" in result["error"]["message"]
