"""The configuration of a training run; recipes in `training/recipes/` are values of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from DosePredictionLib.encoding.encoder import EncodingSettings
from DosePredictionLib.errors import ModelError
from DosePredictionLib.losses import LossTerm
from DosePredictionLib.schema import from_json, read_json

__all__ = ["AugmentationConfig", "NetworkConfig", "TrainingConfig", "stored_config", "upgraded"]


@dataclass(frozen=True)
class NetworkConfig:
    """Which network is trained.

    Args:
        stage1_filters, stage2_filters: filters of the first level of each stage, for the
            architectures of two stages.
        architecture: key of `networks.ARCHITECTURES`.
        options: further arguments of the network's class.
    """

    stage1_filters: int = 8
    stage2_filters: int = 16
    architecture: str = "two_stage"
    options: dict[str, int] = field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, int]:
        """Arguments of the network's class, beside its channels."""
        if self.architecture == "mednext":
            return dict(self.options)
        filters = {"stage1_filters": self.stage1_filters, "stage2_filters": self.stage2_filters}
        return filters | self.options


@dataclass(frozen=True)
class AugmentationConfig:
    """How far training crops are varied.

    Args:
        flip_probability: of a left–right mirrored patient.
        ct_noise_hu, ct_shift_hu: standard deviations of voxel noise and of one shift per crop.
        spatial_probability: of a rotation, scaling and shift; strips are made anew after it.
        rotation_degrees: largest in-plane rotation.
        scale: largest relative change of size, in plane.
        shift_mm: largest shift along x and y.
        drop_structures: channel → probability that a crop lacks it, as cases without that contour.
    """

    flip_probability: float = 0.5
    ct_noise_hu: float = 10.0
    ct_shift_hu: float = 10.0
    spatial_probability: float = 0.0
    rotation_degrees: float = 20.0
    scale: float = 0.1
    shift_mm: float = 10.0
    drop_structures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that shapes the weights.

    Args:
        protocol: id of the structure protocol.
        encoding: how cases become tensors; travels into the model's manifest.
        crop: (z, y, x) voxels of a training crop, multiples of 16.
        batch_size: crops per step, over all ranks together.
        steps: optimizer steps; the cosine ends there.
        learning_rate: peak of AdamW's rate.
        warm_up: share of the steps over which the rate rises linearly from a tenth.
        weight_decay: of AdamW, on weights with more than one dimension.
        gradient_clip: largest norm of the gradient.
        ema: decay of the exponential moving average of the weights at the end of the training.
        ema_start: its decay at the beginning, when it is not constant.
        freeze_norm_after: share of the steps after which batch norm uses its running statistics,
            so that the end of training sees what prediction will.
        loss: terms of the weighted sum.
        validate_every: steps between validations.
        patience: validations without a better one after which training stops; 0: never.
        seed: of weights, order and augmentation.
        precision: of the forward pass; `fp16` scales the loss, and needs a GPU.
        deterministic: refuse algorithms whose result differs from run to run.
        task: what the network learns: a name of `DosePredictionLib.tasks.registry.TASKS`.
        task_options: values of the task itself, as the folder of a frozen model that it needs.
    """

    protocol: str
    encoding: EncodingSettings
    crop: tuple[int, int, int] = (64, 64, 96)
    batch_size: int = 2
    steps: int = 2000
    learning_rate: float = 1e-3
    warm_up: float = 0.03
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    ema: float = 0.995
    ema_start: float | None = None
    freeze_norm_after: float = 0.6
    loss: tuple[LossTerm, ...] = (LossTerm("mae", 1.0), LossTerm("mae", 0.5, stage="coarse"))
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    validate_every: int = 200
    patience: int = 0
    seed: int = 20261121
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    deterministic: bool = False
    network: NetworkConfig = field(default_factory=NetworkConfig)
    task: str = "dose_regression"
    task_options: dict[str, Any] = field(default_factory=dict)


def stored_config(run: Path) -> TrainingConfig:
    """The configuration of a run folder.

    Raises:
        ModelError: it is missing or malformed.
    """
    stored = upgraded(read_json(run / "config.json", ModelError))
    return from_json(TrainingConfig, stored, "config.json", ModelError)


def upgraded(config: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration of the first version in today's form; today's as it is."""
    result = dict(config)
    if "coarse_weight" in result:
        coarse = result.pop("coarse_weight")
        result["loss"] = [
            {"loss": "mae", "weight": 1.0},
            {"loss": "mae", "weight": coarse, "stage": "coarse"},
        ]
    moved = {
        name: result.pop(name)
        for name in ("flip_probability", "ct_noise_hu", "ct_shift_hu")
        if name in result
    }
    if moved:
        result["augmentation"] = moved
    return result
