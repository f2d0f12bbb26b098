"""Paths and samplers on Gaussian data, whose velocity is known; against MONAI's schedulers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from DosePredictionLib.errors import PredictionError
from DosePredictionLib.tasks.diffusion import PATHS, Path, Sampling, mean_of_data, sampled

MEAN, DEVIATION = 0.7, 0.4


def exact(path: Path):
    """v of data ~ N(0.7, 0.4²): of jointly Gaussian data, noise and mixture."""

    def velocity(mixed: Tensor, time: float) -> Tensor:
        a, s = path.mixture(time)
        beyond = (mixed - a * MEAN) / (a**2 * DEVIATION**2 + s**2)
        data, noise = MEAN + a * DEVIATION**2 * beyond, s * beyond
        return noise - data if path.straight else a * noise - s * data

    return velocity


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(
    ("sampler", "steps", "within"), [("euler", 50, 0.03), ("heun", 20, 0.015), ("ddim", 50, 0.03)]
)
def test_samplers_bring_noise_to_the_data(name, sampler, steps, within):
    path, noise = PATHS[name], torch.linspace(-2, 2, 9)
    found = sampled(path, exact(path), noise, Sampling(sampler, steps))
    # Gaussian to Gaussian in one dimension: every quantile goes to its own.
    torch.testing.assert_close(found, MEAN + DEVIATION * noise, atol=within, rtol=0)


@pytest.mark.parametrize("name", PATHS)
def test_the_mean_of_the_data_takes_one_evaluation(name):
    path, seen = PATHS[name], []

    def velocity(mixed: Tensor, time: float) -> Tensor:
        seen.append(time)
        return exact(path)(mixed, time)

    mean = mean_of_data(path, velocity, torch.ones(3))
    torch.testing.assert_close(mean, torch.full((3,), MEAN))
    assert seen == [1.0]


@pytest.mark.parametrize("name", PATHS)
def test_data_and_noise_follow_from_a_mixture_and_what_is_learned(name):
    path = PATHS[name]
    data, noise = torch.randn(2, 1, 2, 2, 2), torch.randn(2, 1, 2, 2, 2)
    for time in (0.0, 0.3, 1.0):
        times = torch.full((2,), time)
        mixed, v = path.noisy(data, noise, times), path.target(data, noise, times)
        for found, wanted in zip(path.parts(mixed, v, time), (data, noise), strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_evaluations_are_those_that_are_stated():
    for sampler in ("euler", "heun", "ddim"):
        calls = []
        sampling = Sampling(sampler, 4)

        def velocity(mixed: Tensor, time: float, calls: list = calls) -> Tensor:
            calls.append(time)
            return mixed

        sampled(PATHS["cosine"], velocity, torch.ones(1), sampling)
        assert len(calls) == sampling.evaluations


@pytest.mark.parametrize(
    ("values", "words"), [(("rk4", 4), "no sampler 'rk4'"), (("heun", 51), "1 to 50 steps; got 51")]
)
def test_impossible_sampling_is_refused(values, words):
    with pytest.raises(PredictionError, match=words):
        Sampling(*values)


def test_steps_are_those_of_monai():
    schedulers = pytest.importorskip("monai.networks.schedulers")
    mixed, v = torch.randn(1, 1, 3, 3, 3), torch.randn(1, 1, 3, 3, 3)
    ddim = schedulers.DDIMScheduler(
        num_train_timesteps=100,
        schedule="cosine",
        prediction_type="v_prediction",
        clip_sample=False,
    )
    ddim.set_timesteps(10)
    now = int(ddim.timesteps[3])
    then = now - 10
    theirs, data = ddim.step(v, now, mixed)
    kept = {time: float(ddim.alphas_cumprod[time]) for time in (now, then)}
    path = Path(lambda t: (math.sqrt(kept[t]), math.sqrt(1 - kept[t])), 1.0, straight=False)
    ours_data, ours_noise = path.parts(mixed, v, now)
    a, s = path.mixture(then)
    torch.testing.assert_close(ours_data, data, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(a * ours_data + s * ours_noise, theirs, atol=1e-5, rtol=1e-5)

    flow = schedulers.RFlowScheduler(num_train_timesteps=1000, use_discrete_timesteps=False)
    noise, data = torch.randn(2, 1, 2, 2, 2), torch.randn(2, 1, 2, 2, 2)
    time = torch.tensor([250.0, 700.0])
    theirs = flow.add_noise(data, noise, time)
    ours = PATHS["rectified"].noisy(data, noise, time / 1000)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
