"""Arrays from npz files, each checked by its headers before memory is taken for it.

`numpy.load` trusts the header of each array, and never reaches the checksum behind it.
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..errors import CaseError

__all__ = ["read_arrays"]

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile raises at one damaged byte or another.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    RuntimeError,  # NotImplementedError is one
)
# What numpy's reading of a header as Python can raise.
_BAD_HEADER = (
    ValueError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
    EOFError,
)
_LONGEST_HEADER = 10_000
_MOST_MEMBERS = 1000


def read_arrays(path: Path, voxels: Mapping[str, int]) -> dict[str, NDArray]:
    """The arrays named in `voxels` that a file holds; others are not read.

    Args:
        voxels: array → the number of values that it may have at most.

    Raises:
        CaseError: no npz file, truncated, damaged, encrypted, of another compression, or an array
            that is larger than allowed, or not of plain numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MOST_MEMBERS:
                raise CaseError(f"{path} holds {len(members)} arrays: no case.")
            names = [member.filename.removesuffix(".npy") for member in members]
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise CaseError(f"{path} holds the array {sorted(twice)[0]!r} twice.")
            return {
                name: _array(path, archive, member, voxels[name])
                for name, member in zip(names, members, strict=True)
                if name in voxels
            }
    except CaseError:
        raise
    except _DAMAGE as exception:
        raise CaseError(_not_readable(path, exception)) from exception


def _not_readable(path: Path, exception: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"\x93NUMPY"):
        return f"{path} is a single array (npy), not an npz file: rename or pack it."
    reason = " ".join(str(exception).split()) or type(exception).__name__
    return f"{path} is not a readable npz file (truncated or damaged): {reason[:200]}."


def _array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> NDArray:
    """One array; its member is read to the end, where the checksum is compared."""
    if member.flag_bits & 1:
        raise CaseError(f"{path}: {member.filename} is encrypted; write it without a password.")
    if member.compress_type not in _METHODS:
        raise CaseError(
            f"{path}: {member.filename} has compression method {member.compress_type}; write it "
            "with numpy.savez_compressed."
        )
    if member.file_size > most * 8 + _LONGEST_HEADER:
        raise CaseError(
            f"{path}: {member.filename} inflates to {member.file_size / 1e6:.0f} MB; at most "
            f"{most} values are expected."
        )
    content = archive.read(member)
    shape, fortran, dtype, begin = _header(path, member.filename, content)
    if dtype.kind not in "biuf":
        raise CaseError(f"{path}: {member.filename} holds {dtype}, which are no plain numbers.")
    count = math.prod(shape)
    if count > most or len(content) - begin != count * dtype.itemsize:
        raise CaseError(
            f"{path}: {member.filename} announces {shape} values of {dtype}; at most {most} are "
            f"expected, and {len(content) - begin} bytes are there."
        )
    values = np.frombuffer(content, dtype, count, begin)
    array = values.reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), order="C")  # a copy that can be written to


def _header(path: Path, name: str, content: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, order and type of an array, and where its values begin."""
    file = io.BytesIO(content)
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=_LONGEST_HEADER)
    except _BAD_HEADER as exception:
        reason = " ".join(str(exception).split())[:200]
        raise CaseError(f"{path}: {name} is no readable array: {reason}.") from exception
    if not all(extent >= 0 for extent in shape):
        raise CaseError(f"{path}: {name} has the impossible shape {shape}.")
    return shape, fortran, dtype, file.tell()
