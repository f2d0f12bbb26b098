"""The beams of a case on a model's grid: whose they are, and from their fluence to dose."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..beams.arrangement import ARRANGEMENTS, SENSE, BeamArrangement
from ..beams.density import relative_electron_density
from ..beams.geometry import beam_frame
from ..beams.ray_dose import RayDose
from ..beams.ray_model import RayModel
from ..beams.tracing import Anatomy, isocenter_of, trace
from ..errors import CaseError
from ..findings import Finding
from ..hounsfield import AIR_HU
from ..mask import majority
from ..schema import from_json, validated
from .channels.base import CaseOnGrid, Source
from .settings import EncodingSettings

__all__ = ["BeamInputs", "arrangement_for", "beam_inputs", "ray_dose"]

_LARGEST_FIELD_MM = 400.0  # of a linear accelerator, in the plane of the isocenter
_CUT_VOXELS = 5


@dataclass(frozen=True)
@validated
class BeamInputs:
    """`EncodingSettings.further["beam"]`: that a model knows beams.

    Args:
        arrangement: of cases that state none.
        ray_model: from fluence to dose.
        open_fields: whether the model tells fields that are open and weighted from modulated ones;
            the dose that beams can give is then one of weights alone.
    """

    arrangement: BeamArrangement = ARRANGEMENTS["nine-field"]
    ray_model: RayModel = field(default_factory=RayModel)
    open_fields: bool = False


def beam_inputs(settings: EncodingSettings) -> BeamInputs | None:
    """What an encoding says of beams; None: the model knows none.

    Raises:
        DosePredictionError: an entry is unknown or out of its range.
    """
    own = settings.further.get("beam")
    return None if own is None else from_json(BeamInputs, own, "encoding.further.beam")


def arrangement_for(case_on_grid: CaseOnGrid, own: BeamArrangement) -> BeamArrangement:
    """The case's arrangement, or the model's own for a patient who lies as the CT says.

    Args:
        own: the model's; a finding says when it is taken.
    """
    case = case_on_grid.bound.case
    if case.beams is not None:
        return case.beams
    message = f"The case states no beams; the model's own are used ({own})."
    case_on_grid.findings.append(Finding("beams-of-model", "info", message))
    position = case.origin.patient_position if case.origin is not None else ""
    if position not in SENSE:
        return own
    return replace(own, patient_position=position)  # type: ignore[arg-type]


def ray_dose(source: Source) -> RayDose:
    """From the fluence of the case's beams to dose on the model's grid; computed once.

    Targets are called as the protocol calls them.

    Raises:
        CaseError: a beam sees no target.
        DosePredictionError: only masks were kept of the case, or the model knows no beams.
    """
    made: RayDose = source.shared("ray dose", lambda: _traced(source))
    return made


def _traced(source: Source) -> RayDose:
    inputs = beam_inputs(source.settings)
    assert inputs is not None
    on_grid = source.case
    arrangement = _by_channel(arrangement_for(on_grid, inputs.arrangement), on_grid)
    anatomy = _anatomy(source)
    on_grid.findings.extend(_findings(arrangement, anatomy, on_grid))
    fields = trace(arrangement, anatomy, inputs.ray_model)
    modulated = arrangement.modulated or not inputs.open_fields
    return RayDose(fields, inputs.ray_model, anatomy.grid.shape, modulated)


def _anatomy(source: Source) -> Anatomy:
    grid = source.case.grid
    ct = source.case.bound.case.ct.resampled_to(grid, "linear", outside=AIR_HU)
    density = np.where(source.body, relative_electron_density(ct.array), np.float32(0))
    targets = {
        channel.name: majority(mask)
        for channel, mask in zip(source.protocol.inputs, source.masks, strict=True)
        if channel.role == "target" and majority(mask).any()
    }
    if not targets:
        raise CaseError("No target is left on the model's grid for the beams to aim at.")
    return Anatomy(grid, density, source.body, targets)


def _by_channel(arrangement: BeamArrangement, on_grid: CaseOnGrid) -> BeamArrangement:
    """The arrangement with the targets of its apertures under their channels' names."""
    bound = on_grid.bound
    channels = {structure.source: name for name, structure in bound.structures.items()}

    def renamed(name: str) -> str:
        return channels.get(name, name)

    beams = tuple(
        replace(
            beam,
            aperture=replace(
                beam.aperture, targets=tuple(dict.fromkeys(map(renamed, beam.aperture.targets)))
            ),
        )
        for beam in arrangement.beams
    )
    return replace(arrangement, beams=beams)


def _findings(arrangement: BeamArrangement, anatomy: Anatomy, on_grid: CaseOnGrid) -> list[Finding]:
    """Beams that no machine opens as far as the target, and CTs that end in a beam's path."""
    center = isocenter_of(arrangement, anatomy)
    union = np.any(list(anatomy.targets.values()), axis=0)
    low, high = _bounds_mm(union, anatomy)
    apart = np.maximum(np.abs(low - center), np.abs(high - center)).max()
    if apart > _LARGEST_FIELD_MM / 2:
        place = ", ".join(f"{mm:.0f}" for mm in center)
        return [
            Finding(
                "beams-miss-target",
                "blocking",
                f"The target reaches {apart:.0f} mm from the beams' isocenter ({place}) mm; the "
                f"largest field is {_LARGEST_FIELD_MM:.0f} mm wide.",
                "Correct the isocenter, or leave it out.",
            )
        ]
    return _cut_paths(arrangement, anatomy, on_grid)


def _bounds_mm(mask: NDArray[np.bool_], anatomy: Anatomy) -> tuple[NDArray, NDArray]:
    index = np.argwhere(mask)[:, ::-1]
    grid = anatomy.grid
    return grid.world_from_index(index.min(axis=0)), grid.world_from_index(index.max(axis=0))


def _cut_paths(
    arrangement: BeamArrangement, anatomy: Anatomy, on_grid: CaseOnGrid
) -> list[Finding]:
    """A finding if the body leaves the CT where a beam enters."""
    center = isocenter_of(arrangement, anatomy)
    union = np.any(list(anatomy.targets.values()), axis=0)
    low, high = _bounds_mm(union, anatomy)
    body = on_grid.bound.external.reordered_to_lps()
    index = np.argwhere(_on_the_sides(body.binary()))
    place = body.grid.world_from_index(index[:, ::-1]).astype(np.float32)
    beside = place[(place[:, 2] >= low[2]) & (place[:, 2] <= high[2])]
    reach = float(np.linalg.norm((high - low)[:2])) / 2 + _CUT_VOXELS
    cut = []
    for each in arrangement.fields:
        frame = beam_frame(arrangement, each.gantry_degrees, center)
        axial, u = frame.plane(beside[:, 0], beside[:, 1])
        if np.count_nonzero((axial < frame.sad_mm) & (np.abs(u) <= reach)) >= _CUT_VOXELS:
            cut.append(f"{each.gantry_degrees:g}°")
    if not cut:
        return []
    return [
        Finding(
            "beam-path-cut",
            "warning",
            f"The CT ends inside the patient where beams enter (from {', '.join(cut)}): what they "
            "pass before is not known, and their depth is a lower bound.",
            "Use a CT that holds the whole patient, or other beams.",
        )
    ]


def _on_the_sides(body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The body's voxels on the outermost rows and columns `(z, y, x)`."""
    sides = np.zeros_like(body)
    for edge in (0, -1):
        sides[:, edge] = body[:, edge]
        sides[:, :, edge] = body[:, :, edge]
    return sides
