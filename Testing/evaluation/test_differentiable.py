"""DVH measures that keep gradients, against the DVH and worked by hand."""

from __future__ import annotations

import pytest
import torch

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.evaluation.differentiable import (
    dose_at_percents,
    generalized_eud,
    mean_dose,
    soft_volumes,
)
from DosePredictionLib.evaluation.dvh import dvh


def test_they_agree_with_the_dvh_of_a_smooth_dose(scene):
    space = scene((40, 40, 40), (1.0, 1.0, 1.0))
    mask = space.ball(15.0)
    curve = dvh(space.volume(40 + 0.5 * space.x), mask)
    dose, occupancy = torch.from_numpy(40 + 0.5 * space.x), torch.from_numpy(mask.array)
    assert mean_dose(dose, occupancy).item() == pytest.approx(curve.mean_gy, abs=0.02)
    assert generalized_eud(dose, occupancy, 8).item() == pytest.approx(curve.geud(8), abs=0.02)
    for percent, value in zip(
        (95, 50, 2), dose_at_percents(dose, occupancy, (95, 50, 2)), strict=True
    ):
        assert value.item() == pytest.approx(curve.dose_at_percent(percent), abs=0.3)
    (share,) = soft_volumes(dose, occupancy, [42.0])
    assert 100 * share.item() == pytest.approx(curve.volume_at_gy(42.0), abs=1.0)


def test_gradients_reach_the_voxels_that_matter():
    dose = torch.tensor([10.0, 20.0, 30.0, 40.0], requires_grad=True)
    occupancy = torch.ones(4)
    (middle,) = dose_at_percents(dose, occupancy, [50.0])
    assert middle.item() == pytest.approx(25.0)
    middle.backward()
    assert dose.grad.tolist() == pytest.approx([0.0, 0.5, 0.5, 0.0])
    for value in (mean_dose(dose, occupancy), generalized_eud(dose, occupancy, -8)):
        (gradient,) = torch.autograd.grad(value, dose)
        assert torch.isfinite(gradient).all() and bool((gradient > 0).all())
    (gradient,) = torch.autograd.grad(soft_volumes(dose, occupancy, [20.0]).sum(), dose)
    assert gradient[1].item() == pytest.approx(10 / 4 / 4)  # slope / 4 at the level, of four voxels


def test_an_empty_structure_is_refused():
    with pytest.raises(DosePredictionError, match="empty"):
        mean_dose(torch.ones(3), torch.zeros(3))
    with pytest.raises(DosePredictionError, match="exponent"):
        generalized_eud(torch.ones(3), torch.ones(3), 0)
