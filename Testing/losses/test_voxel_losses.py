"""Voxel-wise losses against the same sums written out in numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.evaluation.scores import ssim as ssim_metric
from DosePredictionLib.losses import gradient_l1, mae, mse, soft_vx, ssim, strip_mae, strip_ssim


def arrays(x):
    """Prediction inside the region, reference and region, `(batch, z, y, x)`."""
    return (t[:, 0].double().numpy() for t in (x.dose, x.reference, x.region))


def test_mae_and_mse_weigh_patients_alike(batch):
    x = batch()
    smaller = x.region.clone()
    smaller[0, :, 1:] = False
    x = replace(x, region=smaller)
    p, r, m = arrays(x)
    absolute = [np.abs(p - r)[i][m[i] > 0].mean() for i in (0, 1)]
    squared = [((p - r) ** 2)[i][m[i] > 0].mean() for i in (0, 1)]
    assert mae(x).item() == pytest.approx(np.mean(absolute), rel=1e-12)
    assert mse(x).item() == pytest.approx(np.mean(squared), rel=1e-12)
    assert mae(x, published=True).item() == pytest.approx(np.abs(p - r)[m > 0].mean(), rel=1e-12)


def test_a_ramp_has_the_gradient_error_of_its_slopes(batch):
    x = batch()
    z, y, w = np.meshgrid(*map(np.arange, x.region.shape[2:]), indexing="ij")
    ramp = torch.from_numpy(0.1 * z + 0.02 * y - 0.05 * w).expand(2, 1, -1, -1, -1)
    everywhere = torch.ones_like(x.region)
    x = replace(x, region=everywhere, prediction=x.reference + ramp)
    expected = (0.1 + 0.02 + 0.05) / 3
    assert gradient_l1(x, "region").item() == pytest.approx(expected, rel=1e-12)
    assert gradient_l1(x).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("data_range_gy", [52.0, 45.0])
def test_ssim_is_the_metric(data_range_gy, batch):
    x = batch()
    p, r, m = arrays(x)
    expected = [
        1 - ssim_metric(p[i] * 52, r[i] * 52, data_range_gy=data_range_gy, region=m[i] > 0)
        for i in (0, 1)
    ]
    assert ssim(x, data_range_gy).item() == pytest.approx(np.mean(expected), abs=2e-6)


def test_strips_weigh_a_voxel_once_for_each_that_holds_it(batch):
    x = batch()
    p, r, _ = arrays(x)
    count = x.strips.sum(1).numpy()
    expected = [(count * np.abs(p - r))[i].sum() / count[i].sum() for i in (0, 1)]
    assert count.max() == 2
    assert strip_mae(x).item() == pytest.approx(np.mean(expected), rel=1e-12)
    alone = replace(x, strips=x.region.float())
    assert strip_ssim(alone).item() == pytest.approx(ssim(x).item(), rel=1e-12)


def test_patients_without_strips_are_left_out_where_published(batch):
    x = batch()
    strips = x.strips.clone()
    strips[1] = 0
    half = replace(x, strips=strips)
    assert strip_mae(half, published=True).item() == pytest.approx(2 * strip_mae(half).item())


def test_vx_counts_shares_above_levels(batch):
    x = batch()
    reference = torch.full_like(x.reference, 25 / 52)
    x = replace(x, reference=reference, prediction=torch.full_like(reference, 35.5 / 52))
    # Above 30 and 35 Gy is everything instead of nothing: two of four levels are wrong by one.
    value = soft_vx(x, levels_gy=(20.0, 30.0, 35.0, 40.0), slope_per_gy=50.0)
    assert value.item() == pytest.approx(0.5, abs=1e-6)


def test_what_a_loss_needs_is_asked_for(batch):
    with pytest.raises(DosePredictionError, match="strips"):
        strip_mae(replace(batch(), strips=None))
    with pytest.raises(DosePredictionError, match="spacing"):
        _ = replace(batch(), spacing_mm=None).voxel_mm3
