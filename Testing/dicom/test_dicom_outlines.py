"""Masks drawn as contours keep their volume, however thin or ragged they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from DosePredictionLib.io import read_case
from DosePredictionLib.io.dicom import read_dicom
from DosePredictionLib.io.dicom.contours import occupancy_of
from DosePredictionLib.io.dicom.outline import outlines
from DosePredictionLib.io.volumes import write_volume
from DosePredictionLib.volume import Grid, Volume

Run = Callable[..., tuple[int, Any, str]]
GRID = Grid((40, 30, 8), (2.0, 3.0, 2.5), (-39.123456, -43.5, -801.2))
VOXEL_CC = GRID.voxel_volume_cc


def read_back(array: np.ndarray, grid: Grid = GRID) -> tuple[float, float, list[str]]:
    """Volume of a mask and of its contours as they are written, cc, and what the reader noticed."""
    loops = [np.round(points, 4) for _, points in outlines(Volume(array, grid))]
    back, findings = occupancy_of("X", loops, grid, Path("rs.dcm"))
    stated, written = (float(each.sum(dtype=float)) for each in (array, back.array))
    voxel = grid.voxel_volume_cc
    return stated * voxel, written * voxel, [finding.id for finding in findings]


def kept(array: np.ndarray) -> bool:
    stated, written, _ = read_back(array)
    return abs(written - stated) <= max(0.01 * stated, VOXEL_CC / 50)


def at(*places: tuple[int, int, int], value: float = 1.0) -> np.ndarray:
    array = np.zeros(GRID.shape, np.float32)
    for place in places:
        array[place] = value
    return array


@pytest.mark.parametrize("value", [1.0, 0.5, 0.3, 0.05])
@pytest.mark.parametrize("place", [(3, 10, 20), (0, 0, 0), (7, 29, 39), (3, 0, 20)])
def test_a_single_voxel_keeps_its_volume(place: tuple[int, int, int], value: float) -> None:
    stated, written, findings = read_back(at(place, value=value))
    assert stated == pytest.approx(value * VOXEL_CC)
    assert written == pytest.approx(stated, rel=0.02) and not findings


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "a line": lambda z, y, x: (y == 15) & (x > 5) & (x < 30),
    "a diagonal": lambda z, y, x: (y == x) & (y > 3) & (y < 25),
    "a plate in one slice": lambda z, y, x: (z == 4) & (y > 5) & (y < 20) & (x > 8),
    "a ring": lambda z, y, x: np.abs(np.hypot(y - 15, x - 20) - 8) < 0.6,
    "a checkerboard": lambda z, y, x: ((y + x) % 2 == 0) & (z < 2),
    "two that touch": lambda z, y, x: ((y < 8) & (x < 9)) | ((y >= 8) & (x >= 9)),
    "everything": lambda z, y, x: z >= 0,
    "a ball": lambda z, y, x: np.hypot(np.hypot(y - 15, x - 20), 2 * (z - 4)) < 7,
}


@pytest.mark.parametrize("value", [1.0, 0.4, 0.15])
@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_thinner_than_a_voxel_keeps_its_volume(name: str, value: float) -> None:
    shape = SHAPES[name](*np.indices(GRID.shape))
    assert shape.any() and kept((shape * value).astype(np.float32))
    assert kept(shape)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("values", [(0, 1), (0, 0.5, 1), (0, 0.25, 0.5, 0.75, 1)])
def test_a_ragged_mask_reads_back_without_crossing_itself(
    share: float, values: tuple[float, ...]
) -> None:
    rng = np.random.default_rng(11)
    chosen = rng.choice(values[1:], GRID.shape) * (rng.random(GRID.shape) < share)
    stated, written, findings = read_back(chosen.astype(np.float32))
    assert set(findings) <= {"contours-specks"}  # single voxels
    assert written == pytest.approx(stated, rel=0.01)


def test_pieces_far_apart_each_keep_their_own_volume() -> None:
    array = at((3, 5, 5), value=0.2)
    array[3, 10:25, 15:35] = 1
    loops = [points for _, points in outlines(Volume(array, GRID))]
    back, _ = occupancy_of("X", loops, GRID, Path("rs.dcm"))
    assert back.array[3, 4:7, 4:7].sum() == pytest.approx(0.2, rel=0.02)
    assert back.array[3, 8:, 12:].sum() == pytest.approx(300, rel=0.01)


def test_dust_is_not_drawn() -> None:
    array = at((3, 5, 5), value=9e-4)
    array[4, 20, 20] = 1.0
    assert [z for z, _ in outlines(Volume(array, GRID))] == [4]


def test_fine_masks_of_a_coarse_ct_keep_their_volume_or_say_which_does_not(
    run: Run, patient: Path, tmp_path: Path
) -> None:
    case = read_dicom(patient).case
    for file in patient.glob("r*.dcm"):
        file.unlink()
    fine = case.grid.refined(4)
    z, y, x = np.indices(fine.shape)
    masks = {
        "Lens": np.hypot(np.hypot(y - 40.3, x - 50.2), z - 17.6) < 2.2,
        "Nerve": (np.hypot(y - 30, x - 40) < 1.3) & (z > 4) & (z < 25),
        "Sheet": (z > 9) & (z < 11) & (y > 20) & (y < 70) & (x > 30) & (x < 60),
        "Broken": (np.hypot(y - 60, x - 60) < 9) & ((z // 4) % 2 == 0),  # every second slice
    }
    for name, inside in masks.items():
        write_volume(tmp_path / "masks" / f"{name}.nii.gz", Volume(inside.astype(np.uint8), fine))
    code, result, notes = run(
        "rtstruct", patient, "--masks", tmp_path / "masks", "--output", patient / "rs.dcm"
    )
    assert code == 0
    changed = [each for each in result["checks"] if each["id"] == "structure-volume-changed"]
    assert [(each["structure"], each["severity"]) for each in changed] == [("Broken", "warning")]
    assert "Broken has" in notes
    back = read_case(patient).structures
    for name, inside in masks.items():
        stated = np.count_nonzero(inside) * fine.voxel_volume_cc
        written = float(back[name].array.sum()) * case.grid.voxel_volume_cc
        close = abs(written - stated) <= max(0.03 * stated, case.grid.voxel_volume_cc / 2)
        assert close == (name != "Broken"), name


def test_a_single_voxel_of_eighty_cubic_millimeters_stays_it(
    run: Run, patient: Path, tmp_path: Path
) -> None:
    case = read_dicom(patient).case
    for file in patient.glob("r*.dcm"):
        file.unlink()
    mask = np.zeros(case.grid.shape, np.uint8)
    mask[4, 12, 12] = 1
    write_volume(tmp_path / "Seed.nii.gz", Volume(mask, case.grid))
    output = patient / "rs.dcm"
    code, result, _ = run(
        "rtstruct", patient, "--masks", tmp_path / "Seed.nii.gz", "--output", output
    )
    assert code == 0 and not result["checks"]
    seed = read_case(patient).structures["Seed"].array
    assert seed.sum() == pytest.approx(1.0, rel=0.01) and seed[4, 12, 12] > 0.7
