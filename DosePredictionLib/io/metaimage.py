"""MetaImage files (`.mha`, `.mhd`), raw or zlib-compressed.

Format: https://itk.org/Wiki/ITK/MetaIO/Documentation. Read here and not by ITK for the reasons in
`nrrd.py`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import CaseError
from ..findings import Finding
from .stored import StoredImage, checked_grid, data_bytes, read_data

__all__ = ["read_metaimage"]

_LONGEST_HEADER = 2**20
_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_END = re.compile(rb"^\s*ElementDataFile\s*=[^\n]*\n?", re.MULTILINE)


def read_metaimage(path: Path) -> StoredImage:
    """Read a MetaImage, its data in it or beside it.

    Raises:
        CaseError: truncated, damaged, or of a kind that is not read.
        GeometryError: an impossible spacing, origin or direction.
    """
    fields, begin = _header(path)
    dimensions = fields.get("ndims", "?")
    sizes = _numbers(path, fields, "dimsize", None)
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes = sizes[:-1]
    if len(sizes) != 3:
        raise CaseError(f"{path} has {dimensions} dimensions; a volume has three.")
    if fields.get("elementnumberofchannels", "1") != "1":
        raise CaseError(f"{path} has several values a voxel; expected one.")
    dtype = _voxel_type(path, fields)
    zipped = _is_true(fields.get("compresseddata"))
    shape = tuple(int(n) for n in sizes[::-1])
    data_path = _data_file(path, fields)
    begin = begin if data_path == path else _header_size(path, fields)
    findings: list[Finding] = []
    with data_path.open("rb") as file:
        stored = os.fstat(file.fileno()).st_size - begin
        needed = data_bytes(data_path, shape[::-1], dtype, stored, zipped)
        file.seek(begin)
        if zipped:  # no writer pads a stream, and no checksum covers the size in the header
            content = read_data(file, needed, data_path, 15, findings, padding=0)
        else:
            content = read_data(file, needed, data_path, None, findings)
    grid = checked_grid(path, (shape[2], shape[1], shape[0]), _matrix(path, fields))
    array: NDArray = content.view(dtype).reshape(shape)
    return StoredImage(array[None], grid, findings=tuple(findings))


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Fields by their names in lower case, and where the header ends."""
    with path.open("rb") as file:
        start = file.read(_LONGEST_HEADER)
    if not start:
        raise CaseError(f"{path} is empty (0 bytes). Copy or export it again.")
    end = _END.search(start)
    if end is None:
        raise CaseError(f"{path} is no MetaImage file, or damaged: it names no ElementDataFile.")
    fields = {}
    for line in start[: end.end()].decode("utf-8", "replace").splitlines():
        key, equals, value = line.partition("=")
        if equals:
            fields[key.strip().lower()] = value.strip()
    return fields, end.end()


def _data_file(path: Path, fields: dict[str, str]) -> Path:
    name = fields["elementdatafile"]
    if name.upper() == "LOCAL":
        return path
    if name.split()[:1] == ["LIST"] or "%" in name or not name or "\0" in name:
        raise CaseError(
            f"{path} spreads its data over several files. Load it into 3D Slicer and save it again."
        )
    if not (path.parent / name).is_file():
        raise CaseError(f"{path} names the data file {name}, which is not beside it.")
    return path.parent / name


def _header_size(path: Path, fields: dict[str, str]) -> int:
    size = fields.get("headersize", "0")
    if not re.fullmatch(r"\d{1,12}", size):
        raise CaseError(f"{path} has a HeaderSize of {size}, which is not read.")
    return int(size)


def _voxel_type(path: Path, fields: dict[str, str]) -> np.dtype:
    name = fields.get("elementtype", "").upper()
    if name not in _TYPES:
        raise CaseError(f"{path} has voxels of type {name or 'none'}, which are no plain numbers.")
    big = _is_true(fields.get("elementbyteordermsb", fields.get("binarydatabyteordermsb")))
    return np.dtype(_TYPES[name]).newbyteorder(">" if big else "<")


def _is_true(text: str | None) -> bool:
    return (text or "").lower() in ("true", "1")


def _numbers(
    path: Path, fields: dict[str, str], key: str, default: list[float] | None
) -> list[float]:
    text = fields.get(key)
    if text is None and default is not None:
        return default
    try:
        values = [float(word) for word in (text or "").split()]
    except ValueError:
        values = []
    whole = default is None
    if not values or not np.all(np.isfinite(values)) or (whole and any(v % 1 for v in values)):
        raise CaseError(f"{path}: {key} must be a list of numbers; got {text!r}.")
    if default is not None and len(values) != len(default):
        raise CaseError(f"{path}: {key} must be {len(default)} numbers; got {text!r}.")
    return values


def _matrix(path: Path, fields: dict[str, str]) -> NDArray:
    """The matrix from index (x, y, z) to LPS mm; a row of TransformMatrix is an axis."""
    names = {"transformmatrix": ("rotation", "orientation"), "offset": ("position", "origin")}
    for name, others in names.items():
        for other in others:
            if name not in fields and other in fields:
                fields = {**fields, name: fields[other]}
    spacing_key = "elementspacing" if "elementspacing" in fields else "elementsize"
    axes = _numbers(path, fields, "transformmatrix", [1, 0, 0, 0, 1, 0, 0, 0, 1])
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(axes, (3, 3)).T * _numbers(path, fields, spacing_key, [1, 1, 1])
    matrix[:3, 3] = _numbers(path, fields, "offset", [0, 0, 0])
    return matrix
