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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..errors import CaseError

__all__ = ["ArrayHeader", "array_headers", "array_names", "read_arrays", "read_object"]

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


@dataclass(frozen=True)
class ArrayHeader:
    """What an array's header announces.

    Args:
        shape: as stored.
        dtype: of the values; one of kind "O" is a pickle.
        stored_bytes: of the member, header included.
        begin: where in the member the values begin.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    stored_bytes: int
    begin: int


def array_names(path: Path) -> frozenset[str]:
    """Names of the arrays; nothing else is read.

    Raises:
        CaseError: no npz file, or too damaged to list its arrays.
    """
    with _members(path) as (_, members):
        return frozenset(members)


def array_headers(path: Path) -> dict[str, ArrayHeader]:
    """The headers of all arrays; no values are read.

    Raises:
        CaseError: as `read_arrays`, of any array; and a size that is not the announced one.
    """
    headers = {}
    with _members(path) as (archive, members):
        for name, member in members.items():
            _require_plain(path, member)
            with archive.open(member) as file:
                start = file.read(_LONGEST_HEADER + 16)
            shape, _, dtype, begin = _header(path, member.filename, start)
            announced = math.prod(shape) * dtype.itemsize
            if dtype.kind != "O" and member.file_size - begin != announced:
                raise CaseError(
                    f"{path}: {member.filename} announces {shape} values of {dtype}, and "
                    f"{member.file_size - begin} bytes are there. Copy or export it again."
                )
            headers[name] = ArrayHeader(shape, dtype, member.file_size, begin)
    return headers


def read_object(path: Path, name: str, most_bytes: int) -> bytes:
    """The pickle that an array of objects is, as bytes; it is not unpickled.

    Raises:
        CaseError: as `read_arrays`, or more than `most_bytes`.
    """
    with _members(path) as (archive, members):
        member = members[name]
        _require_plain(path, member)
        if member.file_size > most_bytes:
            raise CaseError(
                f"{path}: {member.filename} inflates to {member.file_size / 1e6:.0f} MB; at most "
                f"{most_bytes / 1e6:.0f} MB are expected."
            )
        content = archive.read(member)
    return content[_header(path, member.filename, content)[3] :]


def read_arrays(path: Path, voxels: Mapping[str, int]) -> dict[str, NDArray]:
    """The arrays named in `voxels` that a file holds; others are not read.

    Args:
        voxels: array → the number of values that it may have at most.

    Raises:
        CaseError: no npz file, truncated, damaged, encrypted, of another compression, or an array
            that is larger than allowed, or not of plain numbers.
    """
    with _members(path) as (archive, members):
        return {
            name: _array(path, archive, member, voxels[name])
            for name, member in members.items()
            if name in voxels
        }


@contextmanager
def _members(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """The open archive and its arrays by name; what a damaged byte raises is a `CaseError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MOST_MEMBERS:
                raise CaseError(f"{path} holds {len(members)} arrays: no case.")
            names = [member.filename.removesuffix(".npy") for member in members]
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise CaseError(f"{path} holds the array {sorted(twice)[0]!r} twice.")
            yield archive, dict(zip(names, members, strict=True))
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
    _require_plain(path, member)
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


def _require_plain(path: Path, member: zipfile.ZipInfo) -> None:
    """Refuse what is encrypted or of a compression that is not NumPy's."""
    if member.flag_bits & 1:
        raise CaseError(f"{path}: {member.filename} is encrypted; write it without a password.")
    if member.compress_type not in _METHODS:
        raise CaseError(
            f"{path}: {member.filename} has compression method {member.compress_type}; write it "
            "with numpy.savez_compressed."
        )


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
