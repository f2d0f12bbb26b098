"""How a case becomes the network's input, as a model's manifest says it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from ..ranges import CtHu, DoseGy, SizeXyz, SpacingXyzMm, require_rising
from ..schema import FieldError, Length, Name, Range, validated
from .derived import DerivedInputs
from .strips import StripSettings

__all__ = ["EncodingSettings", "GridSettings"]


@dataclass(frozen=True)
@validated
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
    size: SizeXyz | None = None
    spacing_mm: SpacingXyzMm | None = None
    spacing_mm_min: SpacingXyzMm | None = None
    spacing_mm_max: SpacingXyzMm | None = None
    reach_mm: Annotated[float, Range(0, 2000)] | None = None

    def __post_init__(self) -> None:
        needed = {
            "as-is": ("size", "spacing_mm"),
            "fixed-spacing": ("spacing_mm",),
            "native": ("spacing_mm_min", "spacing_mm_max"),
        }
        for name in needed[self.kind]:
            if getattr(self, name) is None:
                raise FieldError(name, f"must be given for a grid of the kind {self.kind}.")
        require_rising("spacing_mm_max", self.spacing_mm_min, self.spacing_mm_max)


@dataclass(frozen=True)
@validated
class EncodingSettings:
    """How a case becomes a tensor. Part of the model's manifest.

    Args:
        grid: the model's grid.
        ct_window_hu: HU that become 0 and 1; values beyond are clipped.
        masks: `binary` (0 or 1, by half of a voxel), `touched` (1 wherever a part of the case's own
            voxel is inside, as published models take their masks), or `occupancy` (share of the
            voxel inside).
        strips: angles and margin of the strip channels; the strips' target is the union of all
            targets.
        air_outside_external: whether CT voxels outside the external contour become air.
        dose_scale_gy: the dose that the network's output 1.0 stands for.
        derived: further channels, computed from the masks; none by default.
        structures: whether the network sees the protocol's structures (`input`), or learns to find
            them on the CT (`learned`): its grid then covers the body, whatever is contoured.
            Channels of beams may then be made for a dose model that guides; the network sees the
            CT alone (`of_network`).
        further: kind of channel (`encoding.channels.registry`) → its own settings, for kinds that
            have no field here.
    """

    grid: GridSettings
    ct_window_hu: tuple[CtHu, CtHu] = (-1000.0, 1000.0)
    masks: Literal["binary", "touched", "occupancy"] = "binary"
    strips: StripSettings = field(default_factory=StripSettings)
    air_outside_external: bool = False
    dose_scale_gy: DoseGy = 70.0
    derived: DerivedInputs = field(default_factory=DerivedInputs)
    structures: Literal["input", "learned"] = "input"
    further: Annotated[dict[Name, dict[str, Any]], Length(0, 100)] = field(default_factory=dict)

    def __post_init__(self) -> None:
        low, high = self.ct_window_hu
        if low >= high:
            raise FieldError("ct_window_hu", f"must rise from low to high; got {[low, high]}.")
        further = set(self.further) - {"beam"}
        made = self.derived != DerivedInputs() or further or self.strips.angles
        if self.structures == "learned" and made:
            raise FieldError(
                "structures",
                "are learned, so that there is nothing to make strips and further channels from: "
                "leave out derived and further (but for beam), and set strips.angles to [].",
            )

    @property
    def of_network(self) -> EncodingSettings:
        """What the network itself sees: without channels that are made for a guide alone."""
        return replace(self, further={}) if self.structures == "learned" else self
