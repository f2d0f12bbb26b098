"""What the values of a mask mean, whichever way it was resampled or scaled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from support import centered_grid, ellipsoid, write_case_folder, write_nifti

from DosePredictionLib.case import Case
from DosePredictionLib.errors import CaseError
from DosePredictionLib.io import read_case
from DosePredictionLib.io.masks import label_values, mask_from_values, without_dust
from DosePredictionLib.volume import Volume

GRID = centered_grid((48, 40, 32), (4.0, 4.0, 5.0))
TRUTH = ellipsoid(GRID, (3, -2, 4), (35, 30, 40))
SMALL = ellipsoid(GRID, (1, 2, 1), (7, 6, 8))


def shifted(values: NDArray, order: int) -> NDArray[np.float64]:
    """Values interpolated half a voxel aside and back: a rim of values between."""
    there = ndimage.shift(values.astype(float), (0.5, 0.3, 0.4), order=order)
    return ndimage.shift(there, (-0.5, -0.3, -0.4), order=order)


def read(array: NDArray) -> tuple[NDArray, str | None]:
    mask, finding = mask_from_values(array, Path("PTV.nii.gz"), "PTV")
    return mask, None if finding is None else finding.id


def within(mask: NDArray, truth: NDArray, share: float) -> None:
    assert mask.dtype == bool
    volume = np.count_nonzero(truth)
    assert abs(np.count_nonzero(mask) - volume) <= share * volume + 2
    overlap = 2 * np.count_nonzero(mask & truth) / (volume + np.count_nonzero(mask))
    assert overlap > 0.9


# ---------------------------------------------------------------- binary masks


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint16", "float32"])
@pytest.mark.parametrize("high", [1, 3, 255, 1000])
def test_two_values_are_outside_and_inside(dtype: str, high: int) -> None:
    if np.dtype(dtype).kind in "bu" and high > (255 if dtype == "uint8" else 1000):
        high = 1
    high = 1 if dtype == "bool" else high
    array = (TRUTH * high).astype(dtype)
    high = int(array.max())
    mask, rule = read(array)
    assert np.array_equal(mask, TRUTH)
    assert rule == (None if high == 1 else "mask-normalized")


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_an_empty_mask_stays_empty(dtype: str) -> None:
    mask, rule = read(np.zeros(GRID.shape, dtype))
    assert not mask.any() and mask.dtype == bool and rule is None


# ---------------------------------------------------------------- resampled masks


@pytest.mark.parametrize("truth", [TRUTH, SMALL])
@pytest.mark.parametrize("order", [1, 3])  # linear; cubic overshoots
@pytest.mark.parametrize(
    ("scale", "dtype"),
    [
        (255, "uint8"),
        (255, "int16"),
        (255, "float32"),
        (100, "int16"),
        (1000, "int16"),
        (3, "float32"),
    ],
)
def test_a_resampled_mask_is_cut_at_half(
    truth: NDArray, order: int, scale: int, dtype: str
) -> None:
    values = shifted(truth * scale, order)
    if dtype == "uint8":
        values = np.clip(values, 0, 255)
    array = np.rint(values).astype(dtype) if dtype != "float32" else values.astype(dtype)
    assert np.count_nonzero(array > 0) > 1.3 * np.count_nonzero(truth)
    assert not label_values(array)
    mask, rule = read(array)
    within(mask, truth, 0.08)
    assert rule == "mask-cut"


def test_a_mask_of_0_and_1_with_overshoot_is_cut_at_half() -> None:
    array = shifted(TRUTH, 3).astype(np.float32)
    assert array.min() < -0.02 and array.max() > 1.02
    mask, rule = read(array)
    within(mask, TRUTH, 0.05)
    assert rule == "mask-cut"


def test_a_scaled_mask_below_1_is_no_occupancy() -> None:
    for level in (1 / 255, 0.5, 0.9):
        mask, rule = read((TRUTH * level).astype(np.float32))
        assert np.array_equal(mask, TRUTH) and rule == "mask-normalized"


def test_a_smoothed_mask_of_bytes_is_cut_at_half() -> None:
    array = np.rint(ndimage.gaussian_filter(TRUTH * 255.0, 1.5)).astype(np.uint8)
    mask, rule = read(array)
    within(mask, TRUTH, 0.1)  # smoothing itself shrinks what is convex
    assert rule == "mask-cut"


# ---------------------------------------------------------------- noise


@pytest.mark.parametrize("noise", [1e-12, 1e-9, 1e-6, 1e-4, -1e-9])
def test_noise_around_a_mask_is_outside(noise: float) -> None:
    rng = np.random.default_rng(0)
    array = (TRUTH + noise * rng.random(GRID.shape)).astype(np.float32)
    mask, _ = read(array)
    assert np.array_equal(mask, TRUTH)


@pytest.mark.parametrize("noise", [0.003, 0.01, -0.01])
def test_noise_of_a_percent_around_an_occupancy_is_outside(noise: float) -> None:
    occupancy = np.clip(shifted(TRUTH, 1), 0, 1)
    occupancy[occupancy < 0.02] = 0
    values = np.where(occupancy > 0, occupancy, noise * np.random.default_rng(0).random(GRID.shape))
    mask, _ = read(values.astype(np.float32))
    assert np.count_nonzero(mask) <= np.count_nonzero(occupancy)
    within(mask > 0.5, TRUTH, 0.1)


@pytest.mark.parametrize("scale", [255, 1000])
def test_noise_of_a_few_units_around_a_scaled_mask_is_outside(scale: int) -> None:
    rng = np.random.default_rng(0)
    array = np.clip(TRUTH * scale + rng.integers(-3, 4, GRID.shape), 0, scale).astype(np.int16)
    assert not label_values(array)
    mask, rule = read(array)
    assert np.array_equal(mask, TRUTH) and rule == "mask-cut"


@pytest.mark.parametrize("level", [1e-12, 1e-9, 1e-5, -1e-9])
def test_nothing_but_noise_is_no_structure(level: float) -> None:
    array = (level * np.random.default_rng(0).random(GRID.shape)).astype(np.float32)
    mask, rule = read(array)
    assert not mask.any() and rule == "mask-noise"


def test_one_wild_voxel_is_refused_and_does_not_become_the_structure() -> None:
    array = TRUTH.astype(np.float32) * 255
    array[1, 1, 1] = 8000
    with pytest.raises(CaseError, match=r"PTV\.nii\.gz.*neither a mask nor labels"):
        read(array)


# ---------------------------------------------------------------- occupancy


def test_occupancy_stays_what_it_is() -> None:
    array = np.clip(shifted(TRUTH, 1), 0, 1).astype(np.float32)
    array[array < 0.002] = 0
    mask, rule = read(array)
    assert mask.dtype == np.float32 and rule is None
    assert np.abs(mask - array).max() <= 1e-3
    assert np.array_equal(
        mask[(array > 0.01) & (array < 0.99)], array[(array > 0.01) & (array < 0.99)]
    )


def test_a_structure_thinner_than_a_voxel_stays_occupancy() -> None:
    array = np.zeros(GRID.shape, np.float32)
    array[10, 5:30, 20] = 0.3
    array[11, 5:30, 20] = 0.45
    mask, rule = read(array)
    assert np.array_equal(mask, array) and rule is None


def test_dust_in_occupancy_is_outside() -> None:
    occupancy = np.clip(shifted(TRUTH, 1), 0, 1)
    occupancy[occupancy < 0.01] = 0
    dusty = (occupancy + 1e-9).astype(np.float32)
    mask, _ = read(dusty)
    assert np.array_equal(mask > 0, occupancy > 0)
    cleaned = without_dust(np.array([0, 1e-9, 0.5, 1 - 1e-7, 1.0000001], np.float32))
    assert cleaned.tolist() == [0, 0, 0.5, 1, 1]
    assert without_dust(np.array([1e-9, 1 - 1e-7])).dtype == bool


# ---------------------------------------------------------------- what is no mask


def test_images_and_doses_are_refused() -> None:
    rng = np.random.default_rng(0)
    ct = np.where(TRUTH, 40 + rng.normal(0, 15, GRID.shape), -1000).astype(np.int16)
    dose = (ndimage.gaussian_filter(TRUTH.astype(float), 4) * 50).astype(np.float32)
    for array in (ct, dose):
        with pytest.raises(CaseError, match=r"PTV\.nii\.gz.*no mask"):
            read(array)


# ---------------------------------------------------------------- label maps


def labels(*values: int) -> NDArray[np.int32]:
    array = np.zeros(GRID.shape, np.int32)
    for number, value in enumerate(values):
        x = 2 + 7 * (number % 6)
        y = 2 + 7 * (number // 6 % 5)
        z = 2 + 7 * (number // 30)
        array[z : z + 6, y : y + 6, x : x + 6] = value
    return array


@pytest.mark.parametrize(
    "values",
    [
        (1, 2),
        (1, 255),
        (7, 250),
        (50, 51),
        (116, 117),
        tuple(range(1, 32)),
        tuple(range(1, 118)),
        (2, 9, 4000),
    ],
)
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_a_label_map_is_seen(values: tuple[int, ...], dtype: str) -> None:
    assert label_values(labels(*values).astype(dtype)) == tuple(sorted(values))


def test_labels_thinner_than_three_voxels_are_seen() -> None:
    array = np.zeros(GRID.shape, np.uint8)
    array[5, 5:20, 5] = 1
    array[9, 5:20, 5] = 2
    array[12:20, 20:30, 20:30] = 3
    assert label_values(array) == (1, 2, 3)


def test_no_mask_is_a_label_map() -> None:
    for array in (TRUTH, TRUTH * 255, TRUTH * 7.0, shifted(TRUTH, 1), -1.0 * TRUTH):
        assert label_values(array) == ()


# ---------------------------------------------------------------- in a case


def test_a_case_of_resampled_masks_keeps_its_volumes(tmp_path: Path, case: Case) -> None:
    folder = write_case_folder(tmp_path / "p", case)
    for name in ("PTV", "Rectum", "Bladder"):
        mask = case.structures[name]
        values = np.clip(np.rint(shifted(mask.array * 255, 1)), 0, 255).astype(np.uint8)
        write_nifti(folder / f"{name}.nii.gz", mask.with_array(values))
    found = read_case(folder)
    for name in ("PTV", "Rectum", "Bladder"):
        within(found.structures[name].array, case.structures[name].array, 0.15)
    cut = {f.structure: f.severity for f in found.findings if f.id == "mask-cut"}
    assert cut == dict.fromkeys(("PTV", "Rectum", "Bladder"), "warning")


def test_a_mask_on_a_shifted_grid_of_the_same_voxels_stays_boolean(
    tmp_path: Path, case: Case
) -> None:
    folder = write_case_folder(tmp_path / "p", case)
    mask = case.structures["Rectum"]
    cropped = Volume(
        np.ascontiguousarray(mask.array[3:45, 5:60, 7:70]),
        case.grid.cropped((7, 5, 3), (63, 55, 42)),
    )
    write_nifti(folder / "Rectum.nii.gz", cropped)
    read_mask = read_case(folder).structures["Rectum"].array
    expected = np.zeros_like(mask.array)
    expected[3:45, 5:60, 7:70] = cropped.array
    assert read_mask.dtype == bool and np.array_equal(read_mask, expected)
