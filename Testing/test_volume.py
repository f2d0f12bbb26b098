from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from support import OBLIQUE, centered_grid, ellipsoid

from DosePredictionLib.errors import GeometryError
from DosePredictionLib.volume import Grid, Volume

ANISOTROPIC = Grid((6, 5, 4), (3.0, 2.0, 1.0), (-7.0, 3.0, 11.0))


def counted(grid: Grid) -> Volume:
    return Volume(np.arange(np.prod(grid.shape), dtype=np.float32).reshape(grid.shape), grid)


def test_world_and_index_are_inverse_on_an_oblique_grid() -> None:
    grid = Grid((4, 5, 6), (3, 2, 1), (10, -20, 30), OBLIQUE)
    index = np.array([[0, 0, 0], [3.0, 4.0, 5.0], [1.5, 0.25, 2.0]])
    assert np.allclose(grid.index_from_world(grid.world_from_index(index)), index)


def test_world_of_a_voxel_worked_by_hand() -> None:
    assert np.allclose(ANISOTROPIC.world_from_index([2, 3, 1]), [-7 + 6, 3 + 6, 11 + 1])


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"spacing": (1, 0, 1)}, "positive"),
        ({"spacing": (1, -2, 1)}, "positive"),
        ({"spacing": (1, float("nan"), 1)}, "positive"),
        ({"size": (0, 4, 4)}, "positive sizes"),
        ({"direction": ((1, 0.3, 0), (0, 1, 0), (0, 0, 1))}, "orthonormal"),
        ({"direction": ((2, 0, 0), (0, 1, 0), (0, 0, 1))}, "orthonormal"),
        ({"origin": (0, float("inf"), 0)}, "finite"),
    ],
)
def test_impossible_grids_are_refused_with_the_rule(arguments: dict, rule: str) -> None:
    with pytest.raises(GeometryError, match=rule):
        Grid(**{"size": (4, 4, 4), **arguments})


def test_an_array_of_another_shape_is_refused() -> None:
    with pytest.raises(GeometryError, match="shape"):
        Volume(np.zeros((6, 5, 4)), ANISOTROPIC)


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0)])
def test_reordering_to_lps_keeps_every_voxel_where_it_is(order: tuple, flips: tuple) -> None:
    direction = np.zeros((3, 3))
    for column, (axis, flip) in enumerate(zip(order, flips, strict=True)):
        direction[axis, column] = flip
    volume = counted(Grid((6, 5, 4), (3, 2, 1), (5, 6, 7), tuple(map(tuple, direction))))
    reordered = volume.reordered_to_lps()
    assert reordered.grid.is_lps_ordered
    for index in [(0, 0, 0), (5, 4, 3), (2, 1, 3)]:
        world = volume.grid.world_from_index(index)
        x, y, z = np.round(reordered.grid.index_from_world(world)).astype(int)
        assert reordered.array[z, y, x] == volume.array[index[2], index[1], index[0]]


def test_reordering_and_resampling_back_is_exact() -> None:
    direction = ((0.0, 0.0, -1.0), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    volume = counted(Grid((6, 5, 4), (3, 2, 1), (5, 6, 7), direction))
    back = volume.reordered_to_lps().resampled_to(volume.grid, "nearest")
    assert np.array_equal(back.array, volume.array)
    linear = volume.reordered_to_lps().resampled_to(volume.grid, "linear")
    assert np.allclose(linear.array, volume.array)


def test_a_matching_grid_returns_the_volume_itself() -> None:
    volume = counted(ANISOTROPIC)
    assert volume.resampled_to(Grid((6, 5, 4), (3, 2, 1), (-7, 3, 11))) is volume


@pytest.mark.parametrize("direction", [None, OBLIQUE])
def test_linear_resampling_reproduces_a_linear_field(direction: tuple | None) -> None:
    source = centered_grid((40, 36, 30), (3.0, 2.0, 4.0), direction)
    z, y, x = np.meshgrid(*(np.arange(n) for n in source.shape), indexing="ij")
    world = source.world_from_index(np.stack([x, y, z], -1))
    slope = np.array([0.5, -0.25, 0.125])
    field = Volume((world @ slope).astype(np.float32), source)
    target = centered_grid((9, 8, 7), (2.5, 1.5, 3.5))
    z, y, x = np.meshgrid(*(np.arange(n) for n in target.shape), indexing="ij")
    expected = target.world_from_index(np.stack([x, y, z], -1)) @ slope
    assert np.allclose(field.resampled_to(target).array, expected, atol=1e-3)


def test_occupancy_worked_by_hand_on_3x3x3() -> None:
    mask = np.zeros((3, 3, 3), dtype=bool)
    mask[1, 1, 1] = True
    fine = Volume(mask, Grid((3, 3, 3), (1, 1, 1), (0, 0, 0)))
    coarse = Grid((1, 1, 1), (3, 3, 3), (1, 1, 1))
    assert np.isclose(fine.resampled_to(coarse, "occupancy").array[0, 0, 0], 1 / 27)
    halves = Grid((2, 1, 1), (1.5, 3, 3), (0.25, 1, 1))
    assert np.allclose(fine.resampled_to(halves, "occupancy").array, 0.5 / 13.5)


@pytest.mark.parametrize("direction", [None, OBLIQUE])
def test_occupancy_keeps_the_volume_of_a_small_organ(direction: tuple | None) -> None:
    source = centered_grid((60, 60, 60), (1.0, 1.0, 1.0), direction)
    organ = Volume(ellipsoid(source, (1.3, -0.7, 0.4), (5, 4, 6)), source)
    coarse = centered_grid((16, 16, 12), (4.0, 4.0, 6.0))
    occupancy = organ.resampled_to(coarse, "occupancy")
    fine_cc = organ.array.sum() * source.voxel_volume_cc
    assert np.isclose(occupancy.array.sum() * coarse.voxel_volume_cc, fine_cc, rtol=0.02)


def bulging(grid: Grid) -> Volume:
    """A smooth hump, 24 mm wide, about the origin."""
    x, y, z = np.moveaxis(grid.world_from_index(np.indices(grid.shape)[::-1].T), -1, 0)
    hump = np.exp(-(x**2 + y**2 + z**2) / (2 * 24.0**2)).T
    return Volume(50 * hump.astype(np.float32), grid)


@pytest.mark.parametrize("direction", [None, OBLIQUE])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 2.0, 3.0)])
def test_averages_are_read_as_the_smooth_function_that_they_are_of(
    direction: tuple | None, spacing: tuple
) -> None:
    fine = bulging(centered_grid((96, 96, 96), (1.0, 1.0, 1.0)))
    coarse = fine.resampled_to(centered_grid((12, 12, 12), (8.0, 8.0, 8.0)))
    asked = centered_grid((24, 24, 16), spacing, direction)
    truth = bulging(asked).array
    errors = {
        way: np.abs(coarse.resampled_to(asked, way).array - truth).max()
        for way in ("linear", "averages")
    }
    # The linear interpolant of averages is too low where a dose bulges, by up to 2 % here.
    assert errors["linear"] > 0.5
    assert errors["averages"] < errors["linear"] / (5 if direction is None else 2)


def test_averages_over_the_voxels_are_kept() -> None:
    random = np.random.default_rng(3)
    coarse = Volume(random.random((5, 6, 7), dtype=np.float32), Grid((7, 6, 5), (4, 4, 4)))
    smooth = ndimage.gaussian_filter(coarse.array, 1.0, mode="nearest")
    fine_grid = Grid((56, 48, 40), (0.5, 0.5, 0.5), (-1.75, -1.75, -1.75))
    fine = Volume(smooth, coarse.grid).resampled_to(fine_grid, "averages").array
    blocks = fine.reshape(5, 8, 6, 8, 7, 8).mean(axis=(1, 3, 5))
    inner = (slice(1, -1),) * 3
    assert np.abs(blocks - smooth)[inner].max() < 0.1 * np.ptp(smooth) / 10
    flat = Volume(np.full((1, 4, 4), 7.0, np.float32), Grid((4, 4, 1), (2, 2, 2)))
    assert np.allclose(flat.resampled_to(Grid((7, 7, 1)), "averages").array, 7.0)


def test_outside_the_source_is_the_outside_value() -> None:
    volume = Volume(np.full((4, 4, 4), 40, np.int16), Grid((4, 4, 4)))
    wider = volume.resampled_to(Grid((10, 4, 4), (1, 1, 1), (-3, 0, 0)), "linear", outside=-1000)
    assert np.array_equal(wider.array[0, 0], [-1000] * 3 + [40] * 4 + [-1000] * 3)


def test_cropping_moves_the_origin_and_padding_is_allowed() -> None:
    grid = ANISOTROPIC.cropped((-1, 2, 0), (8, 2, 4))
    assert grid.size == (8, 2, 4)
    assert np.allclose(grid.origin, ANISOTROPIC.world_from_index([-1, 2, 0]))


def test_grids_match_within_a_hundredth_of_a_voxel_only() -> None:
    assert ANISOTROPIC.matches(Grid((6, 5, 4), (3, 2, 1), (-7.005, 3, 11)))
    assert not ANISOTROPIC.matches(Grid((6, 5, 4), (3, 2, 1), (-7.2, 3, 11)))
    assert not ANISOTROPIC.matches(Grid((6, 5, 4), (3.1, 2, 1), (-7, 3, 11)))
