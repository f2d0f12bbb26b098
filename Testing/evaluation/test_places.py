"""Where a dose is what it is."""

from __future__ import annotations

import numpy as np
import pytest

from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.evaluation.places import dose_at, extreme_voxel
from DosePredictionLib.volume import Grid, Volume


def test_the_hot_and_the_cold_spot_of_a_structure_are_its_own() -> None:
    """Not the patient's: the highest dose lies outside the structure."""
    dose = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    mask = np.zeros(dose.shape, bool)
    mask[1:3, 2:4, 1:5] = True
    assert extreme_voxel(dose, mask, "hot") == (2, 3, 4)
    assert extreme_voxel(dose, mask, "cold") == (1, 2, 1)


def test_slivers_of_an_occupancy_do_not_decide() -> None:
    dose = np.zeros((3, 3, 3), np.float32)
    dose[0, 0, 0], dose[1, 1, 1] = 70, 50
    occupancy = np.zeros((3, 3, 3), np.float32)
    occupancy[1, 1, 1] = occupancy[1, 1, 2] = 1.0
    occupancy[0, 0, 0] = 0.1
    assert extreme_voxel(dose, occupancy, "hot") == (1, 1, 1)


def test_of_many_equal_voxels_the_middle_one_is_shown() -> None:
    dose = np.zeros((3, 9, 9), np.float32)
    mask = np.zeros(dose.shape, bool)
    mask[1, 2:7, 2:7] = True
    assert extreme_voxel(dose, mask, "cold") == (1, 4, 4)


@pytest.mark.parametrize("sense", ["hot", "cold"])
def test_an_empty_structure_has_no_place(sense: str) -> None:
    nothing = np.zeros((2, 2, 2), bool)
    assert extreme_voxel(np.ones((2, 2, 2)), nothing, sense) is None  # type: ignore[arg-type]


def test_the_dose_between_voxels_is_interpolated_and_outside_there_is_none() -> None:
    """A linear dose is exact everywhere between the outer centers; index (x, y, z)."""
    z, y, x = np.mgrid[0:4, 0:5, 0:6]
    dose = (1 * x + 10 * y + 100 * z).astype(np.float64)
    assert dose_at(dose, (2.5, 3.25, 1.75)) == pytest.approx(2.5 + 32.5 + 175)
    assert dose_at(dose, (5, 4, 3)) == pytest.approx(345)
    assert dose_at(dose, (5.4, 4, 3)) == pytest.approx(345)  # within the last voxel
    assert dose_at(dose, (5.6, 4, 3)) is None
    assert dose_at(dose, (-0.6, 0, 0)) is None
    assert dose_at(np.ones((1, 1, 1)), (0, 0, 0)) == 1.0


def test_the_share_that_gets_more_than_the_hot_spot_is_nothing() -> None:
    """The rank under the mouse is the DVH's: anisotropic voxels, the whole above its coldest."""
    rng = np.random.default_rng(3)
    grid = Grid((6, 5, 4), (1.0, 2.0, 3.0))
    dose = Volume(rng.uniform(20, 60, (4, 5, 6)).astype(np.float32), grid)
    mask = np.zeros(grid.shape, bool)
    mask[1:3, 1:4, 1:5] = True
    curve = dvh(dose, Volume(mask, grid))
    hot, cold = (extreme_voxel(dose.array, mask, sense) for sense in ("hot", "cold"))
    assert curve.volume_at_gy(float(dose.array[hot])) < 5
    assert curve.volume_at_gy(float(dose.array[cold])) > 95
