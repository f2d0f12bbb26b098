"""Cases of the public VMAT diffusion project: one npz a patient, as its preparation writes it.

Arrays are (y, x, z): anterior → posterior, right → left, inferior → superior. The CT is
HU / 4000 + 0.5, clipped to [−1000, 3000] HU; the dose is divided by the prescription; masks are
eight, in the order of `CHANNELS`. Spacing and prescription stand in a pickled dictionary
(`metadata`), which is never unpickled (`pickled_numbers`), or in plain arrays, which win.
Read from https://github.com/wrockey/vmat-diffusion, `preprocess_dicom_rt_v2.3.py` (format 2.0 to
2.3). Distance maps are not read: they follow from the masks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..case import Case, Prescription
from ..errors import CaseError
from ..findings import Finding
from ..mask import Mask
from ..volume import Grid, Volume
from ..wishes import Wish
from .npz import ArrayHeader, array_headers, array_names, read_arrays, read_object
from .pickled_numbers import numbers_after
from .stored import SPACING_MM

__all__ = [
    "CHANNELS",
    "CLIP_HU",
    "CONSTRAINTS",
    "DISTANCE_LIMIT_MM",
    "HU_RANGE",
    "LEVELS",
    "LIMITS",
    "is_vmat",
    "read_vmat",
]

CHANNELS = ("PTV70", "PTV56", "Prostate", "Rectum", "Bladder", "Femur_L", "Femur_R", "Bowel")
"""Names and order of the masks."""
CLIP_HU = (-1000.0, 3000.0)
HU_RANGE = 4000.0
DISTANCE_LIMIT_MM = 50.0
"""Where `masks_sdf` is clipped; it is stored divided by this."""
_TECHNIQUE = "VMAT"  # of the project's plans; what `vmat_writer` writes may be of any
CONSTRAINTS = 13
LEVELS = {0: "PTV70", 1: "PTV56"}
"""Place in the constraints → target whose dose over the prescription it is."""
LIMITS: Mapping[int, tuple[tuple[str, ...], float, float]] = {
    3: (("Rectum",), 50.0, 50.0),
    4: (("Rectum",), 60.0, 35.0),
    5: (("Rectum",), 70.0, 20.0),
    7: (("Bladder",), 65.0, 50.0),
    8: (("Bladder",), 70.0, 35.0),
    9: (("Bladder",), 75.0, 25.0),
    10: (("Femur_L", "Femur_R"), 50.0, 10.0),
}
"""Place in the constraints → organs, d of V_d in Gy, and the percentage that every file has.

The preparation writes the same numbers for every patient: only others are wishes for the plan.
"""

_OWN = {"masks", "masks_sdf", "constraints", "metadata"}
_REQUIRED = ("ct", "masks")
_MOST_VOXELS = 2**27
_MOST_METADATA = 2**20
_MLC = re.compile(r"beam(\d{1,3})_mlc_([ab])")
_MOST_LEAVES = 1_000_000
_LARGEST_LEAF_MM = 500.0
_CROSSED_MM = 0.5
_STORED_CT = (-0.01, 1.26)  # a preparation that does not clip would be another one
_HU_DIGITS = 2
_LARGEST_DOSE = 3.0
_FARTHEST_MM = 1e5
_MOST_FRACTIONS = 200
_SAME_SPACING = 1e-3
_SAME_GY = 1.0
_SAME_PERCENT = 1e-3


def is_vmat(path: Path) -> bool:
    """Whether a path is an npz with arrays that only this format has."""
    if path.suffix != ".npz" or not path.is_file():
        return False
    try:
        names = array_names(path)
    except CaseError:  # the reader of other npz files says why
        return False
    return "structure_masks" not in names and bool(_OWN & names)


def read_vmat(path: Path) -> Case:
    """Read one patient; a file without dose is a case without a plan.

    The position in the patient's frame is not stored: the first voxel lies at `origin_mm`, or at
    0. Leaf positions are checked and left out, for the file has no gantry angles and no isocenter.

    Raises:
        CaseError: an array is missing, of another shape or type, not finite or out of range, or
            spacing or prescription are not stated.
    """
    headers = array_headers(path)
    shape = _checked_shapes(path, headers)
    voxels = int(np.prod(shape))
    most = {"ct": voxels, "dose": voxels, "masks": len(CHANNELS) * voxels}
    most |= {"constraints": CONSTRAINTS, "voxel_spacing_mm": 3, "origin_mm": 3}
    most |= {"normalization_dose_gy": 1, "fractions": 1}
    most |= {name: _MOST_LEAVES for name in headers if _MLC.fullmatch(name)}
    arrays = read_arrays(path, most)
    pickled = b""
    if "metadata" in headers and headers["metadata"].dtype.kind == "O":
        pickled = read_object(path, "metadata", _MOST_METADATA)
    findings: list[Finding] = []
    spacing = _spacing(path, arrays, pickled, findings)
    grid = Grid((shape[1], shape[0], shape[2]), spacing, _origin(path, arrays))
    structures = _structures(path, arrays.pop("masks"), grid)
    scale_gy = _scale_gy(path, arrays, pickled)
    dose = None
    if "dose" in arrays:
        if scale_gy is None:
            raise CaseError(
                f"{path}: dose is divided by a prescription that is not stated: add the array "
                "normalization_dose_gy, in Gy."
            )
        dose = _volume(_checked(path, "dose", arrays.pop("dose"), (0, _LARGEST_DOSE)), grid)
        dose = dose.with_array(dose.array * np.float32(scale_gy))
    constraints = _constraints(path, arrays)
    levels_gy = {} if scale_gy is None else _levels_gy(scale_gy, constraints, findings)
    targets_gy = {name: gy for name, gy in levels_gy.items() if name in structures}
    _check_leaves(path, arrays, findings)
    return Case(
        name=path.stem,
        ct=_hounsfield(path, arrays["ct"], grid),
        structures=structures,
        plan_dose=dose,
        prescription=_prescription(path, arrays, targets_gy),
        findings=tuple(findings),
        wishes=_wishes(constraints, structures),
    )


def _checked_shapes(path: Path, headers: Mapping[str, ArrayHeader]) -> tuple[int, int, int]:
    """The shape (y, x, z), after every array's header has been compared with it.

    Raises:
        CaseError: names the array, its shape and the one that is expected.
    """
    for name in _REQUIRED:
        if name not in headers:
            raise CaseError(
                f"{path} lacks the array {name!r}; it has {', '.join(sorted(headers))[:300]}. "
                "Prepare it again."
            )
    shape = headers["ct"].shape
    if len(shape) != 3 or min(shape) < 2 or np.prod(shape, dtype=float) > _MOST_VOXELS:
        raise CaseError(
            f"{path}: ct must be (y, x, z) with at least two voxels along each axis, and at most "
            f"{_MOST_VOXELS / 1e6:.0f} million; got {shape}."
        )
    masks = (len(CHANNELS), *shape)
    wanted: dict[str, tuple[tuple[int, ...], str]] = {
        "ct": (shape, "f"),
        "dose": (shape, "f"),
        "masks": (masks, "bu"),
        "masks_sdf": (masks, "f"),
        "constraints": ((CONSTRAINTS,), "f"),
        "voxel_spacing_mm": ((3,), "fiu"),
        "origin_mm": ((3,), "fiu"),
        "normalization_dose_gy": ((), "fiu"),
        "fractions": ((), "iu"),
    }
    for name, (expected, kinds) in wanted.items():
        found = headers.get(name)
        if found is None:
            continue
        if found.shape != expected and not (expected == () and found.shape == (1,)):
            order = f" ({', '.join(CHANNELS)})" if name in ("masks", "masks_sdf") else ""
            raise CaseError(
                f"{path}: {name} must have the shape {expected}{order}; got {found.shape}."
            )
        if found.dtype.kind not in kinds or (name == "masks" and found.dtype.itemsize != 1):
            raise CaseError(
                f"{path}: {name} holds {found.dtype}, which are no plain numbers of its kind: "
                f"write {'uint8' if name == 'masks' else 'float32 or whole numbers'}."
            )
    return shape


def _checked(path: Path, name: str, array: NDArray, limits: tuple[float, float]) -> NDArray:
    """The array, all of which is finite and within limits."""
    low, high = float(array.min()), float(array.max())  # NaN stays NaN
    if not (low >= limits[0] and high <= limits[1]):
        raise CaseError(
            f"{path}: {name} holds values from {low:g} to {high:g}; expected {limits[0]:g} to "
            f"{limits[1]:g}, none of them NaN. Prepare it again."
        )
    return array


def _volume(array: NDArray, grid: Grid) -> Volume:
    """(y, x, z) as a volume."""
    return Volume(np.ascontiguousarray(array.transpose(2, 0, 1)), grid)


def _hounsfield(path: Path, stored: NDArray, grid: Grid) -> Volume:
    """HU, to a hundredth: what was a whole number becomes one again."""
    stored = _checked(path, "ct", stored, _STORED_CT)
    hu = ((stored.astype(np.float64) - 0.5) * HU_RANGE).round(_HU_DIGITS)
    return _volume(hu.astype(np.float32), grid)


def _spacing(
    path: Path, arrays: Mapping[str, NDArray], pickled: bytes, findings: list[Finding]
) -> tuple[float, float, float]:
    """(x, y, z) in mm."""
    found: tuple[float, ...] | None
    if "voxel_spacing_mm" in arrays:
        found = tuple(float(mm) for mm in arrays["voxel_spacing_mm"])
    else:
        found = numbers_after(pickled, "voxel_spacing_mm", 3)
        if found is None and (found := numbers_after(pickled, "target_spacing_mm", 3)):
            findings.append(
                Finding(
                    "case-resampled",
                    "warning",
                    "The file is of a preparation before 2.3, which resampled masks and dose: D95 "
                    "of the target is too low, and beyond the scan the CT is 0 HU.",
                    "Prepare it again with 2.3, or read the DICOM files.",
                )
            )
        if found and abs(found[0] - found[1]) > _SAME_SPACING * found[0]:
            raise CaseError(
                f"{path}: metadata gives pixels of {found[0]:g} by {found[1]:g} mm, and the "
                "preparation mixes the two up: add the array voxel_spacing_mm, (y, x, z)."
            )
    if found is None:
        raise CaseError(
            f"{path} does not state its voxel spacing: add the array voxel_spacing_mm, (y, x, z) "
            "in mm."
        )
    low, high = SPACING_MM
    if not all(low <= mm <= high for mm in found):
        raise CaseError(
            f"{path}: voxel_spacing_mm must be three numbers from {low:g} to {high:g}; got {found}."
        )
    y, x, z = found
    return (x, y, z)


def _origin(path: Path, arrays: Mapping[str, NDArray]) -> tuple[float, float, float]:
    """LPS mm of the first voxel."""
    stored = arrays.get("origin_mm", np.zeros(3))
    x, y, z = map(float, _checked(path, "origin_mm", stored, (-_FARTHEST_MM, _FARTHEST_MM)))
    return (x, y, z)


def _structures(path: Path, masks: NDArray, grid: Grid) -> dict[str, Mask]:
    """Those that were contoured."""
    _checked(path, "masks", masks, (0, 1))
    return {
        name: mask
        for name, array in zip(CHANNELS, masks, strict=True)
        if not (mask := Mask.of(_volume(array.astype(bool), grid))).is_empty
    }


def _scale_gy(path: Path, arrays: Mapping[str, NDArray], pickled: bytes) -> float | None:
    """What the dose is divided by, Gy."""
    if "normalization_dose_gy" in arrays:
        found = float(arrays["normalization_dose_gy"].item())
    else:
        stated = numbers_after(pickled, "normalization_dose_gy", 1)
        if stated is None:
            return None
        found = stated[0]
    if not 0 < found <= 200:
        raise CaseError(
            f"{path}: normalization_dose_gy must lie above 0 and at most at 200 Gy; got {found:g}."
        )
    return found


def _constraints(path: Path, arrays: Mapping[str, NDArray]) -> NDArray[np.float64]:
    """The constraint vector; zeros where there is none: nothing is stated."""
    if "constraints" not in arrays:
        return np.zeros(CONSTRAINTS)
    return _checked(path, "constraints", arrays["constraints"], (0, 10)).astype(np.float64)


def _levels_gy(
    scale_gy: float, constraints: NDArray[np.float64], findings: list[Finding]
) -> dict[str, float]:
    """Target → Gy: the highest level's is what the dose is divided by."""
    stated = {LEVELS[place]: float(constraints[place]) * scale_gy for place in LEVELS}
    first = LEVELS[0]
    if stated[first] and abs(stated[first] - scale_gy) > _SAME_GY:
        findings.append(
            Finding(
                "prescription-differs",
                "warning",
                f"The dose is divided by {scale_gy:g} Gy, and the constraints say that {first} "
                f"gets {stated[first]:g} Gy; {scale_gy:g} Gy is taken.",
                "Give the plan's with --prescription if it is another one.",
                first,
            )
        )
    # The vector is float32; nobody prescribes less than a thousandth of a Gy.
    return {name: round(gy, 3) for name, gy in {**stated, first: scale_gy}.items() if gy}


def _prescription(
    path: Path, arrays: Mapping[str, NDArray], levels_gy: Mapping[str, float]
) -> Prescription | None:
    """Doses of the targets that are there.

    The metadata's fractions are not read: 28 stands there, whatever the plan has, wherever the
    preparation found the dose of a target.
    """
    if not levels_gy:
        return None
    fractions = None
    if "fractions" in arrays:
        stored = _checked(path, "fractions", arrays["fractions"], (1, _MOST_FRACTIONS))
        fractions = int(stored.item())
    return Prescription(levels_gy, fractions, None if "origin_mm" in arrays else _TECHNIQUE)


def _wishes(constraints: NDArray[np.float64], structures: Mapping[str, Mask]) -> tuple[Wish, ...]:
    """The limits that are not those that every file has."""
    stated = {}
    for place, (organs, dose_gy, usual) in LIMITS.items():
        percent = round(100 * float(constraints[place]), 4)
        if 0 < percent <= 100 and abs(percent - usual) > _SAME_PERCENT:
            stated.update({(organ, dose_gy): percent for organ in organs if organ in structures})
    return tuple(Wish(organ, gy, percent) for (organ, gy), percent in stated.items())


def _check_leaves(path: Path, arrays: Mapping[str, NDArray], findings: list[Finding]) -> None:
    """Leaf positions `(control point, pair)` of both banks fit each other.

    Raises:
        CaseError: a bank is missing, of another shape, not finite, or beyond the other one.
    """
    beams = {match[1] for name in arrays if (match := _MLC.fullmatch(name))}
    points = 0
    for beam in sorted(beams):
        names = [f"beam{beam}_mlc_{bank}" for bank in "ab"]
        missing = [name for name in names if name not in arrays]
        if missing:
            raise CaseError(f"{path} lacks the array {missing[0]!r}: the other bank is there.")
        banks = [arrays[name] for name in names]
        if banks[0].ndim != 2 or banks[0].shape != banks[1].shape or 0 in banks[0].shape:
            raise CaseError(
                f"{path}: {names[0]} and {names[1]} must have one shape (control points, leaf "
                f"pairs); got {banks[0].shape} and {banks[1].shape}."
            )
        for name, bank in zip(names, banks, strict=True):
            _checked(path, name, bank, (-_LARGEST_LEAF_MM, _LARGEST_LEAF_MM))
        crossed = float((banks[0] - banks[1]).max())
        if crossed > _CROSSED_MM:
            raise CaseError(
                f"{path}: leaves of {names[0]} lie up to {crossed:.1f} mm beyond those of "
                f"{names[1]}: the banks are exchanged, or the positions are not in mm."
            )
        points += banks[0].shape[0]
    if beams:
        findings.append(
            Finding(
                "beams-left-out",
                "info",
                f"Leaf positions of {len(beams)} beams ({points} control points) are left out: the "
                "file has no gantry angles and no isocenter.",
            )
        )
