"""NIfTI images: header, orientation, units, voxels and label names; nibabel reads the fields."""

from __future__ import annotations

import html
import itertools
import os
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CaseError, GeometryError
from ..findings import Finding
from .stored import (
    StoredImage,
    checked_grid,
    data_bytes,
    is_gzip,
    plain_numbers,
    read_data,
    units_finding,
)

__all__ = ["read_nifti"]

_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LARGEST_OFFSET = 2**26
_UNITS = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}
_TOLERANCE_MM = 1.0
"""Quaternions in 32 bits place the far corner of a body up to half a millimetre off."""
_SAME_ORIENTATION = 0.87  # cosine of 30 degrees
_SPACING_RATIO = 1.02
# The table of labels that Caret, FSL and TotalSegmentator keep in a header extension.
_LABEL = re.compile(
    rb'<Label\b[^>]*\bKey="(\d{1,9})"[^>]*>\s*(?:<!\[CDATA\[(.*?)\]\]>|([^<]*))\s*</Label>', re.S
)


def read_nifti(path: Path) -> StoredImage:
    """Read a NIfTI-1 or NIfTI-2 file, gzipped or not, whatever its name says of that.

    Raises:
        CaseError: truncated, damaged, not NIfTI, not three-dimensional, or orientation is a guess.
        GeometryError: an impossible spacing, origin or direction.
    """
    with path.open("rb") as file:
        zipped = is_gzip(file.read(2))
        stored_bytes = os.fstat(file.fileno()).st_size
        file.seek(0)
        header = _header(path, _head(path, file.read(2**16), zipped))
        shape = _shape(path, header)
        dtype = _voxel_type(path, header)
        offset = _offset(path, header)
        needed = data_bytes(path, shape, dtype, stored_bytes - (0 if zipped else offset), zipped)
        file.seek(0)
        findings: list[Finding] = []
        content = read_data(file, offset + needed, path, 31 if zipped else None, findings)
    if zipped != path.name.lower().endswith(".gz"):
        text = "gzipped" if zipped else "not gzipped"
        message = f"{path.name} is {text}, other than its name says; it was read as it is."
        findings.append(Finding("file-compression", "info", message))
    affine = _affine(path, header, shape, findings)
    x, y, z = shape
    grid = checked_grid(path, (x, y, z), _to_lps(affine))
    array = content[offset:].view(dtype).reshape(z, y, x)
    return StoredImage(
        _scaled(path, header, array)[None],
        grid,
        labels=_label_names(content[: min(offset, _LARGEST_OFFSET)].tobytes()),
        findings=tuple(findings),
    )


def _head(path: Path, start: bytes, zipped: bool) -> bytes:
    """The first bytes of the image, of which the file begins with `start`."""
    if not zipped:
        return start[:1024]
    try:
        return zlib.decompressobj(31).decompress(start, 1024)
    except zlib.error as exception:
        raise CaseError(f"{path} is damaged: {exception}. Copy or export it again.") from exception


def _header(path: Path, head: bytes) -> Any:
    """nibabel's header, its fields as stored: its own check would mend them in silence."""
    from nibabel import Nifti1Header, Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    if not head:
        raise CaseError(f"{path} is empty (0 bytes of data). Copy or export it again.")
    sizes = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    kind = Nifti2Header if 540 in sizes else Nifti1Header
    length = kind.template_dtype.itemsize
    if not sizes & {348, 540} or len(head) < length:
        raise CaseError(f"{path} is no NIfTI file, or it is truncated or damaged.")
    try:
        header = kind(head[:length], check=False)
    except (HeaderDataError, ValueError) as exception:
        raise CaseError(f"{path} has an impossible NIfTI header: {exception}.") from exception
    magic = bytes(header["magic"])[:3]
    if magic not in (b"n+1", b"n+2"):
        kind_of_file = "the header of a pair of files" if magic[:2] == b"ni" else "no NIfTI file"
        raise CaseError(f"{path} is {kind_of_file} (or damaged); expected a single .nii file.")
    return header


def _shape(path: Path, header: Any) -> tuple[int, ...]:
    """Size along (x, y, z)."""
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise CaseError(f"{path} has {count} dimensions in its header; a volume has three.")
    shape = tuple(int(n) for n in header["dim"][1 : count + 1])
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise CaseError(f"{path} has {len(shape)} dimensions {shape}; a volume has three.")
    return shape


def _voxel_type(path: Path, header: Any) -> np.dtype:
    from nibabel.spatialimages import HeaderDataError

    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError, ValueError) as exception:
        code = int(header["datatype"])
        raise CaseError(f"{path} has voxels of an unknown type, code {code}.") from exception
    return plain_numbers(path, dtype)


def _offset(path: Path, header: Any) -> int:
    """Where the voxels begin."""
    offset = float(header["vox_offset"])
    least = header.template_dtype.itemsize + 4
    if offset == 0:
        return least
    if not least <= offset <= _LARGEST_OFFSET or offset % 1:
        raise CaseError(
            f"{path} has an impossible header: its voxels begin at byte {offset:g}; expected "
            f"{least} to {_LARGEST_OFFSET}."
        )
    return int(offset)


def _affine(path: Path, header: Any, shape: tuple[int, ...], findings: list[Finding]) -> NDArray:
    """The matrix from index to RAS mm: the sform, or else the qform.

    Raises:
        CaseError: the header does not say how the patient lies, or says it in two ways.
        GeometryError: a spacing that is not positive.
    """
    spacing = np.asarray(header["pixdim"][1:4], dtype=float)
    if not np.all(np.isfinite(spacing)) or spacing.min() <= 0:
        raise GeometryError(
            f"{path}: voxel spacing must be positive and finite; the header says "
            f"{tuple(float(s) for s in spacing)} mm."
        )
    sform = header.get_sform() if int(header["sform_code"]) else None
    qform = _qform(path, header, required=sform is None) if int(header["qform_code"]) else None
    if sform is None and qform is None:
        raise CaseError(_no_orientation(path, header))
    affine: NDArray = np.array(qform if sform is None else sform, dtype=float)
    if sform is not None and qform is not None:
        _compare(path, shape, qform, sform, findings)
    elif sform is not None:
        _compare_spacing(path, spacing, sform, findings)
    unit = int(header["xyzt_units"]) & 7
    if unit in _UNITS:
        name, to_mm = _UNITS[unit]
        with np.errstate(all="ignore"):
            lengths = np.linalg.norm(affine[:3, :3], axis=0)
        factor, finding = units_finding(path, name, lengths, to_mm)
        affine[:3] *= factor
        findings.append(finding)
    return affine


def _qform(path: Path, header: Any, required: bool) -> NDArray | None:
    """The qform; None when it cannot be one and another reading exists."""
    from nibabel.spatialimages import HeaderDataError

    if float(header["pixdim"][0]) not in (-1.0, 1.0):
        header["pixdim"][0] = 1.0  # as the standard has it
    try:
        with np.errstate(all="ignore"):
            return header.get_qform()
    except (HeaderDataError, ValueError, np.linalg.LinAlgError) as exception:
        if required:
            raise CaseError(f"{path} has an impossible qform: {exception}.") from exception
        return None


def _axes(affine: NDArray) -> str:
    from nibabel import aff2axcodes

    try:
        return "".join(code or "?" for code in aff2axcodes(affine))
    except (ValueError, np.linalg.LinAlgError):
        return "undefined"


def _to_lps(affine: NDArray) -> NDArray:
    with np.errstate(all="ignore"):  # infinite entries are refused with the grid
        return _LPS_FROM_RAS @ affine


def _described(affine: NDArray) -> str:
    """A reading in words: origin in LPS mm as messages have it elsewhere, and the axes."""
    x, y, z = _to_lps(affine)[:3, 3]
    return f"first voxel at ({x:.1f}, {y:.1f}, {z:.1f}) mm LPS, axes to {_axes(affine)}"


def _no_orientation(path: Path, header: Any) -> str:
    stored = header.get_sform()
    readings = f"by its spacing alone the axes run to {_axes(header.get_base_affine())}"
    if np.all(np.isfinite(stored)) and np.any(stored[:3, :3]):
        readings += f", by the matrix that is stored but not declared to {_axes(stored)}"
    return (
        f"{path} does not say how the patient lies (qform_code and sform_code are 0): {readings}. "
        "Which is right would be a guess: export it again with its orientation, or set sform_code "
        "to 1 if the matrix is right."
    )


def _compare(
    path: Path, shape: tuple[int, ...], qform: NDArray, sform: NDArray, findings: list[Finding]
) -> None:
    """A warning when the two matrices place the voxels apart; a refusal when they turn the patient.

    Raises:
        CaseError: an axis runs elsewhere, or the other way.
    """
    corners = np.array([(*c, 1) for c in itertools.product(*((0, n - 1) for n in shape))])
    with np.errstate(all="ignore"):
        apart = np.linalg.norm(corners @ (qform - sform).T, axis=1).max()
        lengths = [np.linalg.norm(m[:3, :3], axis=0) for m in (qform, sform)]
        cosines = (qform[:3, :3] * sform[:3, :3]).sum(axis=0) / (lengths[0] * lengths[1])
    if apart <= _TOLERANCE_MM:
        return
    readings = f"qform: {_described(qform)}; sform: {_described(sform)}"
    if np.min(cosines) < _SAME_ORIENTATION:
        raise CaseError(
            f"{path} says in two ways how the patient lies ({readings}). Which is right would be "
            "a guess: export it again, or set the code of the wrong one to 0."
        )
    message = (
        f"{path.name}: qform and sform place its voxels up to {apart:.1f} mm apart ({readings}); "
        "the sform was taken."
    )
    remedy = "Check the structures on the CT; set the code of the wrong matrix to 0."
    findings.append(Finding("orientation-disagrees", "warning", message, remedy))


def _compare_spacing(path: Path, spacing: NDArray, sform: NDArray, findings: list[Finding]) -> None:
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(sform[:3, :3], axis=0)
        ratio = lengths / spacing
    if np.all((ratio < _SPACING_RATIO) & (ratio > 1 / _SPACING_RATIO)):
        return
    texts = ["×".join(f"{s:.4g}" for s in reading) for reading in (spacing, lengths)]
    message = (
        f"{path.name}: its pixdim says voxels of {texts[0]} mm, its sform of {texts[1]} mm; the "
        "sform was taken."
    )
    remedy = "Check a distance in the image, and export it again."
    findings.append(Finding("orientation-disagrees", "warning", message, remedy))


def _scaled(path: Path, header: Any, array: NDArray) -> NDArray:
    """Stored values with slope and intercept applied."""
    from nibabel.spatialimages import HeaderDataError
    from nibabel.volumeutils import apply_read_scaling

    if np.isinf(header["scl_slope"]):
        raise CaseError(f"{path} has an impossible scaling: its slope is infinite.")
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as exception:
        raise CaseError(f"{path} has an impossible scaling: {exception}.") from exception
    slope, intercept = (1.0 if slope is None else slope), (0.0 if intercept is None else intercept)
    if (slope, intercept) == (1.0, 0.0):
        return array
    with np.errstate(all="ignore"):
        return apply_read_scaling(array, np.float64(slope), np.float64(intercept))


def _label_names(head: bytes) -> dict[int, str]:
    """Label value → name from a table in the header's extensions."""
    names = {}
    for value, quoted, plain in _LABEL.findall(head):
        text = quoted or html.unescape(plain.decode("utf-8", "replace")).encode()
        name = text.decode("utf-8", "replace").strip()
        if name and int(value):
            names[int(value)] = name
    return names
