"""The dose of a good plan whose beams are known: coarse dose, what the beams give of it, refined.

The coarse dose is an average over the network's coarse parts and both passes; the beams' nearest
dose is computed once of it, on the whole volume, and mirrored along with the patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..beams.mimic import mimic
from ..beams.ray_dose import RayDose
from ..errors import PredictionError
from ..networks import BeamCascadeNetwork, TwoStageDose
from .dose_regression import DoseRegression, final_dose
from .task import LabelledBatch, Passes

__all__ = ["ITERATIONS", "BeamDose", "earlier_doses"]

ITERATIONS = 20
"""Of mimicking. More follow the coarse dose into its blur (docs/beams.md)."""

_COARSE_SHARE, _REFINED_FROM = 0.4, 0.5  # of the work; mimicking takes what is between


class BeamDose(DoseRegression):
    """`DoseRegression` by a `BeamCascadeNetwork`.

    Labels beside those of `DoseRegression`: `earlier`, what the coarse networks predicted and the
    beams can give of it (`python -m training mimic`).
    """

    stages: ClassVar[Mapping[str, str]] = {"": "dose"}

    def predict(self, network: nn.Module, x: Tensor, passes: Passes) -> Mapping[str, Tensor]:
        """The final dose, and the coarse one if it is asked for; averaged with the mirrored one.

        Raises:
            PredictionError: the beams are not given, or the network is another one.
        """
        if not isinstance(network, BeamCascadeNetwork):
            raise PredictionError("Doses of known beams are predicted by a beam_cascade.")
        earlier = passes.earlier
        if earlier is None:
            step = _COARSE_SHARE / len(network.coarse)
            coarse = torch.stack(
                [
                    self._averaged(part, x, passes, (index * step, (index + 1) * step))
                    for index, part in enumerate(network.coarse)
                ]
            )
            earlier = _earlier(coarse.mean(0), passes.beams, network.earlier_channels)
        earlier = earlier.to(x.device)
        dose = self._averaged(network.refine, x, passes, (_REFINED_FROM, 1.0), earlier)
        share = network.coarse_share
        dose = (1 - share) * (dose + earlier[-1]) + share * earlier[0]
        wants_coarse = "coarse dose" in passes.keep
        return {"dose": dose, "coarse": earlier[0]} if wants_coarse else {"dose": dose}

    def _averaged(
        self,
        part: nn.Module,
        x: Tensor,
        passes: Passes,
        share: tuple[float, float],
        earlier: Tensor | None = None,
    ) -> Tensor:
        """The dose `(z, y, x)` of a part of the network, averaged with the mirrored patient's."""
        stage = "coarse dose" if earlier is None else "final dose"
        more = [] if earlier is None else [earlier[None].to(x.dtype)]
        given = _like(torch.cat([x, *more], dim=1), x)
        count = 1 if passes.mirrored is None else 2
        with passes.watch(part, count, {"": stage}, share):
            dose = passes.run(part, given, final_dose)
            if passes.mirrored is not None:
                turned = [x[:, passes.mirrored], *more]
                given = _like(torch.cat(turned, dim=1).flip(-1), x)
                dose = (dose + passes.run(part, given, final_dose).flip(-1)) / 2
        return dose

    def predicted(self, network: nn.Module, batch: LabelledBatch) -> TwoStageDose:
        """The refined dose of crops whose earlier doses are known."""
        doses: TwoStageDose = network(batch.input, batch.labels["earlier"])
        return doses


def earlier_doses(
    coarse: NDArray[np.float32], beams: RayDose, iterations: int = ITERATIONS
) -> NDArray[np.float32]:
    """A coarse dose and the nearest that the beams can give, `(2, z, y, x)`, in its unit.

    Where no beam reaches, the coarse dose stands for both.

    Args:
        coarse: `(z, y, x)` on the grid of the beams.
    """
    found = mimic(beams.deliverable, beams.of_volume(coarse), iterations)
    mimicked = coarse.copy()
    mimicked.ravel()[beams.voxels] = found.dose
    return np.stack([coarse, mimicked])


def _earlier(coarse: Tensor, beams: RayDose | None, channels: int) -> Tensor:
    if channels == 1:
        return coarse[None]
    if beams is None:
        raise PredictionError(
            "This model needs the geometry of the beams beside its input: give what `encode` "
            "returns as `beams`."
        )
    values = coarse.float().cpu().numpy()
    return torch.from_numpy(earlier_doses(np.ascontiguousarray(values), beams)).to(coarse)


def _like(values: Tensor, x: Tensor) -> Tensor:
    """In the memory layout of the input."""
    if x.is_contiguous(memory_format=torch.channels_last_3d):
        return values.contiguous(memory_format=torch.channels_last_3d)
    return values
