"""The configuration of a training run; recipes in `training/recipes/` are values of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from DosePredictionLib.encoding import EncodingSettings

__all__ = ["NetworkConfig", "TrainingConfig"]


@dataclass(frozen=True)
class NetworkConfig:
    """Filters of the first level of each stage of the two-stage network."""

    stage1_filters: int = 8
    stage2_filters: int = 16


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that shapes the weights.

    Args:
        protocol: id of the structure protocol.
        encoding: how cases become tensors; travels into the model's manifest.
        crop: (z, y, x) voxels of a training crop, multiples of 16.
        batch_size: crops per step.
        steps: optimiser steps; the cosine ends there.
        learning_rate: peak of AdamW's rate.
        warm_up: share of the steps over which the rate rises linearly from a tenth.
        weight_decay: of AdamW, on weights with more than one dimension.
        gradient_clip: largest norm of the gradient.
        ema: largest decay of the exponential moving average of the weights.
        freeze_norm_after: share of the steps after which batch norm uses its running statistics,
            so that the end of training sees what prediction will.
        coarse_weight: weight of the coarse dose's error beside the final one's 1.
        ct_noise_hu, ct_shift_hu: standard deviations of voxel noise and of one shift per crop.
        flip_probability: of a left–right mirrored patient.
        validate_every: steps between validations.
        seed: of weights, order and augmentation.
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
    freeze_norm_after: float = 0.6
    coarse_weight: float = 0.5
    ct_noise_hu: float = 10.0
    ct_shift_hu: float = 10.0
    flip_probability: float = 0.5
    validate_every: int = 200
    seed: int = 20261121
    network: NetworkConfig = field(default_factory=NetworkConfig)
