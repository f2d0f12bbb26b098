"""Volumes from and to files: NIfTI, NRRD and MetaImage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import CaseError
from ..files import whole_file
from ..findings import Finding
from ..volume import Volume
from .metaimage import read_metaimage
from .nifti_image import read_nifti
from .nrrd import read_nrrd
from .stored import StoredImage

__all__ = [
    "FORMATS",
    "file_stem",
    "is_volume_file",
    "read_image",
    "read_volume",
    "whole_file",
    "write_volume",
]

FORMATS = {"nifti": ".nii.gz", "nrrd": ".nrrd"}
"""Formats that volumes are written in, and their suffixes."""

_NIFTI = (".nii", ".nii.gz")
_ITK_READERS = {
    ".nrrd": read_nrrd,
    ".nhdr": read_nrrd,
    ".mha": read_metaimage,
    ".mhd": read_metaimage,
}
_ITK = tuple(_ITK_READERS)
_SEGMENTATION = ".seg"
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def is_volume_file(path: Path) -> bool:
    """Whether the name is that of a volume that can be read; hidden files are none."""
    return path.name.lower().endswith(_NIFTI + _ITK) and not path.name.startswith(".")


def file_stem(path: Path) -> str:
    """The name without `.nii.gz`, `.nrrd`, `.seg.nrrd` …"""
    for suffix in sorted(_NIFTI + _ITK, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            stem = path.name[: -len(suffix)]
            return stem[: -len(_SEGMENTATION)] if stem.lower().endswith(_SEGMENTATION) else stem
    return path.stem


def read_image(path: Path) -> StoredImage:
    """An image file with its geometry, its layers and the structures that its header names.

    Integers stay integers; other floats become 32-bit. Nothing is reordered or resampled.

    Raises:
        CaseError: missing, unreadable, truncated, damaged, or not three-dimensional.
        GeometryError: the spacing or the direction is impossible.
    """
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "a link that leads nowhere"
        is_there = path.is_dir() or path.is_symlink()
        raise CaseError(f"{path} is {kind}, no file." if is_there else f"There is no file {path}.")
    name = path.name.lower()
    if not name.endswith(_NIFTI + _ITK):
        raise CaseError(f"{path} is no NIfTI, NRRD or MetaImage file.")
    read = read_nifti if name.endswith(_NIFTI) else _ITK_READERS[path.suffix.lower()]
    try:
        image = read(path)
    except OSError as exception:
        reason = exception.strerror or str(exception)
        raise CaseError(f"{path} cannot be read: {reason}.") from exception
    except MemoryError as exception:
        raise CaseError(
            f"{path} does not fit into this machine's memory: {exception}."
        ) from exception
    return replace(image, array=_compact(image.array))


def read_volume(path: Path, findings: list[Finding] | None = None) -> Volume:
    """A three-dimensional image; see `read_image`.

    Args:
        findings: takes what was noticed.
    """
    image = read_image(path)
    if image.array.shape[0] != 1:
        raise CaseError(f"{path} has several values a voxel; expected one.")
    if findings is not None:
        findings += image.findings
    return Volume(image.array[0], image.grid)


def _compact(array: NDArray) -> NDArray:
    """Native byte order, contiguous; floats of other sizes as 32-bit."""
    is_other_float = array.dtype.kind == "f" and array.dtype.itemsize != 4
    native = np.dtype(np.float32) if is_other_float else array.dtype.newbyteorder("=")
    with np.errstate(over="ignore"):  # too large becomes infinite, and is refused as that
        return np.require(array, native, ["C", "A", "W"])


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
