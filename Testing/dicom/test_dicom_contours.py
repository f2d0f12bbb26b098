"""Contours to occupancy: areas known by hand, holes, gaps, planes between slices, bad contours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from DosePredictionLib.errors import CaseError
from DosePredictionLib.io.dicom.contours import occupancy_of
from DosePredictionLib.io.dicom.occupancy import polygon_coverage
from DosePredictionLib.volume import Grid

GRID = Grid((30, 20, 12), (2.0, 3.0, 2.5), (-29.0, -28.5, 0.0))
FILE = Path("RS.dcm")


def image_of(loops: list, shape: tuple[int, int] = (20, 30)) -> np.ndarray:
    coverage = polygon_coverage([[np.asarray(loop, dtype=float) for loop in loops]], shape)
    image = np.zeros(shape, dtype=np.float32)
    _, rows, columns = coverage.array.shape
    image[coverage.row : coverage.row + rows, coverage.column : coverage.column + columns] = (
        coverage.array[0]
    )
    return image


def circle(x: float, y: float, radius: float, points: int = 360) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])


def box(low: float, high: float) -> np.ndarray:
    return np.array([[low, low], [high, low], [high, high], [low, high]])


def loop(outline: np.ndarray, z: float) -> np.ndarray:
    return np.column_stack([outline, np.full(len(outline), z)])


def volume_cc(loops: list, grid: Grid = GRID) -> float:
    mask, _ = occupancy_of("X", loops, grid, FILE)
    return float(mask.array.sum()) * grid.voxel_volume_cc


def test_a_box_covers_known_shares_of_pixels() -> None:
    image = image_of([[[2.0, 3.0], [4.25, 3.0], [4.25, 5.5], [2.0, 5.5]]])
    assert image[3, 2:5].tolist() == [0.25, 0.5, 0.375]
    assert image[4, 2:5].tolist() == [0.5, 1.0, 0.75]
    assert image.sum() == pytest.approx(2.25 * 2.5)


def test_a_triangle_covers_half_of_the_pixels_on_its_slope() -> None:
    image = image_of([[[-0.5, -0.5], [3.5, -0.5], [-0.5, 3.5]]])
    assert np.allclose(image[:4, :4], np.fliplr(np.triu(np.ones((4, 4)), 1) + np.eye(4) / 2))


@pytest.mark.parametrize("reverse", [(False, False), (True, False), (False, True), (True, True)])
def test_inner_loops_are_holes_whatever_way_they_run(reverse: tuple[bool, bool]) -> None:
    loops = [circle(14, 9, 8), circle(14, 9, 4)]
    loops = [each[::-1] if turned else each for each, turned in zip(loops, reverse, strict=True)]
    assert image_of(loops).sum() == pytest.approx(np.pi * (64 - 16), rel=1e-3)
    assert image_of([*loops, circle(14, 9, 2)]).sum() == pytest.approx(np.pi * 52, rel=1e-3)


@pytest.mark.parametrize("count", [2, 199, 201, 500])
@pytest.mark.parametrize("touching", [False, True])
def test_nesting_is_exact_for_any_number_of_loops_in_any_order(count: int, touching: bool) -> None:
    radii = 200 * (np.arange(count) + 1) / count
    # Touching: every circle has its lowest point in common with all the others.
    loops = [circle(0, radius if touching else 0.0, radius, 64) for radius in radii]
    areas = [32 * radius**2 * np.sin(2 * np.pi / 64) for radius in radii]
    wanted = sum(area * (-1) ** (count - 1 - n) for n, area in enumerate(areas))
    rng = np.random.default_rng(count)
    shuffled = [loops[n][:: rng.choice([-1, 1])] + 250.3 for n in rng.permutation(count)]
    assert image_of(shuffled, (720, 520)).sum() == pytest.approx(wanted, rel=1e-4)


def test_hundreds_of_islands_with_holes_side_by_side() -> None:
    centers = [(12.0 * x + 10.2, 12.0 * y + 10.7) for x in range(20) for y in range(20)]
    outer = [circle(*center, 5.0, 24) for center in centers]
    inner = [circle(*center, 2.5, 24) for center in centers]
    frame = [box(0.0, 252.0), np.flip(box(0.0, 252.0) + np.array([600.0, 0.0]), axis=0)]
    rng = np.random.default_rng(3)
    loops = [*outer, *inner, *frame]
    image = image_of([loops[n] for n in rng.permutation(len(loops))], (260, 860))
    ring = 12 * np.sin(2 * np.pi / 24) * (25 - 6.25)
    assert image.sum() == pytest.approx(2 * 252**2 - 400 * ring, rel=1e-5)


REPEATS = {
    "as it is": lambda outline: outline,
    "the other way": lambda outline: outline[::-1],
    "from another point": lambda outline: np.roll(outline, 17, axis=0),
    "closed by its first point": lambda outline: np.concatenate([outline, outline[:1]]),
    "rounded": lambda outline: np.round(outline, 2),
    "with points between": lambda outline: np.column_stack(
        [outline, (outline + np.roll(outline, -1, axis=0)) / 2]
    ).reshape(-1, 2),
}


@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("kind", REPEATS)
def test_a_contour_that_is_there_several_times_counts_once(kind: str, times: int) -> None:
    outlines = [(circle(0, 0, 20), 5.0), (circle(0, 0, 8), 5.0), (circle(3, 2, 15), 7.5)]
    once = [loop(outline, z) for outline, z in outlines]
    repeated = [loop(REPEATS[kind](outline), z + 0.02) for outline, z in outlines] * (times - 1)
    wanted, nothing = occupancy_of("X", once, GRID, FILE)
    found, findings = occupancy_of("X", [*once, *repeated], GRID, FILE)
    assert not nothing
    assert np.allclose(found.array, wanted.array, atol=0.01)
    assert [(f.id, f.severity) for f in findings] == [("contours-repeated", "warning")]
    assert f"{3 * (times - 1)} contours of X" in findings[0].message


def test_specks_beside_a_structure_are_named() -> None:
    drawn = [loop(circle(0, 0, 20), z) for z in (5.0, 7.5)]
    speck = loop(circle(25, 5, 0.2), 5.0)
    _, nothing = occupancy_of("X", drawn, GRID, FILE)
    _, findings = occupancy_of("X", [*drawn, speck], GRID, FILE)
    assert not nothing and [(f.id, f.severity) for f in findings] == [("contours-specks", "info")]
    assert findings[0].message.startswith("1 of the 3 contours of X")
    _, lenses = occupancy_of("X", [loop(circle(0, 0, 0.2), z) for z in (5.0, 7.5)], GRID, FILE)
    assert "contours-specks" not in {finding.id for finding in lenses}


def test_shapes_that_share_a_box_are_no_repeats() -> None:
    rising = np.array([[2.0, 2], [4, 2], [12, 12], [10, 12]])
    falling = np.array([[10.0, 2], [12, 2], [4, 12], [2, 12]])
    image = image_of([rising, falling])
    alone = image_of([rising])
    assert image.sum() < 2 * alone.sum() and not np.allclose(image, alone)
    _, findings = occupancy_of("X", [loop(rising, 5.0), loop(falling, 5.0)], GRID, FILE)
    assert [finding.id for finding in findings] == ["contours-cross"]


def test_a_wall_thinner_than_a_pixel_keeps_its_area() -> None:
    image = image_of([box(2.1, 10.1), box(2.3, 9.9)])
    assert image.sum() == pytest.approx(8**2 - 7.6**2, rel=1e-6)


def test_a_keyhole_is_a_hole() -> None:
    outer, inner = circle(14, 9, 8), circle(14, 9, 4)[::-1]
    keyhole = np.concatenate([outer, outer[:1], inner, inner[:1]])
    assert np.allclose(image_of([keyhole]), image_of([outer, inner]), atol=1e-6)


def test_loops_side_by_side_add_up_even_within_a_pixel() -> None:
    left, right = [[2, 2], [5.2, 2], [5.2, 6], [2, 6]], [[5.3, 2], [8, 2], [8, 6], [5.3, 6]]
    image = image_of([left, right[::-1]])
    assert image[4, 5] == pytest.approx(0.9)
    assert image.sum() == pytest.approx(4 * (3.2 + 2.7))


def test_what_is_enclosed_twice_counts_as_outside() -> None:
    image = image_of([box(1.5, 8.5), box(4.5, 11.5)])
    assert image[6, 6] == 0 and image[2, 2] == 1 and image[10, 10] == 1


def test_coverage_agrees_with_dense_sampling_of_a_star() -> None:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = np.where(np.arange(40) % 2, 4.0, 9.0)
    star = np.column_stack([14 + radius * np.cos(angle), 9.3 + radius * np.sin(angle)])
    fine = (np.arange(20 * 16) + 0.5) / 16 - 0.5, (np.arange(30 * 16) + 0.5) / 16 - 0.5
    points = np.stack(np.meshgrid(fine[1], fine[0]), axis=-1).reshape(-1, 2)
    inside = Outline(star).contains_points(points).reshape(20, 16, 30, 16).mean(axis=(1, 3))
    assert np.abs(image_of([star]) - inside).max() < 0.04


def test_nothing_is_left_along_rows_beside_what_was_drawn() -> None:
    rng = np.random.default_rng(7)
    for _ in range(20):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 60))
        radius = rng.uniform(3, 9, 60)
        star = np.column_stack([14 + radius * np.cos(angle), 9.3 + radius * np.sin(angle)])
        image = image_of([star])
        away = np.hypot(*(np.indices(image.shape)[::-1].T - [14, 9.3]).T) > 10
        assert not image[away].any()
        assert not ((image > 0) & (image < 1e-9)).any()


def test_parts_outside_the_image_are_cut_off_however_far_they_reach() -> None:
    far = np.array([[-1e12, -1e9], [1e12, -1e9], [1e10, 1e9], [-1e10, 1e9]])
    assert image_of([far]).min() == 1
    assert image_of([box(-50.5, -20.5)]).max() == 0
    assert image_of([box(-5.5, 4.5)]).sum() == 25


def test_a_zigzag_that_no_one_draws_is_refused_before_memory_runs_out() -> None:
    zigzag = np.column_stack([np.arange(200_000) % 7, np.where(np.arange(200_000) % 2, -1, 600)])
    with pytest.raises(CaseError, match="damaged, not drawn"):
        polygon_coverage([[zigzag.astype(float)]], (512, 512))


def test_volume_on_the_slices_of_an_anisotropic_grid() -> None:
    loops = [loop(circle(0, 0, 20), 2.5 * z) for z in range(3, 9)]
    assert volume_cc(loops) == pytest.approx(np.pi * 0.4**2 * 100 * 6 * 2.5 / 40, rel=2e-3)


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.25, 2.2])
@pytest.mark.parametrize("step", [1.0, 2.5, 4.0])
def test_planes_between_slices_keep_the_volume(step: float, shift: float) -> None:
    zs = 3.0 + shift + step * np.arange(6)
    expected = 4.0 * 6 * step / 10
    volume = volume_cc([loop(box(-10, 10), z) for z in zs])
    assert volume == pytest.approx(expected, abs=4.0 * 0.26 if shift == 0.3 else 4.0 * 0.02)


def test_skipped_slices_are_filled_by_shape() -> None:
    every = [loop(circle(0, 0, 10 + 0.8 * z), 2.5 * z) for z in range(2, 11)]
    skipped, findings = occupancy_of("X", every[::2], GRID, FILE)
    drawn, _ = occupancy_of("X", every, GRID, FILE)
    assert [finding.id for finding in findings] == ["contours-interpolated"]
    assert skipped.array.sum() == pytest.approx(drawn.array.sum(), rel=0.02)
    areas, wanted = skipped.array.sum(axis=(1, 2)), drawn.array.sum(axis=(1, 2))
    assert areas[2:11] == pytest.approx(wanted[2:11], rel=0.08)


def test_parts_far_apart_stay_apart() -> None:
    loops = [loop(box(-10, 10), 2.5 * z) for z in (0, 1, 2, 9, 10)]
    mask, findings = occupancy_of("X", loops, GRID, FILE)
    assert [finding.id for finding in findings] == ["structure-in-parts"]
    assert mask.array.any(axis=(1, 2)).tolist() == [z in (0, 1, 2, 9, 10) for z in range(12)]


def test_positions_rounded_in_the_file_belong_to_their_slice() -> None:
    exact = volume_cc([loop(box(-10, 10), 2.5 * z) for z in range(4)])
    loops = [loop(box(-10, 10), 2.5 * z + 0.04) for z in range(4)]
    rounded, _ = occupancy_of("X", loops, GRID, FILE)
    assert rounded.array.sum() * GRID.voxel_volume_cc == pytest.approx(exact)
    assert rounded.array.any(axis=(1, 2)).tolist() == [z < 4 for z in range(12)]


def test_a_turned_grid_holds_the_same_volume() -> None:
    turned = Grid(
        (30, 20, 12), (2.0, 3.0, 2.5), (29.0, 28.5, 0.0), ((-1, 0, 0), (0, -1, 0), (0, 0, 1))
    )
    loops = [loop(circle(3, -2, 15), 2.5 * z) for z in range(3, 9)]
    assert volume_cc(loops, turned) == pytest.approx(volume_cc(loops), rel=1e-6)


def test_contours_across_the_slices_or_beyond_the_ct_are_refused() -> None:
    sagittal = np.array([[0, -10, 5], [0, 10, 5], [0, 10, 20], [0, -10, 20.0]])
    with pytest.raises(CaseError, match=r"RS.dcm: a contour of X is not parallel"):
        occupancy_of("X", [sagittal], GRID, FILE)
    with pytest.raises(CaseError, match="another CT"):
        occupancy_of("X", [loop(box(400, 420), 5.0)], GRID, FILE)
    with pytest.raises(CaseError, match="another CT"):
        occupancy_of("X", [loop(box(-10, 10), 500.0)], GRID, FILE)


def test_contours_that_leave_the_image_are_told_of() -> None:
    _, findings = occupancy_of("X", [loop(box(-60, 10), 5.0), loop(box(0, 9), 7.5)], GRID, FILE)
    assert [finding.id for finding in findings] == ["contours-beyond-image"]


def test_a_figure_of_eight_is_told_of() -> None:
    eight = np.array([[-10, -10], [10, 10], [10, -10], [-10, 10.0]])
    mask, findings = occupancy_of("X", [loop(eight, 5.0)], GRID, FILE)
    assert [finding.id for finding in findings] == ["contours-cross"]
    assert mask.array.sum() * GRID.voxel_volume_cc == pytest.approx(2 * 0.25, rel=0.1)


def test_no_contours_are_an_empty_mask() -> None:
    mask, _ = occupancy_of("X", [], GRID, FILE)
    assert mask.array.dtype == bool and not mask.array.any()
