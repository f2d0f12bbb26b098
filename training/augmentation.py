"""Random variation of training crops: a policy draws parameters, pure functions apply them.

Everything that is applied works on torch tensors on their device. Parameters come from the
sample's own generator, (seed, epoch, case), never from a worker's state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from DosePredictionLib.encoding.channels.registry import ModelChannels
from DosePredictionLib.mask import majority
from DosePredictionLib.structures.protocol import StructureProtocol

from .config import AugmentationConfig

__all__ = [
    "Crop",
    "Elastic",
    "Spatial",
    "deformed",
    "draw_dropped",
    "draw_edges",
    "draw_elastic",
    "draw_spatial",
    "moved_in_plane",
    "varied_crop",
    "vary_contrast",
    "vary_ct",
    "vary_masks",
]


@dataclass(frozen=True, eq=False)
class Crop:
    """A block of a case, `(channel, z, y, x)`, on the device that cuts it.

    Args:
        input: float32.
        dose: in units of the dose scale.
        region: where the dose is scored, 0 or 1.
        body: bool.
        spacing_mm: (x, y, z).
        earlier: doses of earlier stages over the dose scale; no channels: there are none.
        wishes: see `DosePredictionLib.encoding.channels.base.Source`.
    """

    input: Tensor
    dose: Tensor
    region: Tensor
    body: Tensor
    spacing_mm: tuple[float, float, float]
    earlier: Tensor = field(default_factory=lambda: torch.zeros(0, 1, 1, 1))
    wishes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Spatial:
    """An in-plane motion about the crop's middle: turned, then scaled, then shifted."""

    degrees: float = 0.0
    scale: float = 1.0
    shift_mm: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Elastic:
    """A smooth deformation of a crop.

    Args:
        nodes_mm: displacement along x, y, z at the nodes of a lattice that spans the crop,
            `(3, z, y, x)`: where what lies at a node comes from.
    """

    nodes_mm: Tensor


def draw_elastic(
    config: AugmentationConfig,
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    rng: np.random.Generator,
) -> Elastic | None:
    """A deformation of a crop `(z, y, x)`, or None; nothing is drawn where it never happens."""
    if not config.elastic_probability or rng.random() >= config.elastic_probability:
        return None
    edges_mm = np.asarray(shape) * np.asarray(spacing_mm)[::-1]
    nodes = 2 + np.floor(edges_mm / config.elastic_nodes_mm).astype(int)
    moves = rng.normal(0, config.elastic_mm, size=(3, *nodes))
    if shape[0] == 1:  # of one slice: nothing comes from another
        moves[2] = 0
    return Elastic(torch.from_numpy(moves.astype(np.float32)))


def draw_spatial(config: AugmentationConfig, rng: np.random.Generator) -> Spatial | None:
    """Parameters of a motion, or None; draws the same count of numbers either way."""
    chance, turn, size, x, y = rng.random(5)
    if chance >= config.spatial_probability:
        return None
    return Spatial(
        (2 * turn - 1) * config.rotation_degrees,
        (1 + config.scale) ** (2 * size - 1),
        ((2 * x - 1) * config.shift_mm, (2 * y - 1) * config.shift_mm),
    )


def draw_dropped(
    config: AugmentationConfig, protocol: StructureProtocol, rng: np.random.Generator
) -> list[int]:
    """Indices of the protocol's inputs that a crop goes without."""
    chances = [config.drop_structures.get(channel.name, 0.0) for channel in protocol.inputs]
    return [index for index, chance in enumerate(chances) if chance and rng.random() < chance]


def moved_in_plane(
    volumes: Tensor, motion: Spatial, spacing_mm: Sequence[float], mode: str = "bilinear"
) -> Tensor:
    """Move `(channel, z, y, x)` in the axial plane, in mm; zeros come in from outside.

    Args:
        volumes: float; what was at p lies at scale · R(degrees) · p + shift afterwards, with
            p = (x, y) in mm from the crop's middle.
        motion: what is done.
        spacing_mm: (x, y, z).
        mode: `bilinear`, or `nearest` for masks.
    """
    height, width = volumes.shape[-2:]
    half_x, half_y = spacing_mm[0] * width / 2, spacing_mm[1] * height / 2
    angle = math.radians(motion.degrees)
    cosine, sine = math.cos(angle) / motion.scale, math.sin(angle) / motion.scale
    x, y = motion.shift_mm
    # From a place in the result to the place it comes from, in units of half the crop.
    theta = [
        [cosine, sine * half_y / half_x, -(cosine * x + sine * y) / half_x],
        [-sine * half_x / half_y, cosine, (sine * x - cosine * y) / half_y],
    ]
    flat = volumes.reshape(1, -1, height, width)
    grid = functional.affine_grid(
        flat.new_tensor(theta)[None], [1, 1, height, width], align_corners=False
    )
    moved = functional.grid_sample(flat, grid, mode=mode, align_corners=False)
    return moved.reshape(volumes.shape)


def deformed(
    volumes: Tensor, elastic: Elastic, spacing_mm: Sequence[float], mode: str = "bilinear"
) -> Tensor:
    """Deform `(channel, z, y, x)` smoothly; zeros come in from outside.

    Between the lattice's nodes displacements are interpolated linearly.

    Args:
        volumes: float.
        spacing_mm: (x, y, z).
        mode: `bilinear`, or `nearest` for masks.
    """
    shape = volumes.shape[-3:]
    nodes_mm = elastic.nodes_mm[None].to(volumes.device)
    field = functional.interpolate(
        nodes_mm, size=tuple(shape), mode="trilinear", align_corners=True
    )
    # In units of half the crop, as `grid_sample` counts.
    half_mm = [mm * count / 2 for mm, count in zip(spacing_mm, reversed(shape), strict=True)]
    moves = field.permute(0, 2, 3, 4, 1) / field.new_tensor(half_mm)
    identity = torch.eye(3, 4, device=volumes.device)[None]
    still = functional.affine_grid(identity, [1, 1, *shape], align_corners=False)
    return functional.grid_sample(volumes[None], still + moves, mode=mode, align_corners=False)[0]


def varied_crop(
    crop: Crop,
    channels: ModelChannels,
    motion: Spatial | None,
    dropped: Sequence[int],
    elastic: Elastic | None = None,
) -> Crop:
    """A crop after a motion and without some structures; every channel as it states of itself.

    Args:
        crop: channels that are recomputed may hold anything.
        motion: None: none.
        dropped: indices of the protocol's inputs.
        elastic: a deformation that follows; None: none.
    """
    inputs = channels.protocol.inputs
    remade = set(channels.stored_as("recomputed"))
    for apply, how in ((moved_in_plane, motion), (deformed, elastic)):
        if how is not None:
            crop = _moved(crop, channels, partial(_applied, apply, how, crop.spacing_mm))
    is_moved = motion is not None or elastic is not None
    for index in dropped:
        for channel in channels.of_structure(inputs[index].name):
            crop.input[channel] = channels.channels[channel].padding
    if is_moved or any(inputs[index].role == "target" for index in dropped):
        remade |= {i for i, each in enumerate(channels.channels) if each.motion == "remade"}
    if remade:
        _remake(crop, channels, sorted(remade))
    return crop


def _remake(crop: Crop, channels: ModelChannels, indices: Sequence[int]) -> None:
    """Make channels of a crop anew from its masks, on the CPU."""
    x, device = crop.input, crop.input.device
    if device.type != "cpu":
        x = torch.zeros(crop.input.shape)
        x[channels.structures] = crop.input[channels.structures].cpu()
    channels.remake(indices, x.numpy(), crop.body[0].cpu().numpy(), crop.spacing_mm, crop.wishes)
    if x is not crop.input:
        crop.input[indices] = x[indices].to(device)


Move = Callable[[Tensor, str], Tensor]
"""From `(channel, z, y, x)` and how to interpolate to the same where it lies afterwards."""


def _applied(
    apply: Callable[..., Tensor], how: Any, spacing_mm: Sequence[float], values: Tensor, mode: str
) -> Tensor:
    return apply(values, how, spacing_mm, mode)


def _moved(crop: Crop, channels: ModelChannels, moved: Move) -> Crop:
    """What a motion does to all but the channels that are made anew after it."""
    x = crop.input.clone()
    for motion_kind, mode in (("linear", "bilinear"), ("nearest", "nearest")):
        indices = [i for i, each in enumerate(channels.channels) if each.motion == motion_kind]
        padding = x.new_tensor([channels.channels[i].padding for i in indices])[:, None, None, None]
        x[indices] = moved(x[indices] - padding, mode) + padding
    region = moved(crop.region, "nearest")
    body = majority(moved(crop.body.float(), "nearest"))
    earlier = moved(crop.earlier, "bilinear") if len(crop.earlier) else crop.earlier
    dose = moved(crop.dose, "bilinear")
    return replace(crop, input=x, dose=dose, region=region, body=body, earlier=earlier)


def draw_edges(count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, float]:
    """Levels and steepnesses of `vary_masks` for some masks, and the blur's deviation in voxels."""
    level, steepness, blur = rng.random(count), rng.random(count), rng.random()
    return (
        torch.from_numpy(0.35 + 0.3 * level).float(),
        torch.from_numpy(1.5 * (5.0 / 1.5) ** steepness).float(),
        0.4 + 0.8 * blur,
    )


def vary_masks(masks: Tensor, level: Tensor, steepness: Tensor, blur: float) -> Tensor:
    """Masks with other edges: softer or harder, the structure a little smaller or larger.

    A blurred mask m becomes ½ + s (m − t), clipped to 0…1. The level t moves the edge (½ leaves
    it), the steepness s, at least 1.5, says how hard it is; far inside or outside nothing changes.

    Args:
        masks: `(structure, z, y, x)`, 0…1.
        level, steepness: `(structure,)`; the level within 0.35…0.65.
        blur: standard deviation, in voxels.
    """
    places = torch.arange(-2.0, 3.0)
    kernel = torch.exp(-0.5 * (places / blur) ** 2)
    kernel = (kernel / kernel.sum()).to(masks)
    smooth = masks[:, None]
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[2 + axis], padding[axis] = 5, 2
        smooth = functional.conv3d(smooth, kernel.reshape(shape), padding=padding)
    t, s = (each[:, None, None, None].to(masks) for each in (level, steepness))
    return (0.5 + s * (smooth[:, 0] - t)).clamp(0, 1)


def vary_ct(ct: Tensor, shift: float, noise: Tensor, air: float = 0.0) -> Tensor:
    """Add a shift and noise to a CT scaled to 0…1; what is exactly `air`, the outside, stays."""
    return torch.where(ct != air, (ct + noise + shift).clamp(0, 1), ct)


def vary_contrast(ct: Tensor, factor: float, water: float, air: float = 0.0) -> Tensor:
    """Stretch a CT scaled to 0…1 about water; what is exactly `air`, the outside, stays."""
    return torch.where(ct != air, (water + factor * (ct - water)).clamp(0, 1), ct)
