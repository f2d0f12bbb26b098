"""Cases of the OpenKBP data set: the published sparse CSV folders, and packed npz files.

Both store 128³ arrays whose axes run anterior → posterior, right → left, superior → inferior, and
a CT of HU + 1024 with 0 outside the patient. Source: Babier et al. 2021, doi 10.1002/mp.14845.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..case import Case, Prescription
from ..errors import CaseError
from ..files import require_regular_file
from ..volume import Grid, Volume
from .npz import read_arrays

__all__ = ["EDGE", "STRUCTURES", "is_openkbp", "read_openkbp"]

EDGE = 128
_VOXELS = EDGE**3
_SHAPE = (EDGE, EDGE, EDGE)
_HU_OFFSET = 1024
_DOSE_UNITS_PER_GY = 500.0
_STORED_CT = (-1024, 31743 + 1024)  # what HU in 16 bits can hold
_SPACING_MM = (0.5, 10.0)
_LARGEST_CSV = 2**28
_LARGEST_VALUE = 1e6
_VALUES = {
    "ct": _VOXELS,
    "dose": _VOXELS,
    "structure_masks": 2 * _VOXELS,
    "possible_dose_mask": _VOXELS,
    "voxel_dimensions": 16,
}
"""Arrays of a packed case, and how many values each may have at most."""
_TARGET_GY = {"PTV56": 56.0, "PTV63": 63.0, "PTV70": 70.0}
_FRACTIONS = 35

STRUCTURES = (
    "Brainstem",
    "SpinalCord",
    "RightParotid",
    "LeftParotid",
    "Esophagus",
    "Larynx",
    "Mandible",
    "PTV56",
    "PTV63",
    "PTV70",
)
"""Names and order of the packed masks."""


def is_openkbp(path: Path) -> bool:
    """Whether a path looks like a case of the data set: an npz, or a folder with `ct.csv`."""
    return path.suffix == ".npz" if path.is_file() else (path / "ct.csv").is_file()


def read_openkbp(path: Path) -> Case:
    """Read one patient; a file without dose is a case without a plan.

    The CT becomes HU (air outside the patient), masks boolean, dose Gy, all on one LPS-ordered
    grid. Structures that were not contoured (all zero or absent) are left out; the external contour
    is where the stored CT exceeds 0, with holes filled.

    Raises:
        CaseError: something is missing, truncated, out of range, duplicated or not a number.
    """
    arrays = _read_npz(path) if path.is_file() else _read_csv_folder(path)
    spacing = np.asarray(arrays["voxel_dimensions"], dtype=float)
    # Data set axes (y, x, −z) to array order (z, y, x).
    grid = Grid((EDGE, EDGE, EDGE), (spacing[1], spacing[0], spacing[2]))

    def volume(array: NDArray) -> Volume:
        return Volume(np.ascontiguousarray(array.transpose(2, 0, 1)[::-1]), grid)

    ct = _hounsfield(path, arrays["ct"])
    structures = {name: volume(mask) for name, mask in arrays["structures"].items() if mask.any()}
    structures["External"] = volume(_filled_slices(arrays["ct"] > 0))
    targets = {name: gy for name, gy in _TARGET_GY.items() if name in structures}
    dose, region = arrays.get("dose"), arrays.get("possible_dose_mask")
    return Case(
        name=path.name if path.is_dir() else path.stem,
        ct=volume(ct),
        structures=structures,
        plan_dose=None if dose is None else volume(dose.astype(np.float32)),
        prescription=Prescription(targets, _FRACTIONS, "IMRT") if targets else None,
        dose_mask=None if region is None else volume(region),
    )


def _hounsfield(path: Path, stored: NDArray) -> NDArray[np.int16]:
    """HU from stored values, none of which may wrap around."""
    low, high = float(stored.min()), float(stored.max())  # NaN stays NaN
    if not (low >= _STORED_CT[0] and high <= _STORED_CT[1]):
        raise CaseError(
            f"{path}: ct holds values from {low:g} to {high:g}; expected HU + {_HU_OFFSET}, "
            f"{_STORED_CT[0]} to {_STORED_CT[1]}, none of them NaN."
        )
    return (stored.astype(np.int32) - _HU_OFFSET).astype(np.int16)


def _read_npz(path: Path) -> dict:
    stored = read_arrays(path, _VALUES)
    for key in ("ct", "structure_masks", "voxel_dimensions"):
        if key not in stored:
            raise CaseError(f"{path} lacks the array {key!r}; it has {sorted(stored)}.")
    if stored["ct"].shape != _SHAPE:
        raise CaseError(f"{path}: ct must have the shape {_SHAPE}; got {stored['ct'].shape}.")
    masks = _unpack(path, "structure_masks", stored["structure_masks"], len(STRUCTURES))
    arrays: dict = {
        "ct": stored["ct"],
        "voxel_dimensions": _checked_spacing(path, stored["voxel_dimensions"]),
        "structures": dict(zip(STRUCTURES, masks, strict=True)),
    }
    if "dose" in stored:
        if stored["dose"].size != _VOXELS:
            shape = stored["dose"].shape
            raise CaseError(f"{path}: dose must have the shape {_SHAPE}; got {shape}.")
        arrays["dose"] = stored["dose"].reshape(_SHAPE) / np.float32(_DOSE_UNITS_PER_GY)
    if "possible_dose_mask" in stored:
        packed = stored["possible_dose_mask"]
        arrays["possible_dose_mask"] = _unpack(path, "possible_dose_mask", packed, 1)[0]
    return arrays


def _unpack(path: Path, key: str, packed: NDArray, count: int) -> NDArray[np.bool_]:
    """`count` masks of 128³ from packed bits."""
    if packed.dtype != np.uint8 or packed.size * 8 < count * _VOXELS:
        raise CaseError(
            f"{path}: {key} must hold {count} packed masks of 128³ bits; "
            f"got {packed.size} values of {packed.dtype}."
        )
    bits = np.unpackbits(packed.ravel(), count=count * _VOXELS)
    return bits.reshape(count, *_SHAPE).astype(bool)


def _checked_spacing(path: Path, spacing: NDArray) -> NDArray:
    low, high = _SPACING_MM
    if spacing.size != 3 or not np.all((spacing >= low) & (spacing <= high)):
        raise CaseError(
            f"{path}: voxel_dimensions must be three positive numbers in mm, {low:g} to {high:g}; "
            f"got {spacing.ravel()[:6]}."
        )
    return spacing.ravel()


def _read_csv_folder(folder: Path) -> dict:
    spacing_file = folder / "voxel_dimensions.csv"
    if not spacing_file.is_file():
        raise CaseError(f"{folder} lacks voxel_dimensions.csv, the voxel spacing in mm.")
    lines = _lines(spacing_file)
    try:
        spacing = np.array([float(word) for word in lines if word.strip()])
    except ValueError as exception:
        raise CaseError(f"{spacing_file} is not a list of numbers: {exception}.") from exception
    arrays: dict = {
        "voxel_dimensions": _checked_spacing(spacing_file, spacing),
        "ct": _dense(folder / "ct.csv"),
        "structures": {
            name: _dense(folder / f"{name}.csv", mask=True)
            for name in STRUCTURES
            if (folder / f"{name}.csv").is_file()
        },
    }
    if (folder / "dose.csv").is_file():
        arrays["dose"] = _dense(folder / "dose.csv")
    if (folder / "possible_dose_mask.csv").is_file():
        arrays["possible_dose_mask"] = _dense(folder / "possible_dose_mask.csv", mask=True)
    return arrays


def _dense(path: Path, mask: bool = False) -> NDArray:
    """The 128³ array of a sparse file: a header, then rows of `index,value` (a mask: `index,`)."""
    rows = _lines(path)[1:]
    pairs = [row.split(",") for row in rows if row.strip()]
    try:
        index = np.array([float(pair[0]) for pair in pairs])
        values = np.ones(len(pairs)) if mask else np.array([float(pair[1]) for pair in pairs])
    except (ValueError, IndexError) as exception:
        number = next(i for i, pair in enumerate(pairs) if not _is_row(pair, mask))
        raise CaseError(
            f"{path}, row {number + 2}: expected an index{'' if mask else ' and a value'}; "
            f"got {rows[number]!r}."
        ) from exception
    if index.size and (index.min() < 0 or index.max() >= _VOXELS or np.any(index % 1)):
        worst = index[(index < 0) | (index >= _VOXELS) | (index % 1 != 0)][0]
        raise CaseError(
            f"{path}: index {worst:.15g} is not a whole number from 0 to {_VOXELS - 1}."
        )
    if np.unique(index).size != index.size:
        raise CaseError(f"{path}: {index.size - np.unique(index).size} indices appear twice.")
    if not np.all(np.abs(values) <= _LARGEST_VALUE):
        raise CaseError(f"{path}: a value is NaN, infinite, or beyond {_LARGEST_VALUE:g}.")
    dense = np.zeros(_VOXELS, dtype=bool if mask else np.float32)
    dense[index.astype(int)] = values
    return dense.reshape(_SHAPE)


def _lines(path: Path) -> list[str]:
    """Lines of a text file of a size that a patient's can have."""
    try:
        require_regular_file(path, _LARGEST_CSV, CaseError)
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as exception:
        raise CaseError(f"{path} cannot be read: {exception.strerror}.") from exception


def _filled_slices(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Holes filled slice by slice; the slices are axial at a fixed last axis."""
    filled = inside.copy()
    for z in np.flatnonzero(inside.any(axis=(0, 1))):
        filled[:, :, z] = ndimage.binary_fill_holes(inside[:, :, z])
    return filled


def _is_row(pair: list[str], mask: bool) -> bool:
    try:
        float(pair[0])
        return mask or bool(float(pair[1]) == float(pair[1]))
    except (ValueError, IndexError):
        return False
