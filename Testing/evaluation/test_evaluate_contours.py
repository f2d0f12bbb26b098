"""`evaluate-contours`: a shift worked by hand, what the dose says, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guides import dose_model
from scipy import ndimage
from support import centered_grid, pelvis_case, write_case_folder, write_nifti

from DosePredictionLib.case import Case
from DosePredictionLib.cli import main
from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io import read_case
from DosePredictionLib.io.seg_nrrd import write_segmentation
from DosePredictionLib.mask import Mask
from DosePredictionLib.report.contour_change import ContourChange, worst_slice
from DosePredictionLib.volume import Volume

Run = Callable[..., tuple[int, Any, str]]
NAMES = ("Bladder", "Rectum", "Marrow", "FemurHead_L")


@pytest.fixture(scope="module")
def planned() -> Case:
    return pelvis_case((60, 48, 40), (5.0, 5.0, 5.0))


@pytest.fixture
def folder(tmp_path: Path, planned: Case) -> Path:
    return write_case_folder(tmp_path / "patient", planned)


def masks(folder: Path, case: Case, shift: int, names: tuple[str, ...] = NAMES) -> Path:
    """Masks that lie some voxels further to the back."""
    folder.mkdir()
    for name in names:
        moved = np.roll(case.structures[name].binary(), shift, axis=1)
        write_nifti(folder / f"{name}.nii.gz", Volume(moved, case.grid))
    return folder


def test_equal_contours_agree_in_everything(run: Run, folder: Path) -> None:
    code, result, _ = run("evaluate-contours", "--case", folder, "--prediction", folder)
    assert code == 0 and result["protocol"] == "pelvis"
    assert {"PTV", "Body"}.isdisjoint(result["structures"]) and len(result["structures"]) == 7
    for each in result["structures"].values():
        assert each["dice"] == each["surface_dice"] == 1 and each["hd95_mm"] == 0
        assert each["volume_cc"] == each["reference_cc"] > 0
        assert each["dose"]["Dmean_gy"]["difference"] == 0
    assert result["only_in_case"] == result["only_in_prediction"] == []


def test_a_shifted_contour_reads_another_dose(
    run: Run, folder: Path, planned: Case, tmp_path: Path
) -> None:
    moved = masks(tmp_path / "moved", planned, 1)
    code, result, _ = run("evaluate-contours", "--case", folder, "--prediction", moved)
    assert code == 0 and "Small_Intestine" in result["only_in_case"]
    bladder = result["structures"]["Bladder"]
    own = planned.structures["Bladder"].binary()
    other = np.roll(own, 1, axis=1)
    assert bladder["dice"] == pytest.approx(2 * (own & other).sum() / (own.sum() * 2))
    assert bladder["hd95_mm"] == pytest.approx(5.0) and bladder["surface_dice"] < 0.9
    dose = planned.plan_dose
    assert dose is not None
    for key, mask in (("reference", own), ("contour", other)):
        expected = dvh(dose, Volume(mask, planned.grid))
        assert bladder["dose"]["Dmean_gy"][key] == pytest.approx(expected.mean_gy)
        assert bladder["dose"]["D2cc_gy"][key] == pytest.approx(expected.dose_at_cc(2.0))
    # The bladder lies before the target, the rectum behind it.
    assert bladder["dose"]["Dmean_gy"]["difference"] > 0.5
    assert result["structures"]["Rectum"]["dose"]["Dmean_gy"]["difference"] < -0.5


def test_a_segmentation_on_another_grid_is_brought_onto_the_cases(
    run: Run, folder: Path, planned: Case, tmp_path: Path
) -> None:
    grid = centered_grid((150, 120, 80), (2.0, 2.0, 2.5))
    finer = {name: planned.structures[name].resampled_to(grid).as_binary() for name in ("Bladder",)}
    path = tmp_path / "finer.seg.nrrd"
    write_segmentation(path, finer, grid)
    code, result, _ = run("evaluate-contours", "--case", folder, "--prediction", path)
    assert code == 0 and result["structures"]["Bladder"]["dice"] > 0.9


def test_without_a_plan_the_dose_says_nothing_and_names_of_other_tools_find_their_organs(
    run: Run, planned: Case, tmp_path: Path
) -> None:
    names = {"Bladder": "urinary_bladder", "FemurHead_L": "femur_left", "SpinalCord": "spinal_cord"}
    names |= {"Small_Intestine": "small_bowel", "FemurHead_R": "femur_right"}
    case = replace(planned, plan_dose=None)
    folder = write_case_folder(tmp_path / "one", case)
    kept = {name: planned.structures[name] for name in names}
    other = write_case_folder(tmp_path / "two", replace(case, structures=kept), names=names)
    code, result, _ = run("evaluate-contours", "--case", folder, "--prediction", other)
    assert code == 0 and set(result["structures"]) == set(names)
    assert all(each["dose"] is None for each in result["structures"].values())
    assert set(result["only_in_case"]) == {"Rectum", "Marrow"}


def test_contours_that_do_not_belong_to_the_case_are_one_line(
    run: Run, folder: Path, planned: Case, tmp_path: Path
) -> None:
    def refused(path: Path) -> str:
        code, result, error = run("evaluate-contours", "--case", folder, "--prediction", path)
        assert code == 2 and "Traceback" not in error
        text: str = result["error"]["message"]
        return text

    assert "no such file or folder" in refused(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    assert "holds no masks" in refused(tmp_path / "empty")
    (tmp_path / "text.txt").write_text("no image")
    assert "text.txt" in refused(tmp_path / "text.txt")
    far = replace(planned.grid, origin=(5000.0, 0.0, 0.0))
    (tmp_path / "far").mkdir()
    inside = planned.structures["Bladder"].binary()
    write_nifti(tmp_path / "far" / "Bladder.nii.gz", Volume(inside, far))
    assert "overlap" in refused(tmp_path / "far")
    (tmp_path / "void").mkdir()
    nothing = Volume(np.zeros_like(inside), planned.grid)
    write_nifti(tmp_path / "void" / "Bladder.nii.gz", nothing)
    assert "no organ in common" in refused(tmp_path / "void")


def test_people_read_a_table(
    capsys: pytest.CaptureFixture[str], folder: Path, planned: Case, tmp_path: Path
) -> None:
    moved = masks(tmp_path / "moved", planned, 1)
    assert main(["evaluate-contours", "--case", str(folder), "--prediction", str(moved)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["organ", "Dice", "HD95"]
    assert next(line for line in lines if "Rectum" in line).split()[2] == "5.0"
    assert any("only in the case: Small_Intestine" in line for line in lines)


def test_the_volume_that_a_contour_gains_is_stated(
    run: Run, folder: Path, planned: Case, tmp_path: Path
) -> None:
    bigger = tmp_path / "bigger"
    bigger.mkdir()
    grown = ndimage.binary_dilation(planned.structures["Bladder"].binary())
    write_nifti(bigger / "Bladder.nii.gz", Volume(grown, planned.grid))
    code, result, _ = run("evaluate-contours", "--case", folder, "--prediction", bigger)
    bladder = result["structures"]["Bladder"]
    gained = bladder["volume_cc"] - bladder["reference_cc"]
    assert code == 0 and bladder["volume_difference_cc"] == pytest.approx(gained) and gained > 5


def test_the_dose_is_predicted_for_both_contours_and_read_in_the_own_organ(
    run: Run, folder: Path, planned: Case, tmp_path: Path
) -> None:
    moved = masks(tmp_path / "moved", planned, 2)
    model = dose_model(tmp_path)
    both = ("evaluate-contours", "--case", folder, "--model", model.folder)
    both += ("--device", "cpu", "--precision", "fp32", "--prediction")
    code, result, _ = run(*both, moved)
    assert code == 0 and result["model"] == model.manifest.name
    predictor = Predictor(model, "cpu", "fp32")
    swapped = {
        name: Volume(np.roll(planned.structures[name].binary(), 2, axis=1), planned.grid)
        for name in NAMES
    }
    case = read_case(folder)
    first = predictor.predict(case).dose
    second = predictor.predict(
        replace(case, structures={**case.structures, **swapped}, plan_dose=None)
    ).dose
    for name in NAMES:
        own = case.structures[name]
        for key in ("Dmean_gy", "D2cc_gy"):
            stated = result["structures"][name]["predicted"][key]
            assert stated["reference"] == pytest.approx(dvh(first, own).endpoint(key), rel=1e-5)
            assert stated["contour"] == pytest.approx(dvh(second, own).endpoint(key), rel=1e-5)
    changes = [s["predicted"]["Dmean_gy"]["difference"] for s in result["structures"].values()]
    assert all(changes)


def test_pictures_are_of_organs_whose_contour_moves_the_dose(
    run: Run, folder: Path, planned: Case, tmp_path: Path
) -> None:
    moved = masks(tmp_path / "moved", planned, 1, ("Bladder", "Rectum", "SpinalCord"))
    pictures = tmp_path / "pictures"
    call = ("evaluate-contours", "--case", folder, "--prediction", moved, "--pictures", pictures)
    code, result, _ = run(*call)
    assert code == 0
    moving = {
        name
        for name, each in result["structures"].items()
        if max(abs(value["difference"]) for value in each["dose"].values()) >= 0.1
    }
    assert {path.stem for path in pictures.iterdir()} == moving >= {"Bladder", "Rectum"}
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in pictures.iterdir())
    code, result, _ = run(*call)
    assert code == 2 and "choose another folder" in result["error"]["message"]
    bare = write_case_folder(tmp_path / "bare", replace(planned, plan_dose=None))
    code, result, _ = run(*call[:2], bare, *call[3:-1], tmp_path / "other")
    assert code == 2 and "no plan dose to draw" in result["error"]["message"]
    assert not (tmp_path / "other").exists()


def test_the_slice_is_that_where_the_dose_differs_most_from_the_organs_mean() -> None:
    grid = centered_grid((12, 12, 10), (2.0, 3.0, 4.0))
    own = np.zeros(grid.shape, dtype=bool)
    own[2:8, 4:8, 4:8] = True
    other = own.copy()
    other[3, 4:8, 8] = other[6, 4:8, 8] = True  # as much in two slices
    dose = np.full(grid.shape, 20.0, dtype=np.float32)
    dose[6, :, 8] = 45.0
    ct = Volume(np.zeros(grid.shape, dtype=np.int16), grid)

    def change(one: np.ndarray, two: np.ndarray) -> ContourChange:
        return ContourChange(
            "Bladder", ct, Volume(dose, grid), Mask(one, grid), Mask(two, grid), ()
        )

    assert worst_slice(change(own, other)) == 6
    assert worst_slice(change(own, own)) is None
    assert worst_slice(change(own & False, other)) is not None
