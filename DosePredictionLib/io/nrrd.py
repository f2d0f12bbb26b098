"""NRRD images, and Slicer's segmentations in them (`.seg.nrrd`): names, label values, layers.

Format: http://teem.sourceforge.net/nrrd/format.html. Read here and not by ITK, which checks no
checksum, takes memory before it looks at the file's size, and prints lines of its own.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import CaseError
from ..findings import Finding
from .stored import (
    Segment,
    StoredImage,
    checked_grid,
    data_bytes,
    read_data,
    units_finding,
)

__all__ = ["read_nrrd"]

_LONGEST_HEADER = 2**23
_TYPES = {
    "int8": "i1", "int8_t": "i1", "signed char": "i1",
    "uint8": "u1", "uint8_t": "u1", "uchar": "u1", "unsigned char": "u1",
    "int16": "i2", "int16_t": "i2", "short": "i2", "short int": "i2", "signed short": "i2",
    "signed short int": "i2",
    "uint16": "u2", "uint16_t": "u2", "ushort": "u2", "unsigned short": "u2",
    "unsigned short int": "u2",
    "int32": "i4", "int32_t": "i4", "int": "i4", "signed int": "i4",
    "uint32": "u4", "uint32_t": "u4", "uint": "u4", "unsigned int": "u4",
    "int64": "i8", "int64_t": "i8", "longlong": "i8", "long long": "i8", "long long int": "i8",
    "signed long long": "i8", "signed long long int": "i8",
    "uint64": "u8", "uint64_t": "u8", "ulonglong": "u8", "unsigned long long": "u8",
    "unsigned long long int": "u8",
    "float": "f4", "double": "f8",
}  # fmt: skip
# Signs that carry a named space to LPS.
_SPACES = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
_UNITS = {"m": ("metres", 1000.0), "cm": ("centimetres", 10.0), "um": ("micrometres", 0.001)}
_SEGMENT = re.compile(r"Segment(\d{1,5})_(Name|ID|LabelValue|Layer)")
_VECTOR = re.compile(r"none|\([^()]*\)")


def read_nrrd(path: Path) -> StoredImage:
    """Read an NRRD file, its data in it or beside it, raw or gzipped.

    Raises:
        CaseError: truncated, damaged, of another encoding, or without orientation.
        GeometryError: an impossible spacing, origin or direction.
    """
    fields, keys, begin = _header(path)
    data_path = _data_file(path, fields)
    dtype = _voxel_type(path, fields)
    sizes = _sizes(path, fields)
    encoding = fields.get("encoding", "raw").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise CaseError(f"{path} has the encoding {encoding!r}; expected raw or gzip. {_AGAIN}")
    zipped = encoding != "raw"
    begin = begin if data_path == path else 0
    if not data_path.is_file():
        raise CaseError(f"{path} names the data file {data_path.name}, which is not beside it.")
    findings: list[Finding] = []
    with data_path.open("rb") as file:
        stored = os.fstat(file.fileno()).st_size - begin
        needed = data_bytes(data_path, tuple(sizes), dtype, stored, zipped)
        skip = _skip(path, fields, zipped, stored - needed)
        file.seek(begin + skip)
        if zipped:  # no writer pads a stream, and no checksum covers the size in the header
            content = read_data(file, needed, data_path, 31, findings, padding=0)
        else:
            content = read_data(file, needed, data_path, None, findings)
    array, matrix = _placed(path, fields, content.view(dtype).reshape(sizes[::-1]), findings)
    z, y, x = array.shape[1:]
    grid = checked_grid(path, (x, y, z), matrix)
    segments = _segments(path, keys, array.shape[0])
    return StoredImage(array, grid, segments, findings=tuple(findings))


_AGAIN = "Load it into 3D Slicer and save it again."


def _header(path: Path) -> tuple[dict[str, str], dict[str, str], int]:
    """Fields, key/value pairs, and where the header ends."""
    with path.open("rb") as file:
        start = file.read(2**16)
        if not start.startswith(b"NRRD000"):
            state = "is empty (0 bytes)" if not start else "is no NRRD file, or damaged"
            raise CaseError(f"{path} {state}. Copy or export it again.")
        while (end := _blank_line(start)) is None and len(start) < _LONGEST_HEADER:
            more = file.read(2**20)
            if not more:
                break
            start += more
    if end is None and len(start) >= _LONGEST_HEADER:
        raise CaseError(f"{path} has a header of more than {_LONGEST_HEADER // 2**20} MB.")
    text = start if end is None else start[: end[0]]  # a detached header may end with the file
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    for line in text.decode("utf-8", "replace").splitlines()[1:]:
        pair, colon = line.partition(":="), line.partition(": ")
        if line.startswith("#") or not (pair[1] or colon[1]):
            continue
        if pair[1]:
            keys[pair[0].strip()] = pair[2].strip().replace("\\n", " ").replace("\\\\", "\\")
        else:
            fields[colon[0].strip().lower()] = colon[2].strip()
    return fields, keys, len(start) if end is None else end[1]


def _blank_line(text: bytes) -> tuple[int, int] | None:
    """Where the first empty line begins and ends."""
    match = re.search(rb"\r?\n\r?\n", text)
    return None if match is None else match.span()


def _data_file(path: Path, fields: dict[str, str]) -> Path:
    name = fields.get("data file", fields.get("datafile"))
    if name is None:
        return path
    if name.split()[:1] == ["LIST"] or "%" in name or not name or "\0" in name:
        raise CaseError(f"{path} spreads its data over several files. {_AGAIN}")
    return path.parent / name


def _voxel_type(path: Path, fields: dict[str, str]) -> np.dtype:
    name = " ".join(fields.get("type", "").split()).lower()
    if name not in _TYPES:
        raise CaseError(f"{path} has voxels of type {name!r}, which are no plain numbers.")
    dtype = np.dtype(_TYPES[name])
    endian = fields.get("endian", "little").lower()
    if endian not in ("little", "big"):
        raise CaseError(f"{path}: endian must be little or big; got {endian!r}.")
    return dtype.newbyteorder("<" if endian == "little" else ">")


def _sizes(path: Path, fields: dict[str, str]) -> list[int]:
    words = fields.get("sizes", "").split()
    if not 1 <= len(words) <= 8 or not all(re.fullmatch(r"\d{1,12}", word) for word in words):
        raise CaseError(f"{path}: sizes must be up to eight counts; got {fields.get('sizes')!r}.")
    if fields.get("dimension") != str(len(words)):
        dimension = fields.get("dimension")
        raise CaseError(f"{path}: {len(words)} sizes, but dimension {dimension}. Is it damaged?")
    return [int(word) for word in words]


def _skip(path: Path, fields: dict[str, str], zipped: bool, surplus: int) -> int:
    """Bytes between the header and the data."""
    lines = fields.get("line skip", fields.get("lineskip", "0"))
    text = fields.get("byte skip", fields.get("byteskip", "0"))
    if lines != "0" or not re.fullmatch(r"-1|\d{1,12}", text) or (zipped and text != "0"):
        raise CaseError(f"{path} skips lines or bytes before its data. {_AGAIN}")
    if zipped:
        return 0
    skip = surplus if text == "-1" else int(text)
    if skip > surplus:
        raise CaseError(f"{path} is truncated or damaged: its data end before its size says.")
    return skip


def _placed(
    path: Path, fields: dict[str, str], array: NDArray, findings: list[Finding]
) -> tuple[NDArray, NDArray]:
    """The array as `(layer, z, y, x)`, and the matrix from index (x, y, z) to LPS mm."""
    signs = _SPACES.get(fields.get("space", "").lower())
    if signs is None:
        raise CaseError(
            f"{path} does not say how the patient lies (space: {fields.get('space', 'none')}): "
            f"expected left-posterior-superior, RAS or LAS. {_AGAIN}"
        )
    vectors = [_vector(path, v) for v in _VECTOR.findall(fields.get("space directions", ""))]
    if len(vectors) != array.ndim:
        raise CaseError(f"{path}: expected {array.ndim} space directions; got {len(vectors)}.")
    spatial = [axis for axis, vector in enumerate(vectors) if vector is not None]
    others = [axis for axis, vector in enumerate(vectors) if vector is None]
    if len(spatial) != 3 or len(others) > 1:
        raise CaseError(f"{path} has {array.ndim} dimensions, {len(spatial)} of them in space; "
                        "a volume has three.")  # fmt: skip
    # The first axis in the header is the fastest: the array's last.
    order = [array.ndim - 1 - axis for axis in (*others, *reversed(spatial))]
    layers = array.transpose(order)
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([v for v in vectors if v is not None])
    matrix[:3, 3] = _vector(path, fields.get("space origin", "(0,0,0)"))
    units = re.findall(r'"([^"]*)"', fields.get("space units", ""))
    if units and units[0] in _UNITS:
        name, to_mm = _UNITS[units[0]]
        with np.errstate(all="ignore"):
            lengths = np.linalg.norm(matrix[:3, :3], axis=0)
        factor, finding = units_finding(path, name, lengths, to_mm)
        matrix[:3] *= factor
        findings.append(finding)
    matrix[:3] *= np.array(signs)[:, None]
    return layers if others else layers[None], matrix


def _vector(path: Path, text: str) -> NDArray | None:
    """Three numbers from `(a,b,c)`; None from `none`."""
    if text == "none":
        return None
    try:
        vector = np.array([float(word) for word in text.strip("() ").split(",")])
    except ValueError:
        vector = np.empty(0)
    if vector.shape != (3,):
        raise CaseError(f"{path}: expected a vector of three numbers in space; got {text!r}.")
    return vector


def _segments(path: Path, keys: dict[str, str], layers: int) -> tuple[Segment, ...]:
    """The segments that Slicer lists.

    Before Slicer 5 each segment had a layer of its own, and label 1 in it.
    """
    entries: dict[int, dict[str, str]] = {}
    for key, value in keys.items():
        if match := _SEGMENT.fullmatch(key):
            entries.setdefault(int(match[1]), {})[match[2]] = value
    segments = []
    for index, entry in sorted(entries.items()):
        value, layer = entry.get("LabelValue", "1"), entry.get("Layer", str(min(index, layers - 1)))
        name = entry.get("Name") or entry.get("ID") or ""
        if not re.fullmatch(r"\d{1,9}", value) or not re.fullmatch(r"\d{1,5}", layer) or not name:
            raise CaseError(f"{path}: Segment{index} has no name, or an impossible label or layer.")
        if int(layer) >= layers or int(value) < 1:
            raise CaseError(
                f"{path}: {name!r} is label {value} of layer {layer}; the file has {layers} layers."
            )
        segments.append(Segment(name, int(value), int(layer)))
    return tuple(segments)
