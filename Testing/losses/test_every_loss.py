"""What holds for every loss of the registry: gradients, empty structures, half precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from DosePredictionLib.losses import LOSSES, LossTerm, WeightedSum

OPTIONS: dict[str, dict] = {
    "goal_template": {"goals": "pelvis_nodal_45_50", "prescription_gy": {"PTV": 45.0}},
    "gradient_l1": {"within": "region"},
    "soft_vx": {"slope_per_gy": 1.0},
}
EVERY = sorted(LOSSES)


def bound(name):
    return LossTerm(name, 1.0, options=OPTIONS.get(name, {})).bound()


@pytest.mark.parametrize("name", EVERY)
def test_the_gradient_is_the_derivative(name, batch):
    x = batch()
    loss = bound(name)
    prediction = x.prediction.clone().requires_grad_()

    def at(prediction):
        return loss(replace(x, prediction=prediction))

    assert torch.autograd.gradcheck(at, prediction, fast_mode=True)


@pytest.mark.parametrize("name", EVERY)
def test_equal_doses_cost_nothing_and_different_ones_do(name, batch):
    x = batch()
    inside = x.reference * x.region
    same = replace(x, prediction=inside, reference=inside)
    # The soft step of a V_x differs from the hard one by what lies within a tenth of a Gy.
    assert bound(name)(same).item() == pytest.approx(0, abs=2e-3)
    assert bound(name)(x).item() > 2e-3


@pytest.mark.parametrize("name", EVERY)
def test_without_a_voxel_it_is_zero_and_still_differentiable(name, batch):
    x = batch(torch.float32, empty=True)
    prediction = x.prediction.clone().requires_grad_()
    value = bound(name)(replace(x, prediction=prediction))
    assert value.item() == 0
    value.backward()
    assert prediction.grad is not None and not prediction.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", EVERY)
def test_half_precision_doses_are_summed_in_float32(name, dtype, batch):
    half = batch(dtype)
    prediction = half.prediction.to(dtype).requires_grad_()
    value = bound(name)(replace(half, prediction=prediction))
    assert value.dtype == torch.float32
    widened = replace(half, prediction=prediction.detach().double())
    widened = replace(widened, reference=half.reference.double())
    assert value.item() == pytest.approx(bound(name)(widened).item(), rel=1e-3)
    value.backward()
    assert prediction.grad is not None and torch.isfinite(prediction.grad).all()


@pytest.mark.parametrize("name", EVERY)
def test_flat_and_extreme_doses_give_finite_gradients(name, batch):
    x = batch(torch.float32)
    for level in (-1.0, 0.0, 1.0, 50.0):
        prediction = torch.full_like(x.prediction, level).requires_grad_()
        value = bound(name)(replace(x, prediction=prediction))
        (gradient,) = torch.autograd.grad(value, prediction)
        assert torch.isfinite(value) and torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", EVERY)
def test_two_patients_are_the_mean_of_one_and_one(name, batch):
    x = batch()
    alone = []
    for i in (0, 1):
        parts = {
            key: getattr(x, key)[i : i + 1]
            for key in ("prediction", "reference", "region", "structures", "strips", "spacing_mm")
        }
        alone.append(bound(name)(replace(x, coarse=None, **parts)).item())
    assert bound(name)(x).item() == pytest.approx(sum(alone) / 2, rel=1e-9)


def test_autocast_does_not_reach_into_a_loss(batch):
    x = batch(torch.float32)
    loss = WeightedSum([LossTerm(name, 1.0, options=OPTIONS.get(name, {})) for name in EVERY])
    plain = loss(x).total
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(x).total, plain)
