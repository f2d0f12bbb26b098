"""How good the averaged weights are on whole cases, shared among the ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from DosePredictionLib.encoding.prescription import prescription_factor
from DosePredictionLib.evaluation.scores import dvh_score_terms
from DosePredictionLib.networks import DoseNetwork
from DosePredictionLib.structures.protocol import StructureProtocol

from .data import TrainingCase
from .distributed import gathered, this_share

__all__ = ["network_dose_gy", "scored_dose_gy", "validation_figures"]

Show = Callable[[TrainingCase, NDArray[np.float32]], None]


@torch.no_grad()
def network_dose_gy(
    network: DoseNetwork, case: TrainingCase, scale_gy: float
) -> NDArray[np.float32]:
    """The network's dose `(z, y, x)`, Gy, as it comes.

    Args:
        scale_gy: the dose that the network's 1.0 stands for in this case.
    """
    device = next(network.parameters()).device
    x = torch.from_numpy(case.input())[None].to(device, memory_format=network.memory_format)
    return network(x).final[0, 0].float().cpu().numpy() * np.float32(scale_gy)


def scored_dose_gy(dose_gy: NDArray[np.float32], case: TrainingCase) -> NDArray[np.float32]:
    """The dose as prediction writes it: ≥ 0, and 0 outside body and dose mask."""
    return np.clip(dose_gy, 0, None) * (case.region & case.body)


def validation_figures(
    network: DoseNetwork,
    cases: Sequence[TrainingCase],
    protocol: StructureProtocol,
    scale_gy: float,
    model_gy: Mapping[str, float],
    show: Show | None = None,
) -> Mapping[str, float]:
    """Mean error in the dose region over patients, and the pooled DVH error, Gy.

    Every rank takes each N-th case; all of them return the figures of all cases.

    Args:
        scale_gy: the model's dose scale.
        model_gy: the model's prescription, target → Gy.
        show: called with every case of this rank and its dose, Gy.
    """
    share = this_share()
    mine = []
    for index in range(share.rank, len(cases), share.ranks):
        case = cases[index]
        unit_gy = scale_gy * prescription_factor(case.prescription_gy, model_gy)
        dose = scored_dose_gy(network_dose_gy(network, case, unit_gy), case)
        mine.append((index, *_errors(dose, case, protocol)))
        if show is not None:
            show(case, dose)
    every = sorted(record for records in gathered(mine) for record in records)
    terms = [term for _, _, of_case in every for term in of_case]
    return {
        "validation_mae_gy": float(np.mean([mae for _, mae, _ in every])),
        "validation_dvh_gy": float(np.mean(terms)) if terms else 0.0,
    }


def _errors(
    dose: NDArray[np.float32], case: TrainingCase, protocol: StructureProtocol
) -> tuple[float, list[float]]:
    """Mean absolute error in the region, and the errors of the scored endpoints."""
    structures = {c.name: m for c, m in zip(protocol.inputs, case.labels, strict=True)}
    terms = dvh_score_terms(
        dose,
        case.dose_gy,
        structures,
        targets=[channel.name for channel in protocol.inputs if channel.role == "target"],
        organs=[channel.name for channel in protocol.inputs if channel.role == "organ"],
        spacing_mm=case.spacing_mm,
    )
    return float(np.abs(dose - case.dose_gy)[case.region].mean()), list(terms.values())
