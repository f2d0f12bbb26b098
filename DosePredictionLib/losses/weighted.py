"""Losses added up, each part logged under its name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import DosePredictionError
from ..schema import Name, Range, Share, validated
from .inputs import LossInput
from .registry import LOSSES, Loss

__all__ = ["LossTerm", "WeightedLoss", "WeightedSum"]


@dataclass(frozen=True)
@validated
class LossTerm:
    """One summand of a training loss; recipes and run folders hold these.

    Args:
        loss: key of `LOSSES`.
        weight: factor of the loss.
        stage: the dose that it judges.
        start: share of the training, 0…1, from which on it counts.
        options: keyword arguments of the loss.
    """

    loss: Name
    weight: Annotated[float, Range(0, 1e6)]
    stage: Literal["final", "coarse"] = "final"
    start: Share = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Under which the part is logged: the loss, with its stage unless that is the final one."""
        return self.loss if self.stage == "final" else f"{self.stage}_{self.loss}"

    def bound(self) -> Loss:
        """The loss with its options.

        Raises:
            DosePredictionError: there is no such loss, or it does not take such options.
        """
        if self.loss not in LOSSES:
            raise DosePredictionError(
                f"There is no loss {self.loss!r}; there are {', '.join(sorted(LOSSES))}."
            )
        function = LOSSES[self.loss]
        try:
            inspect.signature(function).bind(None, **self.options)
        except TypeError as exception:
            raise DosePredictionError(f"Loss {self.loss}: {exception}.") from exception
        return partial(function, **self.options)


class WeightedLoss(NamedTuple):
    """A scalar to call `backward()` on, and its unweighted parts, detached, by name."""

    total: Tensor
    parts: Mapping[str, Tensor]


class WeightedSum(nn.Module):
    """L = Σ wₖ Lₖ, or with learned weights L = Σ wₖ (½ exp(−sₖ) Lₖ + ½ sₖ).

    sₖ is the logarithm of the k-th loss's variance (Kendall et al. 2018, doi
    10.1109/CVPR.2018.00781): parameters that start at 0, to be given to the optimizer without
    weight decay. A loss that is not computed yet leaves its sₖ alone.

    Args:
        terms: what is added; names must differ.
        learned: whether the weights are learned.

    Raises:
        DosePredictionError: no term, two of one name, or an unknown loss or option.
    """

    def __init__(self, terms: Sequence[LossTerm], learned: bool = False) -> None:
        super().__init__()
        names = [term.name for term in terms]
        if not names or len(set(names)) < len(names):
            raise DosePredictionError(
                f"A training loss is made of one or more terms of different names; got {names}."
            )
        self.terms = tuple(terms)
        self._losses = [term.bound() for term in terms]
        self.log_variances: nn.Parameter | None = None
        if learned:
            self.log_variances = nn.Parameter(torch.zeros(len(names)))

    def forward(self, x: LossInput, progress: float = 1.0) -> WeightedLoss:
        """The loss of a batch; without autocast, in at least float32.

        Args:
            x: the batch.
            progress: share of the training that is done, 0…1; decides on terms with a `start`.
        """
        coarse = x.of_coarse() if any(term.stage == "coarse" for term in self.terms) else None
        total, parts = x.zero, {}
        with torch.autocast(x.prediction.device.type, enabled=False):
            for index, (term, loss) in enumerate(zip(self.terms, self._losses, strict=True)):
                if progress < term.start:
                    continue
                judged = x if term.stage == "final" or coarse is None else coarse
                part = loss(judged)
                parts[term.name] = part.detach()
                total = total + term.weight * self._weighted(part, index)
        return WeightedLoss(total, parts)

    def _weighted(self, part: Tensor, index: int) -> Tensor:
        if self.log_variances is None:
            return part
        s = self.log_variances[index]
        return 0.5 * (torch.exp(-s) * part + s)
