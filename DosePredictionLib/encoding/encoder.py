"""From a case to the network's input, and from the network's dose back onto the case's grid.

Everything here is driven by `EncodingSettings`, which travel in the model's manifest; training and
prediction use the same functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..case import Case
from ..errors import CaseError
from ..findings import Finding
from ..hounsfield import AIR_HU
from ..mask import Mask, majority
from ..structures.bound import BoundCase
from ..structures.protocol import StructureProtocol
from ..volume import Grid, Volume
from .derived import DerivedInputs, derived_channels, mirrored_derived
from .strips import StripSettings, mirrored_angle, strip_masks

__all__ = [
    "EncodedCase",
    "EncodingSettings",
    "GridSettings",
    "decode",
    "encode",
    "mirrored_channels",
    "model_grid",
    "network_channels",
    "scale_ct",
]

_TARGET_MARGIN_MM = 20.0


@dataclass(frozen=True)
class GridSettings:
    """The grid that a model works on.

    Args:
        kind: `as-is`: a case of exactly `size` passes bit for bit whatever its spacing, another is
            resampled to `spacing_mm`. `fixed-spacing`: always `spacing_mm`. `native`: the case's
            own grid, with its spacing clipped into `spacing_mm_min … spacing_mm_max`.
        size: voxels (x, y, z); None: as many as the body (and the target's reach in z) need.
        spacing_mm, spacing_mm_min, spacing_mm_max: (x, y, z).
        reach_mm: how far beyond the target the grid extends in z when `size` is None; None: the
            whole body.
    """

    kind: Literal["as-is", "fixed-spacing", "native"]
    size: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    spacing_mm_min: tuple[float, float, float] | None = None
    spacing_mm_max: tuple[float, float, float] | None = None
    reach_mm: float | None = None


@dataclass(frozen=True)
class EncodingSettings:
    """How a case becomes a tensor. Part of the model's manifest.

    Args:
        grid: the model's grid.
        ct_window_hu: HU that become 0 and 1; values beyond are clipped.
        masks: `binary` (0 or 1), or `occupancy` (share of the voxel inside).
        strips: angles and margin of the strip channels; the strips' target is the union of all
            targets.
        air_outside_external: whether CT voxels outside the external contour become air.
        dose_scale_gy: the dose that the network's output 1.0 stands for.
        derived: further channels, computed from the masks; none by default.
    """

    grid: GridSettings
    ct_window_hu: tuple[float, float] = (-1000.0, 1000.0)
    masks: Literal["binary", "occupancy"] = "binary"
    strips: StripSettings = field(default_factory=StripSettings)
    air_outside_external: bool = False
    dose_scale_gy: float = 70.0
    derived: DerivedInputs = field(default_factory=DerivedInputs)


@dataclass(frozen=True, eq=False)
class EncodedCase:
    """A case as the network sees it.

    Args:
        input: float32 `(channel, z, y, x)`: CT, the protocol's inputs, strips, derived channels.
        body: bool `(z, y, x)` on the model's grid.
        grid: the model's grid.
        external: the external contour on the case's own grid, boolean.
        findings: what was noticed; a `blocking` one means that no dose may be predicted.
    """

    input: NDArray[np.float32]
    body: NDArray[np.bool_]
    grid: Grid
    external: Volume
    findings: tuple[Finding, ...]


def encode(
    bound: BoundCase,
    settings: EncodingSettings,
    divisor: int = 16,
    recompute_strips: bool = False,
) -> EncodedCase:
    """Carry a case onto the model's grid and stack the network's channels.

    Args:
        bound: a case bound to the model's protocol.
        divisor: what the network divides its input by; the grid is padded to multiples of it.
        recompute_strips: ignore strip masks that came with the case.

    Raises:
        CaseError: no target voxel is left to centre the grid on.
    """
    findings: list[Finding] = []
    case, external, targets = bound.case, bound.external, bound.targets
    grid = model_grid(case, targets, external, settings.grid, divisor)
    findings += _grid_findings(case.grid, grid, targets)
    ct = case.ct
    if settings.air_outside_external:
        ct = ct.with_array(np.where(external.array, ct.array, ct.array.dtype.type(AIR_HU)))
    ct_channel = scale_ct(ct.resampled_to(grid, "linear", outside=AIR_HU).array, settings)
    masks = _mask_channels(bound, grid, settings)
    # Where a channel is the external contour, body and channel are one and the same.
    body = external.resampled_to(grid).binary()
    strips = _strip_channels(bound, masks, body, grid, settings, findings, recompute_strips)
    fine_masks = _fine_masks(bound, grid, settings.derived)
    derived = derived_channels(
        masks,
        grid.spacing,
        protocol_of(bound),
        settings.derived,
        settings.dose_scale_gy,
        fine_masks,
    )
    stacked = np.concatenate([ct_channel[None], masks, strips.astype(np.float32), derived])
    return EncodedCase(stacked, body, grid, external, tuple(findings))


def decode(dose_gy: NDArray[np.float32], encoded: EncodedCase, case: Case) -> Volume:
    """The network's dose, Gy, on the case's own grid: ≥ 0, and 0 outside body and dose mask.

    Args:
        dose_gy: `(z, y, x)` on the model's grid, unclamped.
    """
    dose = Volume(np.clip(dose_gy, 0, None), encoded.grid)
    if not encoded.grid.is_lps_ordered or not _is_block_of(case.grid, encoded.grid):
        array = dose.resampled_to(case.grid, "linear").array
    else:
        array = dose.resampled_to(case.grid, "nearest").array
    array = np.where(encoded.external.array, array, np.float32(0))
    if case.dose_mask is not None:
        array = np.where(case.dose_mask.touched(), array, np.float32(0))
    return Volume(array.astype(np.float32, copy=False), case.grid)


def mirrored_channels(protocol: StructureProtocol, settings: EncodingSettings) -> list[int]:
    """For each channel of the input the one that takes its place in the mirrored patient.

    `input[order][..., ::-1]` is the input of the left–right mirrored patient: paired organs, their
    distance maps and oblique strips change places.
    """
    structures = [1 + index for index in protocol.mirrored]
    angles = settings.strips.angles
    strips = [1 + len(structures) + angles.index(mirrored_angle(angle)) for angle in angles]
    before = 1 + len(structures) + len(strips)
    derived = [before + index for index in mirrored_derived(protocol, settings.derived)]
    return [0, *structures, *strips, *derived]


def network_channels(protocol: StructureProtocol, settings: EncodingSettings) -> dict[str, int]:
    """How many channels of each kind `encode` stacks: arguments of every `DoseNetwork`."""
    counts = {
        "structure_channels": len(protocol.inputs),
        "strip_channels": len(settings.strips.angles),
    }
    derived = settings.derived.count(protocol)
    return {**counts, "derived_channels": derived} if derived else counts


def scale_ct(hu: NDArray, settings: EncodingSettings) -> NDArray[np.float32]:
    """HU clipped to the window and scaled to 0…1."""
    low, high = settings.ct_window_hu
    return (np.clip(hu.astype(np.float32), low, high) - np.float32(low)) / np.float32(high - low)


def model_grid(
    case: Case,
    targets: list[Mask],
    external: Mask,
    settings: GridSettings,
    divisor: int,
) -> Grid:
    """The grid on which the model sees this case, axis-aligned LPS.

    Raises:
        CaseError: the targets are empty.
    """
    lps = case.ct.reordered_to_lps().grid if not case.grid.is_lps_ordered else case.grid
    if settings.kind == "as-is" and lps.size == settings.size and lps.obliquity_degrees <= 5.0:
        return lps
    spacing = _spacing(lps, settings)
    target_low, target_high = _bounds_of(targets)
    body_low, body_high = _bounds_of([external])
    low, high = body_low.copy(), body_high.copy()
    if settings.reach_mm is not None:
        low[2] = max(body_low[2], target_low[2] - settings.reach_mm)
        high[2] = min(body_high[2], target_high[2] + settings.reach_mm)
    extent = (high - low) / spacing
    size = settings.size or _padded(extent, divisor)
    if settings.kind == "native" and lps.is_axis_aligned and np.allclose(spacing, lps.spacing):
        first = np.round(lps.index_from_world(low) + 0.5).astype(int)
        room = np.asarray(size) - np.round(extent).astype(int)
        return lps.cropped(first - room // 2, size)
    center = (low + high) / 2
    center[2] = (target_low[2] + target_high[2]) / 2 if settings.size else center[2]
    origin = center - (np.asarray(size) - 1) / 2 * spacing
    return Grid(size, tuple(spacing), tuple(origin))


def _spacing(grid: Grid, settings: GridSettings) -> NDArray[np.float64]:
    if settings.spacing_mm is not None:
        return np.asarray(settings.spacing_mm)
    own = np.asarray(grid.spacing)
    return np.clip(own, settings.spacing_mm_min, settings.spacing_mm_max)


def _padded(extent: NDArray[np.float64], divisor: int) -> tuple[int, int, int]:
    sizes = [max(1, int(np.ceil((n - 1e-3) / divisor))) * divisor for n in extent]
    return (sizes[0], sizes[1], sizes[2])


def _bounds_of(masks: list[Mask]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest LPS coordinate of the union of masks, voxel edges included, mm."""
    corners = []
    for mask in masks:
        box = mask.bounding_box()
        if box is not None:
            corners.append(
                mask.grid.cropped(
                    [r.start for r in box[::-1]], [r.stop - r.start for r in box[::-1]]
                )
            )
    if not corners:
        raise CaseError("The target has no voxels: there is nothing to predict a dose for.")
    bounds = [corner.bounds_mm() for corner in corners]
    return np.min([low for low, _ in bounds], axis=0), np.max([high for _, high in bounds], axis=0)


def _is_block_of(grid: Grid, block: Grid) -> bool:
    """Whether the block's voxels are voxels of the grid (up to axis order and padding)."""
    if not grid.is_axis_aligned:
        return False
    order, _ = grid.axis_order()
    spacing = [grid.spacing[axis] for axis in order]
    index = grid.index_from_world(block.origin)
    return np.allclose(spacing, block.spacing, rtol=1e-4) and np.allclose(
        index, np.round(index), atol=1e-2
    )


def _grid_findings(case_grid: Grid, grid: Grid, targets: list[Mask]) -> list[Finding]:
    """Whether the case was resampled, and whether the target with a margin fits the grid."""
    findings = []
    if not _is_block_of(case_grid, grid):
        message = f"The case ({case_grid}) is resampled to the model's grid ({grid})."
        findings.append(Finding("resampled-to-model-grid", "info", message))
    low, high = _bounds_of(targets)
    grid_low, grid_high = grid.bounds_mm()
    case_low, case_high = case_grid.bounds_mm()
    wanted_low = np.maximum(low - _TARGET_MARGIN_MM, case_low)
    wanted_high = np.minimum(high + _TARGET_MARGIN_MM, case_high)
    outside = (wanted_low < grid_low - 1e-3) | (wanted_high > grid_high + 1e-3)
    outside[:2] &= (low < grid_low - 1e-3)[:2] | (high > grid_high + 1e-3)[:2]
    if outside.any():
        axes = ", ".join(name for name, out in zip("xyz", outside, strict=True) if out)
        needed = " × ".join(f"{mm:.0f}" for mm in wanted_high - wanted_low)
        room = " × ".join(f"{mm:.0f}" for mm in grid_high - grid_low)
        findings.append(
            Finding(
                "target-outside-model-grid",
                "blocking",
                f"The target with a margin of 2 cm needs {needed} mm and leaves the model's grid "
                f"of {room} mm along {axes}.",
                "Choose a model with a larger grid, or check the target's contour.",
            )
        )
    return findings


def protocol_of(bound: BoundCase) -> StructureProtocol:
    """The protocol of a case that a network is to see.

    Raises:
        CaseError: the case is bound to none.
    """
    if bound.protocol is None:
        raise CaseError(f"{bound.case.name} fits no protocol: no network can see it.")
    return bound.protocol


def _mask_channels(
    bound: BoundCase,
    grid: Grid,
    settings: EncodingSettings,
) -> NDArray[np.float32]:
    """Structure channels `(channel, z, y, x)`; an unmapped one stays empty.

    Clinical targets are nested, levels here are disjoint: the higher level wins.
    """
    protocol = protocol_of(bound)
    masks = np.zeros((len(protocol.inputs), *grid.shape), dtype=np.float32)
    for channel_mask, channel in zip(masks, protocol.inputs, strict=True):
        mask = bound.mask(channel.name)
        if mask is not None:
            moved = mask.resampled_to(grid)
            channel_mask[:] = moved.binary() if settings.masks == "binary" else moved.weights()
    levels = sorted(
        (c for c in protocol.targets if c.level_gy is not None), key=lambda c: -(c.level_gy or 0)
    )
    taken = np.zeros(grid.shape, dtype=np.float32)
    for channel in levels:
        level = masks[protocol.inputs.index(channel)]
        np.minimum(level, 1 - taken, out=level)
        taken += level
    return masks


def _fine_masks(
    bound: BoundCase,
    grid: Grid,
    settings: DerivedInputs,
) -> dict[int, NDArray[np.bool_]]:
    """Masks for the distance maps, sampled more finely than the model's grid."""
    if settings.refinement == 1:
        return {}
    fine, protocol = grid.refined(settings.refinement), protocol_of(bound)
    masks = {}
    for index in settings.mapped(protocol):
        mask = bound.mask(protocol.inputs[index].name)
        masks[index] = (
            np.zeros(fine.shape, dtype=bool) if mask is None else mask.resampled_to(fine).binary()
        )
    return masks


def _strip_channels(
    bound: BoundCase,
    masks: NDArray[np.float32],
    body: NDArray[np.bool_],
    grid: Grid,
    settings: EncodingSettings,
    findings: list[Finding],
    recompute: bool,
) -> NDArray[np.bool_]:
    """Strip channels `(angle, z, y, x)`: those that came with the case if they fit, else made."""
    case, protocol, angles = bound.case, protocol_of(bound), settings.strips.angles
    stored: Mapping[int, Mask] = case.strips or {}
    if stored and not recompute:
        if all(angle in stored for angle in angles) and _same_voxels(case.grid, grid):
            message = "The strip masks that came with the case are used."
            findings.append(Finding("strips-from-files", "info", message))
            reordered = [stored[angle].reordered_to_lps().touched() for angle in angles]
            return np.stack(reordered)
        message = "The strip masks that came with the case do not fit the model's grid; made anew."
        findings.append(Finding("strips-recomputed", "info", message))
    target = np.zeros(grid.shape, dtype=bool)
    for channel in protocol.targets:
        target |= majority(masks[protocol.inputs.index(channel)])
    return strip_masks(target, body, grid, angles, settings.strips.margin_mm)


def _same_voxels(grid: Grid, other: Grid) -> bool:
    """Whether two grids hold the same voxels, in whatever axis order."""
    return _is_block_of(grid, other) and sorted(grid.size) == sorted(other.size)
