"""The configuration of a training run; recipes in `training/recipes/` are values of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from DosePredictionLib.encoding.encoder import EncodingSettings
from DosePredictionLib.errors import ModelError
from DosePredictionLib.losses import LossTerm
from DosePredictionLib.networks.configs import ARCHITECTURES, network_config
from DosePredictionLib.networks.configs import NetworkConfig as Channels
from DosePredictionLib.ranges import DoseGy, Seed
from DosePredictionLib.schema import (
    FieldError,
    Length,
    Name,
    Range,
    Share,
    from_json,
    read_json,
    validated,
)
from DosePredictionLib.structures.protocol import StructureProtocol

__all__ = [
    "AugmentationConfig",
    "NetworkConfig",
    "TrainingConfig",
    "model_prescription_gy",
    "stored_config",
    "upgraded",
]


_Filters = Annotated[int, Range(1, 512)]
_Voxels = Annotated[int, Range(1, 1024)]
_Steps = Annotated[int, Range(1, 10_000_000)]
_Hu = Annotated[float, Range(0, 1000)]
_Decay = Annotated[float, Range(0, 1, below=True)]


@dataclass(frozen=True)
@validated
class NetworkConfig:
    """Which network is trained.

    Args:
        stage1_filters, stage2_filters: filters of the first level of each stage, for the
            architectures of two stages.
        architecture: key of `networks.ARCHITECTURES`.
        options: further fields of the architecture's configuration.
    """

    stage1_filters: _Filters = 8
    stage2_filters: _Filters = 16
    architecture: Name = "two_stage"
    options: dict[Name, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        channels = sorted({each.name for each in fields(Channels)} & set(self.options))
        if channels:
            raise FieldError("options", f"must leave {channels} to the encoding.")
        network_config(self.architecture, {"structure_channels": 1, **self.arguments})

    @property
    def arguments(self) -> dict[str, Any]:
        """Fields of the architecture's configuration, beside its channels."""
        filters = {"stage1_filters": self.stage1_filters, "stage2_filters": self.stage2_filters}
        entry = ARCHITECTURES.get(self.architecture)
        known = {each.name for each in fields(entry.config)} if entry else set()
        return {name: value for name, value in filters.items() if name in known} | self.options


@dataclass(frozen=True)
@validated
class AugmentationConfig:
    """How far training crops are varied.

    Args:
        flip_probability: of a left–right mirrored patient.
        ct_noise_hu, ct_shift_hu: standard deviations of voxel noise and of one shift per crop.
        ct_contrast: standard deviation of the logarithm of one factor per crop, about water.
        spatial_probability: of a rotation, scaling and shift; strips are made anew after it.
        rotation_degrees: largest in-plane rotation.
        scale: largest relative change of size, in plane.
        shift_mm: largest shift along x and y.
        elastic_probability: of a smooth deformation along all axes, after the motion.
        elastic_mm: standard deviation of the displacements that it is drawn from.
        elastic_nodes_mm: distance of the lattice's nodes; between them displacements are
            interpolated.
        drop_structures: channel → probability that a crop lacks it, as cases without that contour.
        drop_wishes: probability that a crop goes without its case's wishes: nothing is stated then.
        mask_edges: probability that masks have other edges than the contours' (`vary_masks`), so
            that soft masks and hard ones mean the same; needs masks of the kind `occupancy`.
    """

    flip_probability: Share = 0.5
    ct_noise_hu: _Hu = 10.0
    ct_shift_hu: _Hu = 10.0
    ct_contrast: Share = 0.0
    spatial_probability: Share = 0.0
    rotation_degrees: Annotated[float, Range(0, 180)] = 20.0
    scale: Annotated[float, Range(0, 1, below=True)] = 0.1
    shift_mm: Annotated[float, Range(0, 500)] = 10.0
    elastic_probability: Share = 0.0
    elastic_mm: Annotated[float, Range(0, 50)] = 4.0
    elastic_nodes_mm: Annotated[float, Range(10, 500)] = 48.0
    drop_structures: dict[Name, Share] = field(default_factory=dict)
    drop_wishes: Share = 0.0
    mask_edges: Share = 0.0


@dataclass(frozen=True)
@validated
class TrainingConfig:
    """Everything that shapes the weights.

    Args:
        protocol: id of the structure protocol.
        encoding: how cases become tensors; travels into the model's manifest.
        crop: (z, y, x) voxels of a training crop, multiples of what the network divides by; for a
            network of slices z may be 1.
        crops: where they lie: anywhere in the scored region (`region`), or about a voxel of an
            organ, all organs equally often (`structures`).
        batch_size: crops per step, over all ranks together.
        steps: optimizer steps; the cosine ends there.
        schedule: of the rate after its warm-up. `cosine`: one to a thousandth of the peak.
            `plateau`: times `plateau_factor` after every `plateau_patience` validations in a row
            without a better one.
        learning_rate: peak of AdamW's rate.
        warm_up: share of the steps over which the rate rises linearly from a tenth.
        weight_decay: of AdamW, on weights with more than one dimension.
        gradient_clip: largest norm of the gradient.
        ema: decay of the exponential moving average of the weights at the end of the training.
        ema_start: its decay at the beginning, when it is not constant.
        freeze_norm_after: share of the steps after which batch norm uses its running statistics,
            so that the end of training sees what prediction will.
        frozen: parts of the network whose weights and statistics stay as the training begins, by
            their names in it (`refine.down.3`).
        loss: terms of the weighted sum.
        validate_every: steps between validations.
        patience: validations without a better one after which training stops; 0: never.
        seed: of weights, order and augmentation.
        precision: of the forward pass; `fp16` scales the loss, and needs a GPU.
        deterministic: refuse algorithms whose result differs from run to run.
        prescription_gy: target → Gy that a model of one level stands for: plans of another
            prescription are scaled to it, as prediction scales back. Empty: the levels of the
            protocol's targets; where there are none either, all cases must share one prescription.
        task: what the network learns: a name of `DosePredictionLib.tasks.registry.TASKS`.
        task_options: values of the task itself, as the folder of a frozen model that it needs.
    """

    protocol: Annotated[str, Length(1, 4096)]
    encoding: EncodingSettings
    crop: tuple[_Voxels, _Voxels, _Voxels] = (64, 64, 96)
    crops: Literal["region", "structures"] = "region"
    batch_size: Annotated[int, Range(1, 4096)] = 2
    steps: _Steps = 2000
    learning_rate: Annotated[float, Range(0, 10, above=True)] = 1e-3
    schedule: Literal["cosine", "plateau"] = "cosine"
    plateau_factor: Annotated[float, Range(0, 1, above=True, below=True)] = 0.5
    plateau_patience: Annotated[int, Range(1, 1_000_000)] = 3
    warm_up: Share = 0.03
    weight_decay: Annotated[float, Range(0, 10)] = 1e-4
    gradient_clip: Annotated[float, Range(0, 1e6, above=True)] = 1.0
    ema: _Decay = 0.995
    ema_start: _Decay | None = None
    freeze_norm_after: Share = 0.6
    frozen: Annotated[tuple[Name, ...], Length(0, 100)] = ()
    loss: Annotated[tuple[LossTerm, ...], Length(1, 50)] = (
        LossTerm("mae", 1.0),
        LossTerm("mae", 0.5, stage="coarse"),
    )
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    validate_every: _Steps = 200
    patience: Annotated[int, Range(0, 1_000_000)] = 0
    seed: Seed = 20261121
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    deterministic: bool = False
    network: NetworkConfig = field(default_factory=NetworkConfig)
    prescription_gy: Annotated[dict[Name, DoseGy], Length(0, 100)] = field(default_factory=dict)

    task: Name = "dose_regression"
    task_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        built = ARCHITECTURES[self.network.architecture].config
        edges = self.crop[-built.dimensions :]  # a network of slices takes any number of them
        if any(edge % built.divisor or edge < built.smallest_edge for edge in edges):
            raise FieldError(
                "crop",
                f"must be multiples of {built.divisor} and at least {built.smallest_edge}, which "
                f"the architecture {self.network.architecture} needs; got {list(self.crop)}.",
            )
        names = [term.name for term in self.loss]
        if len(set(names)) < len(names):
            raise FieldError("loss", f"must have terms of different names; got {names}.")


def model_prescription_gy(
    config: TrainingConfig, protocol: StructureProtocol
) -> Mapping[str, float]:
    """What the model's dose stands for, target → Gy; empty where nothing says it."""
    levels = {c.name: c.level_gy for c in protocol.targets if c.level_gy is not None}
    return config.prescription_gy or levels


def stored_config(run: Path) -> TrainingConfig:
    """The configuration of a run folder.

    Raises:
        ModelError: it is missing or malformed.
    """
    path = run / "config.json"
    stored = read_json(path, ModelError)
    if isinstance(stored, Mapping):
        stored = upgraded(stored)
    return from_json(TrainingConfig, stored, str(path), ModelError)


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
