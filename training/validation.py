"""How good the averaged weights are on whole cases, shared among the ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.encoding.prescription import prescription_factor
from DosePredictionLib.inference.slicewise import over_volumes
from DosePredictionLib.mask import Mask
from DosePredictionLib.networks import DoseNetwork
from DosePredictionLib.structures.bound import BoundCase, bind
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.tasks.task import LabelledCase, Task
from DosePredictionLib.volume import Grid, Volume

from .data import TrainingCase
from .distributed import gathered, this_share

__all__ = ["bound_case", "labelled", "network_dose_gy", "validation_figures"]

Show = Callable[[TrainingCase, NDArray[np.float32]], None]


def labelled(case: TrainingCase, task: Task, model_gy: Mapping[str, float]) -> LabelledCase:
    """A case with its labels apart from its input, as `Task.validate` takes it.

    Args:
        model_gy: what the model's dose stands for, target → Gy.
    """
    return LabelledCase(
        input=case.input(),
        bound=bound_case(case, task.protocol, {}),
        prescription_factor=prescription_factor(case.prescription_gy, model_gy),
        earlier=None if case.earlier is None else np.asarray(case.earlier, dtype=np.float32),
    )


@torch.no_grad()
def network_dose_gy(
    task: Task, network: DoseNetwork, case: TrainingCase, model_gy: Mapping[str, float]
) -> NDArray[np.float32]:
    """The network's dose `(z, y, x)`, Gy, as it comes, for the case's prescription.

    Raises:
        DosePredictionError: the task predicts none.
    """
    encoded = labelled(case, task, model_gy)
    arrays = task.arrays_of(over_volumes(network), encoded.input, encoded.earlier)
    return task.dose_gy(arrays, encoded.prescription_factor)


@torch.no_grad()
def validation_figures(
    task: Task,
    network: DoseNetwork,
    cases: Sequence[TrainingCase],
    model_gy: Mapping[str, float],
    show: Show | None = None,
) -> Mapping[str, float]:
    """The task's figures over all cases; without any value a figure is 0.

    Every rank takes each N-th case; all of them return the figures of all cases.

    Args:
        model_gy: what the model's dose stands for, target → Gy.
        show: called with every case of this rank and its dose, Gy, if the task has one.
    """
    share, volumes = this_share(), over_volumes(network)
    mine = []
    for index in range(share.rank, len(cases), share.ranks):
        judged = task.validate(volumes, labelled(cases[index], task, model_gy))
        mine.append((index, {name: list(values) for name, values in judged.terms.items()}))
        if show is not None and judged.dose_gy is not None:
            show(cases[index], judged.dose_gy)
    every = sorted((record for records in gathered(mine) for record in records), key=_index)
    pooled: dict[str, list[float]] = {}
    for _, terms in every:
        for name, values in terms.items():
            pooled.setdefault(name, []).extend(values)
    return {name: float(np.mean(each)) if each else 0.0 for name, each in pooled.items()}


def _index(record: tuple[int, dict[str, list[float]]]) -> int:
    return record[0]


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
