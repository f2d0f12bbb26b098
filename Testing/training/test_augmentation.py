"""Variation of crops: pure applications against the library's own geometry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import centered_grid, ellipsoid

from DosePredictionLib.encoding.channels.differentiable import soft_strips
from DosePredictionLib.encoding.strips import STRIP_ANGLES, strip_masks
from training.augmentation import (
    Elastic,
    Spatial,
    deformed,
    draw_elastic,
    draw_spatial,
    moved_in_plane,
    vary_ct,
)
from training.config import AugmentationConfig

SPACING = (3.0, 2.0, 5.0)


def _mask(center_mm: tuple, radii_mm: tuple) -> torch.Tensor:
    grid = centered_grid((40, 60, 6), SPACING)
    return torch.from_numpy(ellipsoid(grid, center_mm, radii_mm))


def test_strips_on_tensors_are_the_library_s() -> None:
    target, body = _mask((8, -6, 0), (15, 9, 10)), _mask((0, 0, 0), (50, 55, 40))
    grid = centered_grid((40, 60, 6), SPACING)
    expected = strip_masks(target.numpy(), body.numpy(), grid, STRIP_ANGLES, 4.0)
    ours = soft_strips(target.float(), body.float(), STRIP_ANGLES, SPACING, 4.0)
    assert np.array_equal(ours.numpy(), expected) and expected.any((1, 2, 3)).all()
    assert not soft_strips(target.float() * 0, body.float(), STRIP_ANGLES, SPACING).any()


def test_a_motion_moves_in_mm_whatever_the_spacing() -> None:
    # x to the left and y posterior: +90 degrees carries +x onto +y.
    before = _mask((20, 0, 0), (18, 10, 20))
    for motion, center, radii in (
        (Spatial(degrees=90.0), (0, 20, 0), (10, 18, 20)),
        (Spatial(scale=1.25), (25, 0, 0), (22.5, 12.5, 20)),
        (Spatial(shift_mm=(-9.0, 6.0)), (11, 6, 0), (18, 10, 20)),
        (Spatial(90.0, 1.25, (6.0, 4.0)), (6, 29, 0), (12.5, 22.5, 20)),
    ):
        moved = moved_in_plane(before[None].float(), motion, SPACING)[0] > 0.5
        expected = _mask(center, radii)
        dice = 2 * (moved & expected).sum() / (moved.sum() + expected.sum())
        assert dice > 0.9, motion


def test_no_motion_changes_nothing() -> None:
    volume = torch.rand(2, 3, 12, 10)
    torch.testing.assert_close(moved_in_plane(volume, Spatial(), SPACING), volume)


def test_air_stays_air_and_the_window_holds() -> None:
    ct = torch.tensor([0.0, 0.5, 0.99])
    varied = vary_ct(ct, 0.1, torch.full((3,), 0.01))
    assert varied.tolist() == pytest.approx([0.0, 0.61, 1.0])


def test_motions_stay_within_the_policy_and_draw_alike() -> None:
    policy = AugmentationConfig(spatial_probability=0.5, rotation_degrees=20.0, scale=0.1)
    rng, other = np.random.default_rng(3), np.random.default_rng(3)
    motions = [draw_spatial(policy, rng) for _ in range(200)]
    for _ in range(200):
        draw_spatial(AugmentationConfig(spatial_probability=0.0), other)
    assert rng.random() == other.random()  # what follows does not depend on the chance
    drawn = [motion for motion in motions if motion is not None]
    assert 60 < len(drawn) < 140
    assert max(abs(motion.degrees) for motion in drawn) <= 20
    assert all(1 / 1.1 <= motion.scale <= 1.1 for motion in drawn)


@pytest.mark.parametrize("spacing", [(4.0, 4.0, 4.0), (2.0, 3.0, 5.0)])
def test_equal_displacements_shift_by_millimetres(spacing: tuple) -> None:
    """Two voxels along x, one along z, of either spacing."""
    volume = torch.rand(2, 6, 8, 10, generator=torch.Generator().manual_seed(1))
    nodes = torch.tensor([2 * spacing[0], 0, spacing[2]]).view(3, 1, 1, 1).expand(3, 2, 3, 2)
    for mode in ("bilinear", "nearest"):
        moved = deformed(volume, Elastic(nodes), spacing, mode)
        torch.testing.assert_close(moved[:, :-1, :, :-2], volume[:, 1:, :, 2:])
    still = deformed(volume, Elastic(torch.zeros(3, 2, 2, 2)), spacing)
    torch.testing.assert_close(still, volume)


def test_a_deformation_is_drawn_by_the_seed_and_folds_nothing() -> None:
    policy = AugmentationConfig(elastic_probability=0.5)
    spacing, shape = (4.0, 4.0, 4.0), (24, 32, 40)
    draws = [draw_elastic(policy, shape, spacing, np.random.default_rng(n)) for n in range(40)]
    made = [each for each in draws if each is not None]
    assert 10 < len(made) < 30
    again = draw_elastic(policy, shape, spacing, np.random.default_rng(draws.index(made[0])))
    assert again is not None and torch.equal(again.nodes_mm, made[0].nodes_mm)
    assert made[0].nodes_mm.shape == (3, 4, 4, 5)
    assert np.std([float(each.nodes_mm.std()) for each in made]) < 1
    assert abs(float(torch.stack([each.nodes_mm for each in made]).std()) - 4) < 0.3
    places = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij"))
    inner = deformed(places, made[0], spacing)[:, 6:-6, 6:-6, 6:-6]
    assert (torch.diff(inner[0], dim=0) > 0).all() and (torch.diff(inner[2], dim=2) > 0).all()
    rng, other = np.random.default_rng(7), np.random.default_rng(7)
    assert draw_elastic(AugmentationConfig(), shape, spacing, rng) is None
    assert rng.random() == other.random()  # recipes without it see the crops that they saw
    flat = draw_elastic(
        AugmentationConfig(elastic_probability=1.0), (1, 32, 40), spacing, np.random.default_rng(0)
    )
    assert flat is not None and not flat.nodes_mm[2].any()
