"""`segment`: from CTs to contours as files, whose own stay, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from organs import ORGANS, organ_model, organs_case
from support import ct_of, write_case_folder, write_nifti

from DosePredictionLib.app.segment import model_of_organs
from DosePredictionLib.case import Case
from DosePredictionLib.cli import main
from DosePredictionLib.inference.predictor import default_model
from DosePredictionLib.io import read_case
from DosePredictionLib.io.nifti import read_structures
from DosePredictionLib.io.seg_nrrd import write_segmentation
from DosePredictionLib.mask import Mask
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.volume import Volume

pytestmark = pytest.mark.usefixtures("one_thread")

Run = Callable[..., tuple[int, Any, str]]
FAST = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="session")
def organs(tmp_path_factory: pytest.TempPathFactory) -> DoseModel:
    return organ_model(tmp_path_factory.mktemp("organs"))


@pytest.fixture(scope="session")
def contoured() -> Case:
    return organs_case()


@pytest.fixture
def patient(tmp_path: Path, contoured: Case) -> Path:
    """The target is contoured, and a bladder that is not where it is."""
    wrong = np.roll(contoured.structures["Bladder"].binary(), 8, axis=0)
    only = {"PTV": contoured.structures["PTV"], "Bladder": Volume(wrong, contoured.grid)}
    return write_case_folder(tmp_path / "patient", replace(contoured, structures=only))


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def message(result: Any) -> str:
    text: str = result["error"]["message"]
    assert "\n" not in text
    return text


# --- What is written ------------------------------------------------------------------------------


def test_what_is_found_is_a_case_that_a_dose_model_takes(
    run: Run,
    organs: DoseModel,
    pelvis_model: DoseModel,
    patient: Path,
    contoured: Case,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    code, result, _ = run("segment", patient, "--model", organs.folder, "--output", out, *FAST)
    assert code == 0
    (record,) = result["cases"]
    case = read_case(out / "patient")
    assert set(case.structures) == {"PTV", "Body", *ORGANS} == set(record["structures"])
    for name in ORGANS:
        assert dice(case.structures[name].binary(), contoured.structures[name].binary()) > 0.8
        assert record["structures"][name]["source"] == "model"
    assert record["structures"]["PTV"]["source"] == "case"
    assert case.prescription == contoured.prescription
    assert {check["structure"] for check in record["checks"] if check["id"] == "organ-not-found"}
    assert "structure-missing" not in {check["id"] for check in record["checks"]}
    written = json.loads((out / "patient" / "segmentation.json").read_text())
    assert "not for clinical use" in written["statement"] and written["model"] == "organs-by-hu"
    assert sorted(path.name for path in (out / "patient").iterdir()) == sorted(written["files"])
    dose_model = shutil.copytree(pelvis_model.folder, tmp_path / "small")
    manifest = json.loads((dose_model / "model.json").read_text())
    manifest["encoding"]["grid"].update(size=[64, 48, 48], spacing_mm=[6.0, 6.0, 7.0])
    (dose_model / "model.json").write_text(json.dumps(manifest))
    call = ("predict", out / "patient", "--model", dose_model, "--goals", "none", *FAST)
    code, result, _ = run(*call, "--output", tmp_path / "dose")
    assert code == 0 and Path(result["cases"][0]["dose"]).is_file()


def test_ones_own_contours_stay_and_missing_ones_are_added(
    run: Run, organs: DoseModel, contoured: Case, tmp_path: Path
) -> None:
    own = {name: contoured.structures[name] for name in ("PTV", "Rectum")}
    moved = np.roll(contoured.structures["Bladder"].binary(), 2, axis=2)
    own["My bladder/old"] = Volume(moved, contoured.grid)
    case = replace(contoured, structures=own)
    names = {"My bladder/old": "Harnblase"}
    folder = write_case_folder(tmp_path / "p", case, names=names)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    out = tmp_path / "out"
    call = ("segment", folder, "--model", organs.folder, "--output", out, "--fill-missing", *FAST)
    code, result, _ = run(*call)
    assert code == 0
    structures = result["cases"][0]["structures"]
    sources = {name: each["source"] for name, each in structures.items()}
    assert sources.pop("Harnblase") == sources.pop("Rectum") == sources.pop("PTV") == "case"
    assert sources == dict.fromkeys(("FemurHead_L", "FemurHead_R", "Body"), "model")
    found = read_case(out / "p")
    assert np.array_equal(found.structures["Harnblase"].binary(), moved)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert run(*call)[0] == 0  # its own files are replaced


def test_a_ct_by_itself_gives_a_segmentation_that_is_read_again(
    run: Run, organs: DoseModel, contoured: Case, tmp_path: Path
) -> None:
    write_nifti(tmp_path / "scan.nii.gz", contoured.ct)
    call = ("segment", tmp_path / "scan.nii.gz", "--model", organs.folder, "--format", "seg")
    code, result, _ = run(*call, "--output", tmp_path / "out", *FAST)
    assert code == 0
    path = tmp_path / "out" / "scan" / "organs.seg.nrrd"
    assert result["cases"][0]["files"] == [str(path), str(path.parent / "segmentation.json")]
    found = read_structures(path, contoured.grid, [])
    assert set(found) == {"Body", *ORGANS}
    for name in ORGANS:
        assert dice(found[name].binary(), contoured.structures[name].binary()) > 0.8


@pytest.mark.parametrize("direction", [np.eye(3), [[-1, 0, 0], [0, 0, 1], [0, 1, 0]]])
def test_segments_that_overlap_lie_in_layers(tmp_path: Path, direction: Any) -> None:
    rng = np.random.default_rng(0)
    grid = replace(
        organs_case((8, 9, 10)).grid,
        spacing=(3.0, 2.0, 1.0),
        direction=tuple(map(tuple, np.asarray(direction, float))),
    )
    masks = {f"Organ {n}": Mask(rng.random(grid.shape) < 0.4, grid) for n in range(5)}
    masks["Nothing"] = Mask(np.zeros(grid.shape, bool), grid)
    path = tmp_path / "some.seg.nrrd"
    write_segmentation(path, masks, grid, {"Organ 1": "#d62728"})
    back = read_structures(path, grid, [])
    assert set(back) == set(masks)
    for name, mask in masks.items():
        assert np.array_equal(back[name].binary(), mask.binary()), name


# --- Which model ----------------------------------------------------------------------------------


def test_models_of_organs_are_the_default_of_segment_alone(
    run: Run, patient: Path, contoured: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ("segment", patient, "--output", tmp_path / "out", *FAST)
    assert model_of_organs(None).manifest.name == "pelvis-organs-simulated"
    doses = [each for each in DoseModel.installed() if each.manifest.task != "segmentation"]
    found: list[DoseModel] = []
    monkeypatch.setattr(DoseModel, "installed", staticmethod(lambda: [*found, *doses]))
    code, result, _ = run(*call)
    assert code == 2 and "train one (docs/segmentation.md)" in message(result)
    found.append(organ_model(tmp_path / "models", "a-first", default=True))
    assert default_model(contoured).manifest.name == "pelvis-simulated"
    assert run(*call)[1]["cases"][0]["model"] == "a-first"
    found.append(organ_model(tmp_path / "models", "a-second", default=True))
    code, result, _ = run(*call)
    assert code == 2 and "a-first, a-second" in message(result)


def test_a_model_of_the_other_kind_is_refused(
    run: Run, organs: DoseModel, pelvis_model: DoseModel, patient: Path, tmp_path: Path
) -> None:
    out = ("--output", tmp_path / "out", *FAST)
    code, result, _ = run("predict", patient, "--model", organs.folder, *out)
    assert code == 2 and "organs-by-hu finds organs and predicts no dose" in message(result)
    code, result, _ = run("segment", patient, "--model", pelvis_model.folder, *out)
    assert code == 2 and "random-pelvis predicts a dose and finds no organs" in message(result)
    assert not (tmp_path / "out").exists()


# --- What is refused ------------------------------------------------------------------------------


def water(case: Case) -> Case:
    body = case.ct.array > -500
    return replace(case, ct=case.ct.with_array(ct_of(body)))


def rescaled(case: Case) -> Case:
    values = ((case.ct.array.astype(float) + 1000) / 1700 * 255).clip(0, 255).astype(np.uint8)
    return replace(case, ct=case.ct.with_array(values))


def shifted(case: Case) -> Case:
    return replace(case, ct=case.ct.with_array((case.ct.array + 1024).astype(np.int16)))


def air(case: Case) -> Case:
    return replace(case, ct=case.ct.with_array(np.full_like(case.ct.array, -1000)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (water, "shows no pelvis, or too little of it: of its 7 organs none was found"),
        (rescaled, "HU"),
        (shifted, "HU"),
        (air, "No body was found|HU"),
    ],
)
def test_a_ct_without_a_pelvis_or_without_hu_is_one_line(
    run: Run,
    organs: DoseModel,
    contoured: Case,
    tmp_path: Path,
    change: Callable[[Case], Case],
    said: str,
) -> None:
    folder = write_case_folder(tmp_path / "odd", replace(change(contoured), structures={}))
    out = tmp_path / "out"
    code, result, error = run("segment", folder, "--model", organs.folder, "--output", out, *FAST)
    assert code == 2 and re.search(said, message(result)), message(result)
    assert "Traceback" not in error and not list(tmp_path.glob("out/*"))


def test_one_slice_is_no_volume(
    run: Run, organs: DoseModel, contoured: Case, tmp_path: Path
) -> None:
    grid = replace(contoured.grid, size=(*contoured.grid.size[:2], 1))
    path = write_nifti(tmp_path / "slice.nii.gz", Volume(contoured.ct.array[20:21], grid))
    out = tmp_path / "out"
    code, result, _ = run("segment", path, "--model", organs.folder, "--output", out, *FAST)
    assert code == 2 and "at least two voxels along every axis" in message(result)


def test_nothing_of_anybodys_is_overwritten(
    run: Run, organs: DoseModel, patient: Path, tmp_path: Path
) -> None:
    call = ("segment", patient, "--model", organs.folder, *FAST, "--output")
    code, result, _ = run(*call, patient.parent)
    assert code == 2 and "is the case itself" in message(result)
    (tmp_path / "out" / "patient").mkdir(parents=True)
    (tmp_path / "out" / "patient" / "Bladder.nii.gz").write_bytes(b"mine")
    code, result, _ = run(*call, tmp_path / "out")
    assert code == 2 and "holds Bladder.nii.gz, which no earlier call wrote" in message(result)
    assert (tmp_path / "out" / "patient" / "Bladder.nii.gz").read_bytes() == b"mine"
    assert [path.name for path in (tmp_path / "out" / "patient").iterdir()] == ["Bladder.nii.gz"]
    code, result, _ = run(*call, tmp_path / "new", "--format", "rtstruct")
    assert code == 2 and "does not come from DICOM" in message(result)


def test_of_several_cases_one_may_fail(
    run: Run, organs: DoseModel, patient: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    code, result, _ = run(
        "segment", patient, tmp_path / "empty", tmp_path / "gone.nii.gz",
        "--model", organs.folder, "--output", tmp_path / "out", *FAST,
    )  # fmt: skip
    assert code == 3
    assert [each["case"] for each in result["cases"]] == ["patient"]
    assert [each["case"] for each in result["failed"]] == ["empty", "gone"]


def test_people_read_what_was_found_and_that_it_must_be_checked(
    capsys: pytest.CaptureFixture[str], organs: DoseModel, patient: Path, tmp_path: Path
) -> None:
    call = ["segment", str(patient), "--model", str(organs.folder), *FAST]
    assert main([*call, "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "FemurHead_L" in said.out and "check it" in said.out
    assert "not for clinical use" in said.out
    assert "Spinal cord was not found on this CT" in said.err
    image = nibabel.load(tmp_path / "out" / "patient" / "FemurHead_L.nii.gz")
    assert image.shape == organs_case().grid.size
