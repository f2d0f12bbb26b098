"""Volumes from and to files: NIfTI by nibabel, NRRD and MetaImage by SimpleITK."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CaseError, GeometryError
from ..volume import Grid, Volume

__all__ = ["FORMATS", "file_stem", "is_volume_file", "read_volume", "whole_file", "write_volume"]

FORMATS = {"nifti": ".nii.gz", "nrrd": ".nrrd"}
"""Formats that volumes are written in, and their suffixes."""

_NIFTI = (".nii", ".nii.gz")
_ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def is_volume_file(path: Path) -> bool:
    """Whether the name is that of a volume that can be read."""
    return path.name.lower().endswith(_NIFTI + _ITK)


def file_stem(path: Path) -> str:
    """The name without `.nii.gz`, `.nrrd` …"""
    for suffix in sorted(_NIFTI + _ITK, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def read_volume(path: Path) -> Volume:
    """A three-dimensional image with its geometry; values as stored, scaling applied.

    Integers stay integers; 64-bit floats become 32-bit. Nothing is reordered or resampled.

    Raises:
        CaseError: missing, unreadable, truncated, or not three-dimensional.
        GeometryError: the spacing or the direction is impossible.
    """
    if not path.is_file():
        raise CaseError(f"There is no file {path}.")
    if not is_volume_file(path):
        raise CaseError(f"{path} is no NIfTI, NRRD or MetaImage file.")
    nifti = path.name.lower().endswith(_NIFTI)
    array, affine = _read_nifti(path) if nifti else _read_itk(path)
    try:
        z, y, x = array.shape
        return Volume(array, Grid.from_matrix((x, y, z), affine))
    except GeometryError as exception:
        raise GeometryError(f"{path}: {exception}") from exception


def _read_nifti(path: Path) -> tuple[NDArray, NDArray]:
    """Array `(z, y, x)` and the matrix from index (x, y, z) to LPS mm."""
    import nibabel

    try:
        image: Any = nibabel.load(path)
        with nibabel.openers.ImageOpener(str(path)) as file:
            # Read again unchecked: loading replaces an impossible spacing in silence.
            raw_header = type(image.header).from_fileobj(file, check=False)
        stored_spacing = np.asarray(raw_header["pixdim"][1:4], dtype=float)
        array = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise CaseError(f"{path} cannot be read as NIfTI (truncated or damaged): {reason}") from e
    except nibabel.spatialimages.HeaderDataError as exception:
        raise CaseError(f"{path} has an impossible NIfTI header: {exception}.") from exception
    array = array.reshape(_three_dimensional(path, array.shape))
    if not np.all(np.isfinite(stored_spacing)) or stored_spacing.min() <= 0:
        raise GeometryError(
            f"{path}: voxel spacing must be positive and finite; the header says "
            f"{tuple(float(s) for s in stored_spacing)} mm."
        )
    return _compact(array.T), _LPS_FROM_RAS @ image.affine


def _read_itk(path: Path) -> tuple[NDArray, NDArray]:
    import SimpleITK

    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as exception:
        reason = str(exception).strip().splitlines()[-1]
        raise CaseError(f"{path} cannot be read: {reason}") from exception
    _three_dimensional(path, image.GetSize())
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise CaseError(f"{path} has several values a voxel; expected one.")
    matrix = np.eye(4)
    direction = np.asarray(image.GetDirection()).reshape(3, 3)
    matrix[:3, :3] = direction * np.asarray(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return _compact(SimpleITK.GetArrayFromImage(image)), matrix


def _three_dimensional(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without trailing ones.

    Raises:
        CaseError: it is not three-dimensional then.
    """
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise CaseError(f"{path} has {len(shape)} dimensions {shape}; a volume has three.")
    return shape


def _compact(array: NDArray) -> NDArray:
    """Native byte order, contiguous; 64-bit floats as 32-bit."""
    if array.dtype.kind not in "biuf":
        raise CaseError(f"Voxels of type {array.dtype} are no plain numbers.")
    kind = np.dtype(np.float32) if array.dtype.itemsize == 8 and array.dtype.kind == "f" else None
    native = kind or array.dtype.newbyteorder("=")
    return np.ascontiguousarray(array, dtype=native)


def write_volume(path: Path, volume: Volume, description: str = "") -> None:
    """Write a volume whole or not at all; the format follows the suffix.

    Args:
        description: up to 80 characters kept in the header, where the format has room.
    """
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    with whole_file(path) as partial:
        if path.name.lower().endswith(_NIFTI):
            import nibabel

            affine = _LPS_FROM_RAS @ volume.grid.index_to_world
            image = nibabel.Nifti1Image(array.T, affine)
            image.header.set_xyzt_units("mm")
            image.header["descrip"] = description.encode("ascii", "replace")[:79]
            nibabel.save(image, partial)
        else:
            _write_itk(partial, Volume(array, volume.grid), description)


def _write_itk(path: Path, volume: Volume, description: str) -> None:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(volume.array)
    image.SetSpacing(volume.grid.spacing)
    image.SetOrigin(volume.grid.origin)
    image.SetDirection([v for row in volume.grid.direction for v in row])
    if description:
        image.SetMetaData("description", description)
    SimpleITK.WriteImage(image, str(path), useCompression=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; it becomes `path` when the block ends well, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=".partial-"))
    try:
        yield folder / path.name
        (folder / path.name).replace(path)
    finally:
        for leftover in folder.iterdir():
            leftover.unlink()
        folder.rmdir()
