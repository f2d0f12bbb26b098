"""What a model's networks say one by one, each as it is and mirrored: an ensemble for nothing."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from DosePredictionLib.encoding.encoder import mirrored_channels
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.networks import BeamCascadeNetwork, fold_batch_norm

from .residuals import Residuals

__all__ = ["Passes"]


class Passes:
    """Doses of single passes; of a cascade that knows the beams those before the beams.

    Args:
        model: whose networks they are.
    """

    def __init__(self, model: DoseModel) -> None:
        self._parts: list[nn.Module] = []
        for member in model.members:
            network = fold_batch_norm(model.network(member))
            before = network.coarse if isinstance(network, BeamCascadeNetwork) else None
            self._parts += before if isinstance(before, nn.ModuleList) else [network]
        self._mirrored = mirrored_channels(model.protocol, model.manifest.encoding)

    def __len__(self) -> int:
        return 2 * len(self._parts)

    @torch.no_grad()
    def dose_gy(self, case: Residuals, number: int) -> NDArray[np.float32]:
        """That of one pass, `(z, y, x)`."""
        part, is_mirrored = self._parts[number // 2], number % 2
        x = torch.from_numpy(np.asarray(case.case.input(), np.float32))[None]
        dose = part(x[:, self._mirrored].flip(-1) if is_mirrored else x).final
        dose = dose.flip(-1) if is_mirrored else dose
        return np.asarray(dose[0, 0].numpy() * np.float32(case.unit_gy))
