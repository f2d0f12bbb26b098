"""How good the averaged weights are on whole cases, shared among the ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.encoding.prescription import prescription_factor
from DosePredictionLib.evaluation.scores import dose_score, dvh_score_terms
from DosePredictionLib.mask import Mask
from DosePredictionLib.networks import DoseNetwork
from DosePredictionLib.structures.bound import BoundCase, bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume

from .data import TrainingCase
from .distributed import gathered, this_share

__all__ = ["bound_case", "network_dose_gy", "scored_dose_gy", "validation_figures"]

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
    """The dose score's mean over patients, and the pooled DVH score, Gy.

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


def bound_case(
    case: TrainingCase, protocol: StructureProtocol, prescription_gy: Mapping[str, float]
) -> BoundCase:
    """An encoded case as evaluation takes it, on the grid that it was prepared on.

    Args:
        prescription_gy: target → Gy; targets that the case lacks are left out.
    """
    grid = Grid(case.ct.shape[::-1], case.spacing_mm)
    named = {c.name: mask for c, mask in zip(protocol.inputs, case.labels, strict=True)}
    if protocol.external is not None:
        named[protocol.external.name] = case.body
    structures = {name: Volume(mask, grid) for name, mask in named.items() if mask.any()}
    levels = {name: gy for name, gy in prescription_gy.items() if name in structures}
    has_dose_mask = not np.array_equal(case.region, case.body)
    prepared = Case(
        case.name,
        Volume(case.ct, grid),
        structures,
        Volume(case.dose_gy, grid),
        Prescription(levels) if levels else None,
        Volume(case.region, grid) if has_dose_mask else None,
    )
    bound = bind(prepared, protocol, {name: name for name in structures})
    return replace(bound, known_external=Mask(case.body, grid))


def _errors(
    dose: NDArray[np.float32], case: TrainingCase, protocol: StructureProtocol
) -> tuple[float, list[float]]:
    """The dose score in the case's region, and the errors of the scored endpoints."""
    bound = bound_case(case, protocol, {})
    predicted, plan = Volume(dose, bound.case.grid), Volume(case.dose_gy, bound.case.grid)
    terms = dvh_score_terms(
        predicted,
        plan,
        {name: structure.mask for name, structure in bound.structures.items()},
        targets=bound.named("target"),
        organs=bound.named("organ"),
    )
    score = dose_score(predicted, plan, bound.region)
    assert score is not None
    return score, list(terms.values())
