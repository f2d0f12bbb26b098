"""Agreement of contours: worked by hand, and against MONAI."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import centered_grid, ellipsoid

from DosePredictionLib.errors import GeometryError
from DosePredictionLib.evaluation.contours import SURFACE_TOLERANCE_MM, compare_contours
from DosePredictionLib.mask import Mask

SPACING = (3.0, 2.0, 1.0)
GRID = centered_grid((30, 40, 50), SPACING)


def ball(center: tuple = (0, 0, 0), radius: float = 14.0) -> Mask:
    return Mask(ellipsoid(GRID, center, (radius, radius, radius)), GRID)


def test_a_contour_agrees_with_itself() -> None:
    agreement = compare_contours(ball(), ball())
    assert (agreement.dice, agreement.hd95_mm, agreement.surface_dice) == (1.0, 0.0, 1.0)
    assert agreement.volume_cc == agreement.reference_cc == pytest.approx(11.5, rel=0.03)


def test_a_box_that_is_moved_by_a_voxel_along_the_widest_axis() -> None:
    one = np.zeros(GRID.shape, dtype=bool)
    one[10:20, 10:20, 10:20] = True
    moved = compare_contours(Mask(np.roll(one, 1, axis=2), GRID), Mask(one, GRID))
    assert moved.dice == pytest.approx(0.9) and moved.hd95_mm == pytest.approx(3.0)
    further = compare_contours(Mask(np.roll(one, 2, axis=2), GRID), Mask(one, GRID))
    assert further.hd95_mm == pytest.approx(6.0)
    assert moved.surface_dice == 1.0 > further.surface_dice > 0.5


def test_an_empty_contour_has_no_surface() -> None:
    empty = Mask(np.zeros(GRID.shape, dtype=bool), GRID)
    missed = compare_contours(empty, ball())
    assert (missed.dice, missed.hd95_mm, missed.surface_dice) == (0.0, None, None)
    assert missed.volume_cc == 0 and missed.reference_cc > 10
    assert compare_contours(empty, empty).dice is None


def test_another_grid_is_refused() -> None:
    other = centered_grid((30, 40, 51), SPACING)
    with pytest.raises(GeometryError, match="resample"):
        compare_contours(ball(), Mask(np.zeros(other.shape, dtype=bool), other))


def test_the_figures_are_monais() -> None:
    metrics = pytest.importorskip("monai.metrics")
    for one, other in ((ball(), ball((4, 3, 2), 12.0)), (ball((-5, 0, 8), 9.0), ball())):
        ours = compare_contours(one, other)
        pair = [torch.from_numpy(m.array[None, None].astype(np.float32)) for m in (one, other)]
        spacing = SPACING[::-1]
        hd95 = metrics.compute_hausdorff_distance(
            *pair, include_background=True, percentile=95, spacing=spacing
        )
        surface = metrics.compute_surface_dice(
            *pair, [SURFACE_TOLERANCE_MM], include_background=True, spacing=spacing
        )
        assert ours.dice == pytest.approx(metrics.compute_dice(*pair).item(), abs=1e-6)
        assert ours.hd95_mm == pytest.approx(hd95.item(), abs=1e-5)
        assert ours.surface_dice == pytest.approx(surface.item(), abs=1e-5)
