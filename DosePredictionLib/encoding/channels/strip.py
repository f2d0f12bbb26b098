"""Tangent strips of the union of all targets: those that came with the case, or made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...findings import Finding
from ...mask import Mask
from ...structures.protocol import StructureProtocol
from ...volume import Grid
from ..settings import EncodingSettings
from ..strips import mirrored_angle, strip_masks
from .base import CaseOnGrid, Channel, Source

__all__ = ["StripChannel", "channels"]


@dataclass(frozen=True)
class StripChannel(Channel):
    """0 or 1. Angles are those of the treatment room: a patient who turns gets new strips."""

    angle: int = 0

    def computed(self, source: Source) -> NDArray:
        """See `Channel.computed`."""
        masks: Mapping[int, NDArray[np.bool_]] = source.shared("strips", lambda: _strips(source))
        return masks[self.angle]


def channels(protocol: StructureProtocol, settings: EncodingSettings) -> Sequence[Channel]:
    """One channel for every angle; 45 and 135 degrees are each other's mirror image."""
    return [
        StripChannel(
            name=f"strip {angle}",
            mirror=f"strip {mirrored_angle(angle)}",
            group="strips",
            padding=0.0,
            motion="remade",
            storage="bits",
            from_masks=True,
            angle=angle,
        )
        for angle in settings.strips.angles
    ]


def _strips(source: Source) -> Mapping[int, NDArray[np.bool_]]:
    strips = source.settings.strips
    stored = None if source.on_grid is None else _stored(source.on_grid, strips.angles)
    if stored is not None:
        return stored
    z, y, x = source.body.shape
    grid = Grid((x, y, z), source.spacing_mm)
    made = strip_masks(source.target, source.body, grid, strips.angles, strips.margin_mm)
    return dict(zip(strips.angles, made, strict=True))


def _stored(case: CaseOnGrid, angles: Sequence[int]) -> Mapping[int, NDArray[np.bool_]] | None:
    """The strips that came with the case, if there is one for every angle and each of their voxels
    is the voxel of the same index in the model's grid."""
    stored: Mapping[int, Mask] = case.bound.case.strips or {}
    if not stored or case.recompute_strips:
        return None
    ordered = {angle: stored[angle].reordered_to_lps() for angle in angles if angle in stored}
    if len(ordered) == len(angles) and all(m.grid.matches(case.grid) for m in ordered.values()):
        message = "The strip masks that came with the case are used."
        case.findings.append(Finding("strips-from-files", "info", message))
        return {angle: mask.touched() for angle, mask in ordered.items()}
    message = "The strip masks that came with the case do not fit the model's grid; made anew."
    case.findings.append(Finding("strips-recomputed", "info", message))
    return None
