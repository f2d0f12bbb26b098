"""How good the averaged weights are on whole cases, shared among the ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from DosePredictionLib.inference.slicewise import over_volumes
from DosePredictionLib.networks import DoseNetwork
from DosePredictionLib.tasks.task import LabelledCase, Task

from .data import TrainingCase, unpack_masks
from .distributed import gathered, this_share

__all__ = ["labelled", "network_dose_gy", "scored_dose_gy", "validation_figures"]

Show = Callable[[TrainingCase, NDArray[np.float32]], None]


def labelled(case: TrainingCase, task: Task) -> LabelledCase:
    """A case with its labels apart from its input, as `Task.validate` takes it."""
    structures = len(task.protocol.inputs)
    return LabelledCase(
        input=case.input(structures + len(task.encoding.strips.angles)),
        labels={
            "dose": case.dose_gy,
            "region": case.region,
            "body": case.body,
            "structures": unpack_masks(case.mask_bits, structures) > 0.5,
        },
        spacing_mm=case.spacing_mm,
    )


@torch.no_grad()
def network_dose_gy(task: Task, network: DoseNetwork, case: TrainingCase) -> NDArray[np.float32]:
    """The network's dose `(z, y, x)`, Gy, as it comes.

    Raises:
        DosePredictionError: the task predicts none.
    """
    encoded = labelled(case, task).input
    return task.dose_gy(task.arrays_of(over_volumes(network), encoded))


def scored_dose_gy(dose_gy: NDArray[np.float32], case: TrainingCase) -> NDArray[np.float32]:
    """The dose as prediction writes it: ≥ 0, and 0 outside body and dose mask."""
    return np.clip(dose_gy, 0, None) * (case.region & case.body)


@torch.no_grad()
def validation_figures(
    task: Task,
    network: DoseNetwork,
    cases: Sequence[TrainingCase],
    show: Show | None = None,
) -> Mapping[str, float]:
    """The task's figures over all cases; without any value a figure is 0.

    Every rank takes each N-th case; all of them return the figures of all cases.

    Args:
        show: called with every case of this rank and its dose, Gy, if the task has one.
    """
    share, volumes = this_share(), over_volumes(network)
    mine = []
    for index in range(share.rank, len(cases), share.ranks):
        judged = task.validate(volumes, labelled(cases[index], task))
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
