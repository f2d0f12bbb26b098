"""Tasks that the product does not have, to show that nothing but their own file knows of them.

`slice_dose`: a dose by a network of two dimensions. `bands`: a dose with a lower and an upper
bound, a probability and a segment, and on request a sample that takes many passes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from DosePredictionLib.encoding.encoder import decode, network_channels
from DosePredictionLib.losses import LossInput, WeightedLoss, mae
from DosePredictionLib.models.dose_model import Architecture, DoseModel
from DosePredictionLib.networks import DoseNetwork, TwoStageDose, build_network
from DosePredictionLib.networks.configs import ARCHITECTURES, NetworkConfig, Registered
from DosePredictionLib.prediction import Output
from DosePredictionLib.tasks.dose_regression import DoseRegression, prescription_scale
from DosePredictionLib.tasks.registry import TASKS, TaskEntry
from DosePredictionLib.tasks.task import (
    Combined,
    Decoded,
    Decoding,
    LabelledBatch,
    LabelledCase,
    Passes,
    Task,
    Validated,
)
from DosePredictionLib.volume import Volume

STEPS = 40  # passes of a sample
STEP_SECONDS = 0.05


@dataclass(frozen=True)
class SlicesConfig(NetworkConfig):
    """Small slices."""

    divisor: ClassVar[int] = 4
    smallest_edge: ClassVar[int] = 4
    dimensions: ClassVar[int] = 2


class TinySlices(DoseNetwork):
    """A dose of each slice by itself."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.layers = nn.Sequential(
            nn.Conv2d(self.input_channels, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 1, 1),
        )

    def forward(self, x: Tensor) -> TwoStageDose:
        assert x.dim() == 4
        return TwoStageDose(None, self.layers(x))


@dataclass(frozen=True)
class BandsConfig(NetworkConfig):
    """Small volumes."""

    divisor: ClassVar[int] = 4
    smallest_edge: ClassVar[int] = 4


class TinyBands(DoseNetwork):
    """Three channels: dose, half width of its band, and the logarithm of the bladder's odds."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.layers = nn.Sequential(
            nn.Conv3d(self.input_channels, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 3, 1)
        )

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        result: Tensor = self.layers(x)
        return result


class SliceDose(DoseRegression):
    stages: ClassVar[Mapping[str, str]] = {"": "dose, slice by slice"}


class Bands(Task):
    stages: ClassVar[Mapping[str, str]] = {"": "dose and its bounds"}
    unit: ClassVar[str] = "Gy"
    drawn: ClassVar[frozenset[str]] = frozenset({"sample"})

    def predict(self, network: nn.Module, x: Tensor, passes: Passes) -> Mapping[str, Tensor]:
        wants_sample = "sample" in passes.keep
        with passes.watch(network, 1, self.stages, (0.0, 0.5 if wants_sample else 1.0)):
            dose, width, odds = passes.run(network, x, _three)
        arrays = {"dose": dose, "width": width.abs(), "odds": odds}
        if wants_sample:
            noise = torch.randn(dose.shape, generator=passes.generator, device=dose.device)
            with passes.watch(network, STEPS, {"": "drawing a sample"}, (0.5, 1.0)):
                for _ in range(STEPS):
                    passes.run(network, x, _three)
                    time.sleep(STEP_SECONDS)
            arrays["sample"] = dose + noise * width.abs()
        return arrays

    def decode(self, arrays: Mapping[str, Combined], decoding: Decoding) -> Decoded:
        scale, target, findings = prescription_scale(
            decoding.bound.prescription, decoding.expectations
        )
        unit_gy = np.float32(self.encoding.dose_scale_gy * scale)
        encoded, case = decoding.encoded, decoding.bound.case
        dose, width = arrays["dose"].mean, arrays["width"].mean

        def gray(values: np.ndarray) -> Volume:
            return decode(values * unit_gy, encoded, case)

        chance = Volume(1 / (1 + np.exp(-arrays["odds"].mean)), encoded.grid)
        chance = chance.resampled_to(case.grid, "linear")
        outputs = [
            Output("mean", gray(dose), "dose", "Gy"),
            Output("low", gray(dose - width), "lower", "Gy", level=0.9),
            Output("high", gray(dose + width), "upper", "Gy", level=0.9),
            Output("chance", chance, "probability", "probability", structure="Bladder"),
            Output(
                "bladder",
                chance.with_array(chance.array > 0.5),
                "segment",
                "none",
                structure="Bladder",
            ),
        ]
        if "sample" in arrays:
            outputs.append(Output("drawn", gray(arrays["sample"].mean), "sample", "Gy", member=1))
        return Decoded(tuple(outputs), target, findings)

    def begin_training(self, terms: Any, options: Mapping[str, Any]) -> None:
        """`teacher`: whether a frozen network of random weights takes part."""
        if options.get("teacher"):
            torch.manual_seed(0)
            channels = network_channels(self.protocol, self.encoding)
            self.frozen["teacher"] = build_network("tiny_bands", channels)

    def training_step(
        self, network: nn.Module, batch: LabelledBatch, progress: float
    ) -> WeightedLoss:
        predicted = network(batch.input)
        channels = self.protocol.inputs
        judged = LossInput(
            prediction=predicted[:, :1],
            reference=batch.labels["dose"],
            region=batch.labels["region"],
            structures=batch.labels["structures"],
            names=[channel.name for channel in channels],
            roles=[channel.role for channel in channels],
            dose_scale_gy=self.encoding.dose_scale_gy,
        )
        total = mae(judged)
        parts = {"mae": total.detach()}
        for teacher in self.frozen.values():
            apart = (predicted[:, 2] - teacher(batch.input)[:, 2]).square().mean()
            total, parts["teacher"] = total + apart, apart.detach()
        return WeightedLoss(total, parts)

    def validate(self, network: nn.Module, case: LabelledCase) -> Validated:
        dose = self.arrays_of(network, case.input)["dose"] * self.encoding.dose_scale_gy
        return Validated(
            {"error_gy": [float(np.abs(dose - case.bound.case.plan_dose.array).mean())]}
        )


def _three(predicted: Tensor) -> Tensor:
    return predicted[0].float()


REGISTERED = {
    "slice_dose": (TaskEntry(f"{__name__}:SliceDose"), "tiny_slices", SlicesConfig, "TinySlices"),
    "bands": (
        TaskEntry(
            f"{__name__}:Bands",
            required=lambda protocol: (*protocol.required, "Marrow"),
        ),
        "tiny_bands",
        BandsConfig,
        "TinyBands",
    ),
}
"""Task → its entry, and its network by name."""


def register() -> None:
    """Make this process know the tasks, as an entry each in the product would."""
    for name, (entry, architecture, config, network) in REGISTERED.items():
        TASKS[name] = entry
        ARCHITECTURES[architecture] = Registered(config, __name__, network)  # type: ignore[index]


def unregister() -> None:
    """Forget them again."""
    for name, (_, architecture, _, _) in REGISTERED.items():
        TASKS.pop(name, None)
        ARCHITECTURES.pop(architecture, None)  # type: ignore[attr-defined]


def dummy_model(root: Path, task: str, like: DoseModel, seed: int = 3) -> DoseModel:
    """A model folder of a task, on a grid of 48×48×32 voxels, with random weights."""
    _, architecture, _, _ = REGISTERED[task]
    grid = replace(like.manifest.encoding.grid, size=(48, 48, 32))
    encoding = replace(like.manifest.encoding, grid=grid)
    arguments = network_channels(like.protocol, encoding)
    torch.manual_seed(seed)
    made = build_network(architecture, arguments)
    if isinstance(made, TinyBands):
        nn.init.constant_(made.layers[2].bias, 0.5)  # a dose that is not all zero
    else:
        nn.init.constant_(made.layers[3].bias, 0.5)
    manifest = replace(
        like.manifest,
        name=task.replace("_", "-"),
        task=task,
        architecture=Architecture(architecture, arguments),
        encoding=encoding,
    )
    return DoseModel.create(root / manifest.name, manifest, made.state_dict())
