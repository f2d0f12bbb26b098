"""Random variation of training crops: a policy draws parameters, pure functions apply them.

Everything that is applied works on torch tensors on their device. Parameters come from the
sample's own generator, (seed, epoch, case), never from a worker's state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from DosePredictionLib.structures.protocol import StructureProtocol

from .config import AugmentationConfig

__all__ = ["Spatial", "draw_dropped", "draw_spatial", "moved_in_plane", "strips_of", "vary_ct"]

_EDGE_TOLERANCE = 1e-3  # of the smaller in-plane spacing, as in `DosePredictionLib.encoding.strips`


@dataclass(frozen=True)
class Spatial:
    """An in-plane motion about the crop's middle: turned, then scaled, then shifted."""

    degrees: float = 0.0
    scale: float = 1.0
    shift_mm: tuple[float, float] = (0.0, 0.0)


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


def strips_of(
    target: Tensor,
    body: Tensor,
    angles: Sequence[int],
    spacing_mm: Sequence[float],
    margin_mm: float = 0.0,
) -> Tensor:
    """`DosePredictionLib.encoding.strips.strip_masks` on tensors: bool `(angle, z, y, x)`.

    Strips keep their angles in the room when a patient turns, so that a turned crop needs new ones.

    Args:
        target, body: bool `(z, y, x)`.
        angles: degrees.
        spacing_mm: (x, y, z).
        margin_mm: added at both ends.
    """
    height, width = target.shape[1:]
    x = torch.arange(width, device=target.device, dtype=torch.float64) * spacing_mm[0]
    y = torch.arange(height, device=target.device, dtype=torch.float64) * spacing_mm[1]
    tolerance = margin_mm + _EDGE_TOLERANCE * min(spacing_mm[0], spacing_mm[1])
    masks = []
    for angle in angles:
        radians = math.radians(angle)
        along = math.cos(radians) * x[None, :] + math.sin(radians) * y[:, None]
        low = torch.where(target, along, math.inf).amin((1, 2)) - tolerance
        high = torch.where(target, along, -math.inf).amax((1, 2)) + tolerance
        masks.append((along >= low[:, None, None]) & (along <= high[:, None, None]) & body)
    return torch.stack(masks)


def vary_ct(ct: Tensor, shift: float, noise: Tensor) -> Tensor:
    """Add a shift and noise to a CT scaled to 0…1; air outside the patient, exactly 0, stays."""
    return torch.where(ct > 0, (ct + noise + shift).clamp(0, 1), torch.zeros_like(ct))
