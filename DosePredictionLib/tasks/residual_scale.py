"""How far a plan's dose lies from a regression's, voxel by voxel: the expected |error|.

The head rides on a frozen model of doses and learns from residuals of patients whom that model has
not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..case import Prescription
from ..encoding.encoder import decode
from ..errors import DosePredictionError, PredictionError
from ..external import dose_region
from ..findings import Finding
from ..prediction import Output
from ..volume import Volume
from .dose_regression import final_dose, prescription_scale
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

__all__ = [
    "FLOOR_GY",
    "HIGH_GY",
    "InGy",
    "ResidualScale",
    "earlier_of",
    "in_gy",
    "learned_from",
    "plan_of",
    "require_loss",
    "required_earlier",
]

FLOOR_GY = 0.05
"""What is expected at least: of the size at which doses are stored for training."""

HIGH_GY = 5.0
"""Above it an error is worth a correlation: below, all of them are small."""

_MOST = 4.0  # logarithm of the expected error in Gy, so that no step of training overflows


class ResidualScale(Task):
    """A `HalfResolutionNetwork` maps the input and the regression's dose to the expected |error|.

    Labels: those of `DoseRegression`, and `earlier`, the frozen model's dose (`python -m training
    residuals`), which comes last among the network's channels.
    """

    stages: ClassVar[Mapping[str, str]] = {"": "expected error"}

    def predict(self, network: nn.Module, x: Tensor, passes: Passes) -> Mapping[str, Tensor]:
        """The expected |error| `(z, y, x)`, in units of the dose scale.

        Raises:
            PredictionError: the regression's dose is not given.
        """
        dose = required_earlier(passes, 1).to(x)
        with passes.watch(network, 1, self.stages, (0.0, 1.0)):
            found = passes.run(network, torch.cat([x, dose[None]], dim=1), final_dose)
        return {"scale": self._scale(found)}

    def decode(self, arrays: Mapping[str, Combined], decoding: Decoding) -> Decoded:
        """Gy on the case's grid, scaled to its prescription as the dose is."""
        gy = in_gy(arrays["scale"].mean, self.encoding.dose_scale_gy, decoding)
        output = Output("expected_error", gy.volume, "expected error", "Gy")
        return Decoded((output,), gy.target, gy.findings)

    def begin_training(self, terms: Sequence[LossTerm], options: Mapping[str, Any]) -> None:
        """Take the one loss, `laplace`, and the checksums of the frozen weights."""
        learned_from(options)
        require_loss(terms, "laplace", type(self).__name__)

    def training_step(
        self, network: nn.Module, batch: LabelledBatch, progress: float
    ) -> WeightedLoss:
        """How well the scale describes |plan − dose|, in units of the dose scale."""
        from ..losses import WeightedLoss
        from ..losses.laplace import laplace

        dose = earlier_of(batch)[:, :1]
        scale = self._scale(network(torch.cat([batch.input, dose], dim=1)).final.float())
        error = (batch.labels["dose"] - dose).abs()
        loss = laplace(scale, error, batch.labels["region"])
        return WeightedLoss(loss, {"laplace": loss.detach()})

    def headline(self, parts: Mapping[str, Tensor]) -> float:
        """The loss itself: it is no dose."""
        return next(iter(parts.values())).item()

    def validate(self, network: nn.Module, case: LabelledCase) -> Validated:
        """The logarithmic score in Gy, and above 5 Gy the rank correlation and the ratio."""
        from scipy.stats import spearmanr

        plan, region, unit_gy = plan_of(case, self.encoding.dose_scale_gy)
        if case.earlier is None:
            raise DosePredictionError(f"{case.bound.case.name}: {_NO_DOSE}")
        found = self.arrays_of(network, case.input, case.earlier[:1])["scale"]
        dose_gy, scale = case.earlier[0] * unit_gy, found * unit_gy
        error = np.abs(plan - dose_gy)
        high = region & (dose_gy > HIGH_GY)
        score = error[region] / scale[region] + np.log(scale[region])
        figures = {"validation_score": [float(score.mean())]}
        if high.sum() > 1:
            figures["spearman"] = [float(spearmanr(error[high], scale[high]).statistic)]
            figures["scale_by_error"] = [float(scale[high].mean() / error[high].mean())]
        return Validated(figures)

    def _scale(self, output: Tensor) -> Tensor:
        """From what the network gives, the logarithm of Gy, to units of the dose scale."""
        return (FLOOR_GY + output.clamp(max=_MOST).exp()) / self.encoding.dose_scale_gy


class InGy(NamedTuple):
    """An array in Gy on the case's grid, the prescription it is for, and what is said of that."""

    volume: Volume
    target: Prescription
    findings: tuple[Finding, ...]


def in_gy(array: NDArray[np.float32], dose_scale_gy: float, decoding: Decoding) -> InGy:
    """What a head gives, `(z, y, x)` in units of the dose scale, scaled as the dose is."""
    scale, target, findings = prescription_scale(decoding.bound.prescription, decoding.expectations)
    unit_gy = np.float32(dose_scale_gy * scale)
    case = decoding.bound.case
    volume = decode(array * unit_gy, decoding.encoded, case, decoding.between)
    return InGy(volume, target, tuple(findings))


def required_earlier(passes: Passes, stages: int) -> Tensor:
    """What a head is conditioned on, `(stage, z, y, x)`: the dose, then the expected error.

    Raises:
        PredictionError: it is not given.
    """
    if passes.earlier is None or len(passes.earlier) < stages:
        raise PredictionError(
            "A head predicts nothing by itself: it needs the dose of the model that it rides on. "
            "Lay its folder into that model's, and predict with that."
        )
    return passes.earlier[:stages]


def require_loss(terms: Sequence[LossTerm], name: str, task: str) -> None:
    """Refuse a recipe with another loss than the task's own.

    Raises:
        DosePredictionError: says which it is.
    """
    if [(t.loss, t.weight, t.stage, t.start, t.options) for t in terms] != [
        (name, 1.0, "final", 0.0, {})
    ]:
        raise DosePredictionError(
            f"{task} is trained with the loss {name} alone, of weight 1; the recipe has "
            f"{', '.join(each.loss for each in terms)}."
        )


def learned_from(options: Mapping[str, Any]) -> None:
    """Refuse a training on residuals of nobody knows which model.

    Raises:
        DosePredictionError: the options lack the checksums, or hold something else.
    """
    if set(options) != {"weights_sha256"}:
        raise DosePredictionError(
            "A head learns from the residuals of one frozen model: name it (train --frozen MODEL) "
            "and set no other task_options."
        )


def plan_of(
    case: LabelledCase, dose_scale_gy: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_], np.float32]:
    """Plan's dose in Gy, where it is scored, and the Gy of a dose of 1, of a whole case."""
    plan = case.bound.case.plan_dose
    assert plan is not None
    unit_gy = np.float32(dose_scale_gy * case.prescription_factor)
    region = dose_region(case.bound.external, case.bound.case.dose_mask)
    return plan.array, region, unit_gy


_NO_DOSE = (
    "the frozen model's dose is missing. Write it into the cache (python -m training residuals)."
)


def earlier_of(batch: LabelledBatch) -> Tensor:
    """What a batch is conditioned on, `(batch, stage, z, y, x)`.

    Raises:
        DosePredictionError: the frozen model's dose is missing.
    """
    if "earlier" not in batch.labels:
        raise DosePredictionError(f"A training case: {_NO_DOSE}")
    return batch.labels["earlier"]
