"""Samples of doses about a regression: diffusion of the residual divided by its expected size.

The regression stays the mean: a sample is its dose plus the expected |error| times what a path from
noise ends at (`diffusion`), less the mean of all such ends. Works at half resolution: the residual
that a sample brings is coherent over space, and nothing of the regression's detail is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..networks import DenoisingUNet
from ..prediction import Output
from .diffusion import PATHS, Sampling, mean_of_data, sampled
from .dose_regression import final_dose
from .residual_scale import (
    earlier_of,
    in_gy,
    learned_from,
    plan_of,
    require_loss,
    required_earlier,
)
from .task import (
    Combined,
    Decoded,
    Decoding,
    LabelledBatch,
    LabelledCase,
    Passes,
    Task,
    Validated,
)

if TYPE_CHECKING:
    from ..losses import LossTerm, WeightedLoss

__all__ = ["LARGEST", "ResidualFlow", "coarsened", "refined", "repeated"]

LARGEST = 8.0
"""Expected errors beyond which a residual counts no further."""

_TIMES = (0.1, 0.5, 0.9)  # of validation


class ResidualFlow(Task):
    """A `DenoisingUNet` draws residuals of a regression whose dose and expected error it sees.

    Labels: those of `DoseRegression`, and `earlier`: the frozen model's dose and the scale head's
    expected error (`python -m training residuals`).

    Attributes:
        sampling: how samples are drawn.
    """

    stages: ClassVar[Mapping[str, str]] = {"": "drawing a sample"}
    drawn: ClassVar[frozenset[str]] = frozenset({"sample"})
    sampling: Sampling = Sampling()

    def predict(self, network: nn.Module, x: Tensor, passes: Passes) -> Mapping[str, Tensor]:
        """One sample's dose `(z, y, x)`, in units of the dose scale; drawn by `passes.generator`.

        Raises:
            PredictionError: the regression's dose or its expected error is not given.
        """
        earlier = required_earlier(passes, 2).to(x)
        unit = self._unit(network, earlier[None])[0, 0].float()
        drawn = self._drawn(network, torch.cat([x, earlier[None]], dim=1), passes, centred=True)
        return {"sample": earlier[0].float() + unit * refined(drawn)[0, 0]}

    def decode(self, arrays: Mapping[str, Combined], decoding: Decoding) -> Decoded:
        """Gy on the case's grid, scaled to its prescription as the dose is."""
        gy = in_gy(arrays["sample"].mean, self.encoding.dose_scale_gy, decoding)
        return Decoded((Output("sample", gy.volume, "sample", "Gy"),), gy.target, gy.findings)

    def begin_training(self, terms: Sequence[LossTerm], options: Mapping[str, Any]) -> None:
        """Take the one loss, `mse`, and the checksums of the frozen weights."""
        learned_from(options)
        require_loss(terms, "mse", type(self).__name__)

    def training_step(
        self, network: nn.Module, batch: LabelledBatch, progress: float
    ) -> WeightedLoss:
        """Mean squared error of v, at a time and with noise drawn for each crop.

        Sampling passes through the air, too: it is learned, or it would leak into the body.
        """
        from ..losses import WeightedLoss

        condition, data = self._learned(network, batch)
        path = PATHS[_inner(network).path]
        noise, time = torch.randn_like(data), torch.rand(len(data), device=data.device)
        mixed = path.noisy(data, noise, time)
        v = coarsened(network(_given(condition, mixed, time)).final.float())
        loss = (v - path.target(data, noise, time)).square().mean()
        return WeightedLoss(loss, {"mse": loss.detach()})

    def headline(self, parts: Mapping[str, Tensor]) -> float:
        """The loss itself: it is no dose."""
        return next(iter(parts.values())).item()

    def validate(self, network: nn.Module, case: LabelledCase) -> Validated:
        """Mean squared error of v over a few times, where the dose is scored, with fixed noise."""
        condition, data, region = self._whole(network, case)
        path, device = PATHS[_inner(network).path], data.device
        generator = torch.Generator(device).manual_seed(0)
        errors = []
        for each in _TIMES:
            noise = torch.randn(data.shape, generator=generator, device=device)
            time = torch.full((1,), each, device=device)
            v = coarsened(network(_given(condition, path.noisy(data, noise, time), time)).final)
            errors.append((v.float() - path.target(data, noise, time))[region].square().mean())
        return Validated({"validation_v": [float(torch.stack(errors).mean())]})

    def _drawn(
        self, network: nn.Module, condition: Tensor, passes: Passes, centred: bool
    ) -> Tensor:
        """What a path from noise ends at, `(1, 1, z, y, x)` at half resolution, float32.

        Args:
            centred: take off the mean of all ends.
        """
        path = PATHS[_inner(network).path]
        edges = [edge // 2 for edge in condition.shape[2:]]
        noise = torch.randn((1, 1, *edges), generator=passes.generator, device=condition.device)

        def velocity(mixed: Tensor, time: float) -> Tensor:
            given = _given(condition, mixed, mixed.new_full((1,), time))
            return coarsened(passes.run(network, given, final_dose)[None, None])

        count = self.sampling.evaluations + int(centred)
        with passes.watch(network, count, self.stages, (0.0, 1.0)):
            drawn = sampled(path, velocity, noise, self.sampling)
            return drawn - mean_of_data(path, velocity, noise) if centred else drawn

    def _unit(self, network: nn.Module, earlier: Tensor) -> Tensor:
        """What residuals are divided by, `(batch, 1, z, y, x)`, in units of the dose scale."""
        if _inner(network).whitened:
            return earlier[:, 1:2].clamp_min(1e-4)
        return torch.full_like(earlier[:, 1:2], 1.0 / self.encoding.dose_scale_gy)

    def _learned(self, network: nn.Module, batch: LabelledBatch) -> tuple[Tensor, Tensor]:
        """What the network is conditioned on, and the data at half resolution."""
        earlier = earlier_of(batch)
        residual = (batch.labels["dose"] - earlier[:, :1]) / self._unit(network, earlier)
        residual = residual * batch.labels["region"]
        data = coarsened(residual.clamp(-LARGEST, LARGEST))
        return torch.cat([batch.input, earlier[:, :2]], dim=1), data

    def _whole(self, network: nn.Module, case: LabelledCase) -> tuple[Tensor, Tensor, Tensor]:
        """The same of a whole case, `(1, channel, z, y, x)`, and where it is scored, half size."""
        device = next(network.parameters()).device
        plan, region, unit_gy = plan_of(case, self.encoding.dose_scale_gy)
        inside = torch.from_numpy(region)[None, None].to(device)
        labels = {
            "dose": torch.from_numpy(plan / unit_gy)[None, None].to(device),
            "region": inside.float(),
        }
        if case.earlier is not None:
            labels["earlier"] = torch.from_numpy(case.earlier)[None].to(device)
        x = torch.from_numpy(case.input)[None].to(device)
        spacing = torch.tensor([case.bound.case.grid.spacing])
        condition, data = self._learned(network, LabelledBatch(x, labels, spacing))
        return condition, data, coarsened(inside.float()) > 0.5


def coarsened(values: Tensor) -> Tensor:
    """Means of cubes of 2³ voxels, of `(batch, channel, z, y, x)`."""
    return functional.avg_pool3d(values, 2)


def refined(values: Tensor) -> Tensor:
    """Twice as fine, linearly between the cubes' centres."""
    return functional.interpolate(values, scale_factor=2.0, mode="trilinear")


def repeated(values: Tensor) -> Tensor:
    """Twice as fine, constant in each cube: `coarsened` undoes it."""
    return functional.interpolate(values, scale_factor=2.0, mode="nearest")


def _given(condition: Tensor, mixed: Tensor, time: Tensor) -> Tensor:
    """The network's input: condition, noisy values, and the time as a channel."""
    when = time.to(condition.dtype).reshape(-1, 1, 1, 1, 1).expand(-1, 1, *condition.shape[2:])
    return torch.cat([condition, repeated(mixed).to(condition.dtype), when], dim=1)


def _inner(network: nn.Module) -> DenoisingUNet:
    """The network itself, of what trains it in several processes."""
    inner = getattr(network, "module", network)
    assert isinstance(inner, DenoisingUNet)
    return inner
