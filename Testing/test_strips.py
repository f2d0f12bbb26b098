from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from support import OBLIQUE, centered_grid, ellipsoid, pelvis_case

from DosePredictionLib.encoding.strips import (
    case_strips,
    mirrored_angle,
    strip_masks,
    tangent_strips,
)
from DosePredictionLib.errors import GeometryError
from DosePredictionLib.mask import Mask
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume

PELVIS = StructureProtocol.load("pelvis")


def by_definition(ptv: np.ndarray, body: np.ndarray, grid: Grid, angle: int) -> np.ndarray:
    """The definition, voxel by voxel."""
    n = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    tolerance = 1e-3 * min(grid.spacing[:2])
    result = np.zeros_like(ptv)
    for z in range(ptv.shape[0]):
        inside = [
            grid.spacing[0] * x * n[0] + grid.spacing[1] * y * n[1] for y, x in np.argwhere(ptv[z])
        ]
        if not inside:
            continue
        for y, x in np.argwhere(body[z]):
            p = grid.spacing[0] * x * n[0] + grid.spacing[1] * y * n[1]
            result[z, y, x] = min(inside) - tolerance <= p <= max(inside) + tolerance
    return result


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 2.0, 1.0)])
def test_strips_equal_the_definition_slice_by_slice(spacing: tuple) -> None:
    grid = centered_grid((24, 20, 6), spacing)
    ptv = ellipsoid(grid, (2, -1, 0), (5, 4, 2.2))
    body = ellipsoid(grid, (0, 0, 0), (11 * spacing[0], 9 * spacing[1], 100))
    strips = tangent_strips(Volume(ptv, grid), Volume(body, grid))
    for angle, strip in strips.items():
        assert np.array_equal(strip.array, by_definition(ptv, body, grid, angle)), angle


def test_strips_of_one_voxel_worked_by_hand() -> None:
    grid = Grid((3, 3, 3))
    ptv = np.zeros((3, 3, 3), dtype=bool)
    ptv[1, 1, 1] = True
    strips = tangent_strips(Volume(ptv, grid), Volume(np.ones_like(ptv), grid))
    assert not any(strip.array[[0, 2]].any() for strip in strips.values())
    # x is constant at 0°, y at 90°; x + y at 45° and y − x at 135°.
    assert np.array_equal(strips[0].array[1], [[0, 1, 0]] * 3)
    assert np.array_equal(strips[90].array[1], [[0, 0, 0], [1, 1, 1], [0, 0, 0]])
    assert np.array_equal(strips[45].array[1], np.eye(3)[::-1])
    assert np.array_equal(strips[135].array[1], np.eye(3))


def test_a_margin_widens_the_strip_at_both_ends() -> None:
    grid = Grid((9, 9, 1), (2, 2, 2))
    ptv = np.zeros(grid.shape, dtype=bool)
    ptv[0, 4, 4] = True
    wide = strip_masks(ptv, np.ones_like(ptv), grid, (0,), margin_mm=2.0)
    assert np.array_equal(np.flatnonzero(wide[0, 0, 0]), [3, 4, 5])


def test_a_mirrored_patient_swaps_45_and_135() -> None:
    grid = centered_grid((25, 21, 3), (2.0, 2.0, 3.0))
    ptv = ellipsoid(grid, (6, 3, 0), (7, 4, 10))
    body = np.ones_like(ptv)
    angles = (0, 45, 90, 135)
    plain = strip_masks(ptv, body, grid, angles)
    mirrored = strip_masks(ptv[..., ::-1], body, grid, angles)
    for index, angle in enumerate(angles):
        partner = angles.index(mirrored_angle(angle))
        assert np.array_equal(mirrored[index], plain[partner][..., ::-1])


def test_a_grid_stored_the_other_way_round_gives_the_same_strips() -> None:
    grid = centered_grid((20, 20, 3), (2.0, 2.0, 3.0))
    flipped = centered_grid((20, 20, 3), (2.0, 2.0, 3.0), ((-1, 0, 0), (0, -1, 0), (0, 0, 1)))
    masks = [ellipsoid(g, (6, 3, 0), (7, 4, 10)) for g in (grid, flipped)]
    one, other = (
        tangent_strips(Volume(mask, g), Volume(np.ones_like(mask), g))
        for mask, g in zip(masks, (grid, flipped), strict=True)
    )
    for angle in one:
        assert np.array_equal(one[angle].array, other[angle].array)


@pytest.mark.parametrize("body", ["cut", "none"])
def test_strips_of_a_case_pass_through_all_of_the_body(body: str) -> None:
    """Its outline may be drawn with the other segments cut out, or not at all."""
    whole = pelvis_case()
    masks = dict(whole.structures)
    drawn, bladder = masks.pop("Body"), masks["Bladder"].touched()
    if body == "cut":
        masks["Body"] = Mask(drawn.touched() & ~bladder, whole.grid)
    strips = case_strips(bind(replace(whole, structures=masks), PELVIS))
    expected = case_strips(bind(whole, PELVIS))
    for angle, strip in strips.items():
        assert np.array_equal(strip.array[bladder], expected[angle].array[bladder])
    assert any(strip.array[bladder].any() for strip in strips.values())


def test_an_oblique_grid_is_refused() -> None:
    grid = Grid((8, 8, 8), direction=OBLIQUE)
    mask = Volume(np.ones(grid.shape, dtype=bool), grid)
    with pytest.raises(GeometryError, match="oblique"):
        tangent_strips(mask, mask)


def test_a_full_size_case_takes_under_a_tenth_of_a_second() -> None:
    grid = centered_grid((256, 256, 64), (2.0, 2.0, 5.0))
    ptv = ellipsoid(grid, (0, 0, 0), (60, 50, 90))
    body = ellipsoid(grid, (0, 0, 0), (190, 120, 1000))
    seconds = []
    for _ in range(5):
        started = time.thread_time()
        strip_masks(ptv, body, grid)
        seconds.append(time.thread_time() - started)
    assert min(seconds) < 0.1
