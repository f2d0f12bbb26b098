"""What the contours of one network are worth on one patient, in overlap and in dose.

Used by `benchmarks.dose_guidance`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from DosePredictionLib.beams.arrangement import ARRANGEMENTS
from DosePredictionLib.encoding.settings import EncodingSettings
from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io import read_case
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.tasks.found_organs import connected
from DosePredictionLib.tasks.guidance import DoseGuidance, FrozenDose, Seen, Soft
from DosePredictionLib.tasks.segmentation import class_map, dice_of_masks
from DosePredictionLib.tasks.task import Task
from training.data import TrainingCase, cut
from training.simulation.fast_planning import FastPlanner
from training.simulation.settings import FastPlanSettings

__all__ = ["Judge", "gradient_error", "replanned"]

_BLOCK = (32, 48, 48)


class Judge:
    """Judges networks that find organs on the same patients.

    Args:
        cases: the patients.
        encoding: of the cases.
        models: name → folder of a dose model of occupancies; None: that figure is left out.
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        encoding: EncodingSettings,
        models: Mapping[str, Path | None],
    ) -> None:
        self._cases, protocol = cases, cases[0].channels.protocol
        self._doses = {
            name: FrozenDose(str(path), protocol, encoding)
            for name, path in models.items()
            if path is not None
        }
        for each in self._doses.values():
            each.network.requires_grad_(False)
        inputs = protocol.inputs
        self._organs = [i for i, channel in enumerate(inputs) if channel.role == "organ"]
        self._on_truth: dict[tuple[str, str], Tensor] = {}

    @torch.no_grad()
    def records(self, network: nn.Module, task: Task) -> list[dict[str, Any]]:
        """Of each patient Dice, reading and the effects on predicted plans, by organ."""
        return [self._record(network, task, case) for case in self._cases]

    def _record(self, network: nn.Module, task: Task, case: TrainingCase) -> dict[str, Any]:
        x = case.input()
        chances = task.arrays_of(network, x)["organs"]
        found = connected(chances, task.organs).argmax(0)  # type: ignore[attr-defined]
        masks = torch.from_numpy(case.labels)[None]
        truth = class_map(masks, self._organs)[0].numpy()
        changes = {name: self._changes(name, case, x, found) for name in self._doses}
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
        self, name: str, case: TrainingCase, x: NDArray[np.float32], found: NDArray[np.intp]
    ) -> NDArray[np.float32]:
        """The dose predicted for the found organs less that for the true ones, Gy, `(z, y, x)`.

        Args:
            name: of the dose model; beyond its reach it predicts none.
            x: the case's input.
        """
        model, derived = self._doses[name], case.channels.indices("derived")
        part = model.reached(case.labels, case.spacing_mm)
        seen = Seen(
            torch.from_numpy(x[:1, part])[None],
            torch.from_numpy(case.labels[:, part])[None],
            torch.tensor([case.spacing_mm]),
            torch.from_numpy(x[derived][:, part])[None],
        )
        reference = model.reference(seen)
        if (name, case.name) not in self._on_truth:
            self._on_truth[name, case.name] = model.dose_gy(reference)
        classes = torch.arange(1, 1 + len(self._organs))[:, None, None, None]
        ours: Tensor = (torch.from_numpy(found[part]) == classes).float()[None]
        change = model.dose_gy(reference, ours) - self._on_truth[name, case.name]
        result = np.zeros(found.shape, dtype=np.float32)
        result[part] = change[0, 0].numpy()
        return result


def gradient_error(model: Path, case: TrainingCase, encoding: EncodingSettings) -> float:
    """How far the gradient of the plan's effect is from finite differences, relative.

    In float64, along one random direction, on a block of the case about its target.
    """
    protocol = case.channels.protocol
    guidance = DoseGuidance({"dose_model": str(model)}, protocol, encoding)
    assert guidance.frozen is not None
    guidance.frozen.network.requires_grad_(False).double()
    targets = [i for i, channel in enumerate(protocol.inputs) if channel.role == "target"]
    middle = np.argwhere(case.labels[targets].any(0)).mean(0).astype(int)
    start, size = middle - np.array(_BLOCK) // 2, _BLOCK
    x = torch.from_numpy(cut_channels(case.input(), start, size))[None].double()
    masks = torch.from_numpy(cut_channels(case.labels, start, size))[None]
    derived = x[:, case.channels.indices("derived")]
    seen = Seen(x[:, :1], masks, torch.tensor([case.spacing_mm]), derived)
    organs = [i for i, channel in enumerate(protocol.inputs) if channel.role == "organ"]
    truth, generator = masks[:, organs].double(), torch.Generator().manual_seed(1)
    chances = 0.8 * truth + 0.2 * torch.rand(truth.shape, generator=generator).double()
    step = 1e-6 * torch.randn(truth.shape, generator=generator).double()

    def plan(of: Tensor) -> Tensor:
        return guidance.effects(Soft(of, truth, x[:, :1]), seen).plan

    leaf = chances.requires_grad_()
    (slope,) = torch.autograd.grad(plan(leaf), leaf)
    with torch.no_grad():
        numeric = (plan(chances + step) - plan(chances - step)) / 2
    return float(((slope * step).sum() - numeric).abs() / numeric.abs())


def cut_channels(arrays: NDArray, start: Sequence[int], size: Sequence[int]) -> NDArray:
    """A block of each of `(channel, z, y, x)`; 0 where it reaches beyond."""
    return np.stack([cut(each, start, size) for each in arrays])


def replanned(model: Path, path: Path) -> dict[str, Any]:
    """Mean doses of the true organs by a plan for the found ones, against one for the true ones.

    Both plans are made in the same way, with the case's beams.
    """
    case = read_case(path)
    prediction = Predictor(DoseModel.load(model), "cpu").predict(case)
    found = {o.structure: o.volume for o in prediction.outputs if o.structure is not None}
    names = prediction.mapping.assigned
    taken = {names[channel]: volume for channel, volume in found.items() if names.get(channel)}
    again = replace(case, structures={**case.structures, **taken})
    beams = case.beams or ARRANGEMENTS["nine-field"]
    doses = [
        FastPlanner(each, FastPlanSettings()).arranged(beams).planned().dose
        for each in (again, case)
    ]
    organs = {}
    for channel in found:
        true = case.structures.get(names.get(channel) or "")
        if true is None:
            continue
        means = [dvh(dose, true).endpoint("Dmean_gy") for dose in doses]
        if None not in means:
            organs[channel] = {"replanned_gy": abs(means[0] - means[1])}  # type: ignore[operator]
    return {"case": case.name, "organs": organs}
