"""Cases as npz files of the VMAT diffusion project (`vmat`), for its networks to be trained on.

On the case's own voxels, reordered to LPS, and not cropped. What the format has no place for is
lost: structures beyond the eight, HU beyond [−1000, 3000], voxels of which less than half lies in
a structure, gantry angles, isocenter and monitor units of the beams.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..delivery import TreatmentBeam
from ..errors import CaseError
from ..files import whole_file
from ..findings import Finding
from ..geometry import signed_distance_mm
from ..structures.bound import BoundCase
from ..structures.protocol import Channel, StructureProtocol
from ..volume import Grid, Volume
from .vmat import CHANNELS, CLIP_HU, CONSTRAINTS, DISTANCE_LIMIT_MM, HU_RANGE, LEVELS, LIMITS

__all__ = ["PROTOCOL", "write_vmat"]


def _target(name: str, label: str, tg263: str, level_gy: float) -> Channel:
    required = name == CHANNELS[0]
    return Channel(name, "target", label, tg263, "#d62728", required, level_gy=level_gy)


def _organ(name: str, tg263: str, *synonyms: str, side: Any = None) -> Channel:
    return Channel(name, "organ", name, tg263, "#8c564b", synonyms=synonyms, side=side)


_FEMUR = ("Femur", "Femoral Head", "FemurHead", "Femur_Head", "FemHead", "Femoral")
PROTOCOL = StructureProtocol(
    "vmat",
    "Prostate (VMAT diffusion project)",
    "The eight masks of the VMAT diffusion project, in their order.",
    (
        _target("PTV70", "PTV 70 Gy", "PTV_High", 70.0),
        _target("PTV56", "PTV 56 Gy", "PTV_Low", 56.0),
        _organ("Prostate", "Prostate", "Prostata"),
        _organ("Rectum", "Rectum", "Rektum", "Enddarm"),
        _organ("Bladder", "Bladder", "Urinary bladder", "Harnblase", "Blase"),
        _organ("Femur_L", "Femur_Head_L", *_FEMUR, side="left"),
        _organ("Femur_R", "Femur_Head_R", *_FEMUR, side="right"),
        _organ("Bowel", "Bowel", "Bowel_Bag", "Bowel bag", "Small_Intestine", "Small bowel"),
    ),
)
"""How a clinic's own names find the eight masks."""

_MAXIMA = {6: 75.0, 12: 45.0}
"""Place in the constraints → highest dose of rectum and spinal cord in Gy, as in every file."""
_BOWEL = (11, 195.0 / 500.0)
_NOT_WRITTEN = "vmat-not-written"


def write_vmat(
    path: Path, bound: BoundCase, beams: Sequence[TreatmentBeam] = ()
) -> tuple[Finding, ...]:
    """Write one patient, whole or not at all.

    The dictionary `metadata`, from which the project's own scripts take the spacing, is a pickle of
    plain numbers and texts; the same stands in plain arrays, which need no unpickling.

    Args:
        bound: by `PROTOCOL`, with a plan dose and a prescription.
        beams: of the plan; those without leaves are left out.

    Returns:
        What of the case is not in the file.

    Raises:
        CaseError: no dose, no prescription of the highest target, or an oblique grid.
    """
    case = bound.case
    scale_gy = bound.prescriptions_gy.get(CHANNELS[0])
    if case.plan_dose is None or scale_gy is None:
        raise CaseError(
            f"{case.name} has no plan dose, or no prescription of {CHANNELS[0]} to divide it by: "
            "state the prescription in case.json or the RTPLAN."
        )
    ct = case.ct.reordered_to_lps()
    if not ct.grid.is_axis_aligned:
        raise CaseError(
            f"{case.name} lies oblique by {ct.grid.obliquity_degrees:.1f}°, which the format "
            "cannot say: resample the CT along the patient's axes."
        )
    masks = [
        np.zeros(ct.grid.shape, bool)
        if (mask := bound.mask(channel)) is None
        else mask.as_binary().reordered_to_lps().array
        for channel in CHANNELS
    ]
    stored_ct = np.clip(ct.array.astype(np.float32), *CLIP_HU) / np.float32(HU_RANGE)
    dose = case.plan_dose.reordered_to_lps().array / np.float32(scale_gy)
    constraints, findings = _constraints(bound, scale_gy)
    arrays: dict[str, Any] = {
        "ct": _stored(stored_ct + np.float32(0.5)),
        "dose": _stored(dose.astype(np.float32)),
        "masks": np.stack([_stored(mask.view(np.uint8)) for mask in masks]),
        "masks_sdf": np.stack([_stored(_distance(mask, ct.grid)) for mask in masks]),
        "constraints": constraints,
        **_geometry(ct, scale_gy),
        **_leaves(beams),
    }
    fractions = None if bound.prescription is None else bound.prescription.fractions
    if fractions is not None:
        arrays["fractions"] = np.array(fractions)
    arrays["metadata"] = np.array(_metadata(bound, arrays), dtype=object)
    with whole_file(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return (*findings, *_left_out(bound))


def _stored(array: NDArray) -> NDArray:
    """(z, y, x) as (y, x, z)."""
    return np.ascontiguousarray(array.transpose(1, 2, 0))


def _distance(inside: NDArray[np.bool_], grid: Grid) -> NDArray[np.float32]:
    """`masks_sdf` of a mask `(z, y, x)`: between voxel centers, negative inside, in ±1."""
    half_mm = min(grid.spacing) / 2  # which `signed_distance_mm` takes off
    distance = signed_distance_mm(inside, grid.spacing, DISTANCE_LIMIT_MM + half_mm)
    distance += np.where(inside, -half_mm, half_mm).astype(np.float32)
    return np.clip(distance / np.float32(DISTANCE_LIMIT_MM), -1, 1)


def _geometry(ct: Volume, scale_gy: float) -> dict[str, NDArray]:
    """What the format leaves to its pickle, as plain arrays, and the first voxel's LPS position."""
    x, y, z = ct.grid.spacing
    return {
        "voxel_spacing_mm": np.array([y, x, z]),
        "origin_mm": np.array(ct.grid.origin),
        "normalization_dose_gy": np.array(scale_gy),
    }


def _constraints(bound: BoundCase, scale_gy: float) -> tuple[NDArray[np.float32], list[Finding]]:
    """Doses of the targets over the prescription, and the organs' limits: usual, or the wishes."""
    vector = np.zeros(CONSTRAINTS)
    for place, target in LEVELS.items():
        if bound.mask(target) is not None:
            vector[place] = bound.prescriptions_gy.get(target, 0.0) / scale_gy
    for place, maximum_gy in _MAXIMA.items():
        vector[place] = maximum_gy / scale_gy
    vector[_BOWEL[0]] = _BOWEL[1]
    wishes = {(bound.resolve(w.structure), w.dose_gy): w for w in bound.case.wishes}
    for place, (organs, dose_gy, usual) in LIMITS.items():
        found = [wishes.pop((organ, dose_gy), None) for organ in organs]
        vector[place] = min([w.percent for w in found if w], default=usual) / 100
    lost = [
        Finding(_NOT_WRITTEN, "warning", f"The format has no place for the goal {wish}.")
        for wish in wishes.values()
    ]
    return vector.astype(np.float32), lost


def _leaves(beams: Sequence[TreatmentBeam]) -> dict[str, NDArray[np.float32]]:
    """Leaf positions `(control point, pair)` in mm; bank a is that on the negative side."""
    arrays = {}
    for index, beam in enumerate(beam for beam in beams if beam.leaves_mm.size):
        for bank, letter in enumerate("ab"):
            arrays[f"beam{index}_mlc_{letter}"] = beam.leaves_mm[:, bank].astype(np.float32)
    return arrays


def _metadata(bound: BoundCase, arrays: Mapping[str, NDArray]) -> dict[str, Any]:
    """What the project's own scripts look up, in plain numbers and texts."""
    scale_gy = float(arrays["normalization_dose_gy"])
    prescription: dict[str, Any] = {"primary_dose": scale_gy, "source": "DosePrediction"}
    if "fractions" in arrays:
        prescription["fractions"] = int(arrays["fractions"])
    return {
        "case_id": bound.case.name,
        "script_version": "2.3.0",
        "prescription_info": prescription,
        "normalization_dose_gy": scale_gy,
        "voxel_spacing_mm": tuple(float(mm) for mm in arrays["voxel_spacing_mm"]),
        "volume_shape": tuple(int(extent) for extent in arrays["ct"].shape),
        "sdf_clip_mm": DISTANCE_LIMIT_MM,
        "structure_channels": dict(enumerate(CHANNELS)),
    }


def _left_out(bound: BoundCase) -> list[Finding]:
    """Structures and HU that the format has no place for."""
    findings = []
    lost = [name for name, each in bound.structures.items() if each.channel is None]
    if lost:
        message = f"The format has no place for the structures {', '.join(lost)}."
        findings.append(Finding(_NOT_WRITTEN, "info", message))
    low, high = float(bound.case.ct.array.min()), float(bound.case.ct.array.max())
    if low < CLIP_HU[0] or high > CLIP_HU[1]:
        message = f"The CT's {low:.0f} to {high:.0f} HU are clipped to {CLIP_HU[0]:.0f} to "
        findings.append(Finding(_NOT_WRITTEN, "info", f"{message}{CLIP_HU[1]:.0f} HU."))
    return findings
