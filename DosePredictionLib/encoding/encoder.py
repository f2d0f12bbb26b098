"""From a case to the network's input, and from the network's dose back onto the case's grid.

Everything here is driven by `EncodingSettings`, which travel in the model's manifest; training and
prediction use the same functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..beams.ray_dose import RayDose
from ..case import Case
from ..errors import CaseError
from ..external import dose_region
from ..findings import Finding
from ..interpolation import BetweenVoxels
from ..mask import Mask
from ..structures.bound import BoundCase
from ..structures.protocol import StructureProtocol
from ..volume import Grid, Volume, slabs
from .beams import beam_inputs, ray_dose
from .channels.base import CaseOnGrid, Source
from .channels.mask import structure_masks
from .channels.registry import ModelChannels, model_channels
from .model_grid import grid_findings, is_block_of, model_grid
from .settings import EncodingSettings, GridSettings
from .wishes import stated_wishes, unused_wishes

__all__ = [
    "EncodedCase",
    "EncodingSettings",
    "GridSettings",
    "decode",
    "encode",
    "mirrored_channels",
    "network_channels",
    "protocol_of",
]


@dataclass(frozen=True, eq=False)
class EncodedCase:
    """A case as the network sees it.

    Args:
        input: float32 `(channel, z, y, x)`: CT, the protocol's inputs, strips, derived channels.
        body: bool `(z, y, x)` on the model's grid.
        grid: the model's grid.
        external: the external contour on the case's own grid, boolean.
        findings: what was noticed; a `blocking` one means that no dose may be predicted.
        channels: what the channels of the input are.
        beams: from the fluence of the case's beams to dose on the model's grid; None: the model
            knows no beams.
        wishes: channel of an organ → share of it that may get the dose that the model limits.
    """

    input: NDArray[np.float32]
    body: NDArray[np.bool_]
    grid: Grid
    external: Mask
    findings: tuple[Finding, ...]
    channels: ModelChannels
    beams: RayDose | None = None
    wishes: Mapping[str, float] = field(default_factory=dict)


def encode(
    bound: BoundCase,
    settings: EncodingSettings,
    divisor: int = 16,
    recompute_strips: bool = False,
) -> EncodedCase:
    """Carry a case onto the model's grid and compute the network's channels.

    Args:
        bound: a case bound to the model's protocol.
        divisor: what the network divides its input by; the grid is padded to multiples of it.
        recompute_strips: ignore strip masks that came with the case.

    Raises:
        CaseError: the case is bound to no protocol, no target voxel is left to centre the grid on,
            or a wish cannot be taken.
        DosePredictionError: the settings name a kind of channel that there is not.
    """
    protocol = protocol_of(bound)
    channels = model_channels(protocol, settings)
    targets = None if settings.structures == "learned" else bound.targets
    grid = model_grid(bound, settings.grid, divisor, targets)
    on_grid = CaseOnGrid(bound, grid, grid_findings(bound, grid, targets), recompute_strips)
    # Where a channel is the external contour, body and channel are one and the same.
    body = bound.external.resampled_to(grid).binary()
    masks = structure_masks(bound, protocol, grid, settings)
    wishes = stated_wishes(bound, settings)
    source = Source(protocol, settings, grid.spacing, masks, body, on_grid, wishes)
    x = np.empty((len(channels), *grid.shape), dtype=np.float32)
    channels.compute(range(len(channels)), source, x)
    beams = ray_dose(source) if beam_inputs(settings) is not None else None
    findings = (*on_grid.findings, *unused_wishes(bound, settings))
    return EncodedCase(x, body, grid, bound.external, findings, channels, beams, wishes)


def decode(
    dose_gy: NDArray[np.float32],
    encoded: EncodedCase,
    case: Case,
    between: BetweenVoxels = "linear",
) -> Volume:
    """The network's dose, Gy, on the case's own grid: ≥ 0, and 0 outside `dose_region`.

    Args:
        dose_gy: `(z, y, x)` on the model's grid, unclamped.
        between: how the dose between the model's voxels is read; see `Volume.resampled_to`.
    """
    dose = Volume(np.clip(dose_gy, 0, None), encoded.grid)
    same_voxels = is_block_of(case.grid, encoded.grid)
    array = dose.resampled_to(case.grid, "nearest" if same_voxels else between).array
    array = array.astype(np.float32, copy=False)
    if between == "averages":
        np.clip(array, 0, None, out=array)
    inside = dose_region(encoded.external, case.dose_mask)
    for part in slabs(array.shape):
        np.copyto(array[part], 0, where=~inside[part])
    return Volume(array, case.grid)


def mirrored_channels(protocol: StructureProtocol, settings: EncodingSettings) -> list[int]:
    """For each channel of the input the one that takes its place in the mirrored patient.

    `input[order][..., ::-1]` is the input of the left–right mirrored patient: paired organs, their
    distance maps and oblique strips change places.
    """
    return model_channels(protocol, settings).mirrored


def network_channels(protocol: StructureProtocol, settings: EncodingSettings) -> dict[str, int]:
    """How many channels of each group `encode` computes: arguments of every `DoseNetwork`.

    Where structures are learned, `structure_channels` counts the organs to find.
    """
    if settings.structures == "learned":
        organs = [channel for channel in protocol.inputs if channel.role == "organ"]
        return {"structure_channels": len(organs), "strip_channels": 0}
    channels = model_channels(protocol, settings)
    counts = {
        "structure_channels": len(channels.indices("structures")),
        "strip_channels": len(channels.indices("strips")),
    }
    derived = len(channels.indices("derived"))
    return {**counts, "derived_channels": derived} if derived else counts


def protocol_of(bound: BoundCase) -> StructureProtocol:
    """The protocol of a case that a network is to see.

    Raises:
        CaseError: the case is bound to none.
    """
    if bound.protocol is None:
        raise CaseError(f"{bound.case.name} fits no protocol: no network can see it.")
    return bound.protocol
