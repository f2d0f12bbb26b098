"""A dose from noise: diffusion of the whole dose, without a regression before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ..prediction import Output
from .residual_flow import ResidualFlow, coarsened, refined
from .residual_scale import require_loss
from .task import Combined, Decoded, Decoding, LabelledBatch, Passes, Task

if TYPE_CHECKING:
    from ..losses import LossTerm

__all__ = ["DoseDiffusion"]

_MIDDLE, _HALF = 0.5, 0.5
"""Doses of 0 to 1, in units of the dose scale, become values from −1 to 1, as noise has them."""


class DoseDiffusion(ResidualFlow):
    """A `DenoisingUNet` without earlier doses draws a dose: what a regression is compared with.

    Labels: those of `DoseRegression`.
    """

    drawn: ClassVar[frozenset[str]] = frozenset({"dose"})

    def predict(self, network: nn.Module, x: Tensor, passes: Passes) -> Mapping[str, Tensor]:
        """One dose `(z, y, x)`, in units of the dose scale; drawn by `passes.generator`."""
        drawn = self._drawn(network, x, passes, centred=False)
        return {"dose": _MIDDLE + _HALF * refined(drawn)[0, 0]}

    def decode(self, arrays: Mapping[str, Combined], decoding: Decoding) -> Decoded:
        """As `ResidualFlow` does; the sample is the dose."""
        decoded = super().decode({"sample": arrays["dose"]}, decoding)
        volume = decoded.outputs[0].volume
        return decoded._replace(outputs=(Output("dose", volume, "dose", "Gy"),))

    def begin_training(self, terms: Sequence[LossTerm], options: Mapping[str, Any]) -> None:
        """Take the one loss, `mse`."""
        Task.begin_training(self, terms, options)
        require_loss(terms, "mse", type(self).__name__)

    def dose_gy(
        self, arrays: Mapping[str, NDArray[np.float32]], prescription_factor: float = 1.0
    ) -> NDArray[np.float32]:
        """The dose that was drawn."""
        return arrays["dose"] * np.float32(self.encoding.dose_scale_gy * prescription_factor)

    def _learned(self, network: nn.Module, batch: LabelledBatch) -> tuple[Tensor, Tensor]:
        dose = batch.labels["dose"] * batch.labels["region"]
        return batch.input, coarsened((dose - _MIDDLE) / _HALF)
