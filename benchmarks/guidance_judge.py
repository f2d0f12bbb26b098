"""What the contours of one network are worth on one patient, in overlap and in dose.

Used by `benchmarks.dose_guidance`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.io import read_case
from DosePredictionLib.tasks.guidance import FrozenDose, Seen
from DosePredictionLib.tasks.segmentation import class_map, connected, dice_of_masks
from training.data import TrainingCase
from training.loop import Trainer

__all__ = ["Judge", "replanned"]


class Judge:
    """Judges the averaged network of a trainer.

    Args:
        trainer: whose task is `segmentation`.
        models: name → folder of a dose model of occupancies; None: that figure is left out.
    """

    def __init__(self, trainer: Trainer, models: Mapping[str, Path | None]) -> None:
        self._network, self._task = trainer.average, trainer.task
        protocol, encoding = trainer.protocol, trainer.config.encoding
        self._doses = {
            name: FrozenDose(str(path), protocol, encoding)
            for name, path in models.items()
            if path is not None
        }
        for each in self._doses.values():
            each.network.requires_grad_(False)
        inputs = protocol.inputs
        self._organs = [i for i, channel in enumerate(inputs) if channel.role == "organ"]

    @torch.no_grad()
    def record(self, case: TrainingCase) -> dict[str, Any]:
        """Dice, reading, and the effects on predicted plans: by organ, and their means."""
        chances = self._task.arrays_of(self._network, case.input())["organs"]
        found = connected(chances, self._task.organs).argmax(0)  # type: ignore[attr-defined]
        masks = torch.from_numpy(case.labels)[None]
        truth = class_map(masks, self._organs)[0].numpy()
        changes = {name: self._changes(model, case, found) for name, model in self._doses.items()}
        organs: dict[str, dict[str, float | None]] = {}
        for number, index in enumerate(self._organs, start=1):
            own, ours = truth == number, found == number
            if not own.any():
                continue
            read = (
                float(case.dose_gy[ours].mean() - case.dose_gy[own].mean()) if ours.any() else None
            )
            organs[case.channels.protocol.inputs[index].name] = {
                "dice": dice_of_masks(ours, own),
                "reading_gy": None if read is None else abs(read),
                **{f"{name}_gy": abs(float(each[own].mean())) for name, each in changes.items()},
            }
        return {"case": case.name, "organs": organs}

    def _changes(
        self, model: FrozenDose, case: TrainingCase, found: NDArray[np.intp]
    ) -> NDArray[np.float32]:
        """The dose predicted for the found organs less that for the true ones, Gy, `(z, y, x)`."""
        ct = torch.from_numpy(np.ascontiguousarray(case.ct))[None, None]
        seen = Seen(ct, torch.from_numpy(case.labels)[None], torch.tensor([case.spacing_mm]))
        reference = model.reference(seen)
        classes = torch.arange(1, 1 + len(self._organs))[:, None, None, None]
        ours: Tensor = (torch.from_numpy(found) == classes).float()[None]
        change = model.dose_gy(reference, ours) - model.dose_gy(reference)
        result: NDArray[np.float32] = change[0, 0].numpy()
        return result


def replanned(model: Path, path: Path) -> dict[str, Any]:
    """Mean doses of the true organs by a plan for the found ones, against the case's own plan."""
    from DosePredictionLib.inference.predictor import Predictor
    from DosePredictionLib.models.dose_model import DoseModel
    from training.simulation.planning import Planner
    from training.simulation.settings import PlanSettings

    case = read_case(path)
    prediction = Predictor(DoseModel.load(model), "cpu").predict(case)
    found = {o.structure: o.volume for o in prediction.outputs if o.structure is not None}
    names = prediction.mapping.assigned
    taken = {names[channel]: volume for channel, volume in found.items() if names.get(channel)}
    again = replace(case, structures={**case.structures, **taken})
    dose = Planner(again, PlanSettings()).optimized().dose
    assert case.plan_dose is not None
    organs = {}
    for channel in found:
        true = case.structures.get(names.get(channel) or "")
        means = [dvh(each, true).endpoint("Dmean_gy") for each in (dose, case.plan_dose) if true]
        if len(means) == 2 and None not in means:
            organs[channel] = {"replanned_gy": abs(means[0] - means[1])}  # type: ignore[operator]
    return {"case": case.name, "organs": organs}
