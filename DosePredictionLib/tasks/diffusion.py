"""From noise to samples: paths between data and noise, and samplers that follow them.

A path mixes data x and noise e, both of unit size: x_t = a(t) x + s(t) e, t = 0 for data and 1 for
noise. The network learns v, from which x and e follow:

    rectified   a = 1 − t,      s = t          v = e − x      (Liu et al. 2023, arXiv 2209.03003)
    cosine      a = cos(πt/2),  s = sin(πt/2)  v = a e − s x  (Salimans, Ho 2022, arXiv 2202.00512)

On both, dx_t/dt = a' x + s' e is a multiple of v, so one set of samplers serves both: Euler, Heun
(two evaluations a step, but in the last) and DDIM (Song et al. 2021, arXiv 2010.02502), which steps
with x and e held fixed. On the rectified path Euler and DDIM are one and the same.

At t = 1 a mixture says nothing of the data: what the network makes of it is the mean of all data
that the condition allows. `mean_of_data` asks for it once, without any noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from ..errors import PredictionError

__all__ = [
    "MOST_STEPS",
    "PATHS",
    "Path",
    "Sampler",
    "Sampling",
    "Velocity",
    "mean_of_data",
    "sampled",
]

Sampler = Literal["euler", "heun", "ddim"]

MOST_STEPS = 50

Velocity = Callable[[Tensor, float], Tensor]
"""What the network makes of x_t at a time: v, in the shape of x_t."""


@dataclass(frozen=True)
class Path:
    """How data turn into noise.

    Args:
        mixture: t → a(t), s(t).
        rate: dx_t/dt as a multiple of v.
    """

    mixture: Callable[[float], tuple[float, float]]
    rate: float
    straight: bool

    def noisy(self, data: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """x_t of a batch; `time` is `(batch,)`."""
        a, s = self._of_batch(time, data)
        return a * data + s * noise

    def target(self, data: Tensor, noise: Tensor, time: Tensor) -> Tensor:
        """The v that the network learns; `time` is `(batch,)`."""
        if self.straight:
            return noise - data
        a, s = self._of_batch(time, data)
        return a * noise - s * data

    def parts(self, mixed: Tensor, v: Tensor, time: float) -> tuple[Tensor, Tensor]:
        """Data and noise that a mixture and its v are made of."""
        a, s = self.mixture(time)
        if self.straight:
            return mixed - s * v, mixed + a * v
        return a * mixed - s * v, s * mixed + a * v

    def _of_batch(self, time: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        pairs = [self.mixture(each) for each in time.tolist()]
        shape = (-1, *([1] * (like.dim() - 1)))
        a, s = (like.new_tensor(each).reshape(shape) for each in zip(*pairs, strict=True))
        return a, s


def _cosine(time: float) -> tuple[float, float]:
    return math.cos(math.pi * time / 2), math.sin(math.pi * time / 2)


PATHS: Mapping[str, Path] = {
    "rectified": Path(lambda time: (1.0 - time, time), 1.0, straight=True),
    "cosine": Path(_cosine, math.pi / 2, straight=False),
}
"""By the names that `networks.configs.DenoisingUNetConfig` takes."""


@dataclass(frozen=True)
class Sampling:
    """How a sample is drawn.

    Args:
        sampler: `euler`, `heun` or `ddim`.
        steps: 1 to 50, equally long in t.

    Raises:
        PredictionError: there is no such sampler, or another number of steps.
    """

    sampler: Sampler = "heun"
    steps: int = 4

    def __post_init__(self) -> None:
        if self.sampler not in get_args(Sampler):
            raise PredictionError(
                f"There is no sampler {self.sampler!r}; there are {', '.join(get_args(Sampler))}."
            )
        if not 1 <= self.steps <= MOST_STEPS:
            raise PredictionError(f"A sample takes 1 to {MOST_STEPS} steps; got {self.steps}.")

    @property
    def evaluations(self) -> int:
        """How often the network runs."""
        return 2 * self.steps - 1 if self.sampler == "heun" else self.steps


def sampled(path: Path, velocity: Velocity, noise: Tensor, sampling: Sampling) -> Tensor:
    """Follow a path from noise to data.

    Args:
        velocity: the network.
        noise: of unit variance; the result has its shape.
    """
    x, steps = noise, sampling.steps
    for number in range(steps):
        now, then = 1.0 - number / steps, 1.0 - (number + 1) / steps
        v = velocity(x, now)
        if sampling.sampler == "ddim":
            data, rest = path.parts(x, v, now)
            a, s = path.mixture(then)
            x = a * data + s * rest
            continue
        length = (then - now) * path.rate
        ahead = x + length * v
        if sampling.sampler == "heun" and number + 1 < steps:
            v = (v + velocity(ahead, then)) / 2
            ahead = x + length * v
        x = ahead
    return x


def mean_of_data(path: Path, velocity: Velocity, like: Tensor) -> Tensor:
    """The mean of the data under the network's condition, by one evaluation at t = 1."""
    nothing = like.new_zeros(like.shape)
    data, _ = path.parts(nothing, velocity(nothing, 1.0), 1.0)
    return data
