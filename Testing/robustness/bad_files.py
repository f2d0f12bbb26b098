"""Files that are broken in every way, as bytes, and calls that cannot be right."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from typing import Any

import numpy as np
import torch

JSON: dict[str, bytes] = {
    "empty": b"",
    "deep": b"[" * 100_000,
    "digits": b'{"a": ' + b"9" * 5000 + b"}",
    "nan": b'{"a": NaN}',
    "huge": b'{"a": 1e400}',
    "list": b"[1]",
    "text": b'"x"',
    "null": b"null",
    "number": b"1",
    "wrong": b'{"protocol": 3, "channels": 4, "goals": {"x": 1}, "cases": 1, "name": []}',
    "latin": b'{"a": "\xe9"}',
    "cut": b'{"a": ',
    "twice": b'{"a": 1, "a": 2}',
    "nul": b"\0\0\0",
}


def _header(dims: tuple[int, int, int], affine: float = 1.0) -> bytes:
    """A NIfTI header of 16-bit voxels, with nothing behind it."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *dims, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<2h", header, 252, 0, 1)
    for row in range(3):
        values = [affine if column == row else 0.0 for column in range(4)]
        struct.pack_into("<4f", header, 280 + 16 * row, *values)
    header[344:348] = b"n+1\0"
    return bytes(header)


def _flipped(good: bytes, place: int) -> bytes:
    return good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :]


def nifti(good: bytes) -> dict[str, bytes]:
    """What may lie where the gzipped NIfTI `good` should."""
    small = bytes(2 * 64)
    return {
        "empty": b"",
        "truncated": good[: len(good) // 2],
        "no-end": good[:-6],
        "flipped": _flipped(good, len(good) // 2),
        "text": b"not an image",
        "32767": gzip.compress(_header((32767, 32767, 32767)) + small),
        "negative": gzip.compress(_header((-4, 4, 4)) + small),
        "no-voxels": gzip.compress(_header((4, 4, 4))),
        "nan-affine": gzip.compress(_header((4, 4, 4), float("nan")) + small),
        "inf-affine": gzip.compress(_header((4, 4, 4), float("inf")) + small),
        "1e30-affine": gzip.compress(_header((4, 4, 4), 1e30) + small),
        "zero-affine": gzip.compress(_header((4, 4, 4), 0.0) + small),
    }


def _npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _zip(content: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("ct.npy", content)
    return file.getvalue()


def _encrypted() -> bytes:
    content = bytearray(_npz(ct=np.zeros(4)))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + place] |= 1
    return bytes(content)


def npz() -> dict[str, bytes]:
    """What may lie where a packed patient should."""
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    return {
        "empty": b"",
        "text": b"not a case",
        "encrypted": _encrypted(),
        "bzip2": _zip(b"x", zipfile.ZIP_BZIP2),
        "npy": array.getvalue(),
        "no-npy": _zip(b"no array"),
        "header": _zip(b"\x93NUMPY\x01\x00\xff\xff" + b" " * 65535),
        "complex": _npz(ct=np.zeros(3, complex), dose=np.zeros(3)),
        "strings": _npz(ct=np.array(["a"]), dose=np.array(["b"])),
        "no-ct": _npz(dose=np.zeros(3)),
        "cut": _npz(ct=np.zeros(100))[:150],
        "vmat-no-ct": _npz(masks=np.zeros((8, 2, 2, 2), np.uint8)),
        "vmat-no-spacing": _npz(ct=np.zeros((2, 2, 2)), masks=np.ones((8, 2, 2, 2), np.uint8)),
    }


def _saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def checkpoints() -> dict[str, bytes]:
    """What may lie where a checkpoint should."""
    first = "stage1.enc1.0.weight"
    return {
        "empty": b"",
        "text": b"no checkpoint",
        "nothing": _saved({}),
        "list": _saved([1, 2]),
        "null": _saved(None),
        "integer-keys": _saved({1: torch.zeros(2)}),
        "1-d": _saved({first: torch.zeros(3)}),
        "expanded": _saved({first: torch.zeros(1).expand(8, 10, 3, 3, 3)}),
        "nan": _saved({first: torch.full((8, 10, 3, 3, 3), float("nan"))}),
        "numbers": _saved({"model": {"a": 1}}),
        "cut": _saved({first: torch.zeros(100)})[:300],
    }


NAMES = {
    "up": "../../x",
    "absolute": "/nowhere/x/y",
    "dot": ".",
    "dots": "..",
    "none": "",
    "nul": "a\0b",
    "newline": "a\nb",
    "long": "x" * 250,
    "bytes": "caf\udce9",
    "backslash": "a\\b",
}
PATHS = {
    "nowhere": "nowhere",
    "nul": "a\0b",
    "long": "x" * 250,
    "longer": "x" * 5000,
    "bytes": "caf\udce9",
    "loop": "loop",
    "device": "/dev/null",
    "endless": "/dev/zero",
}
NUMBERS = ("0", "-1", "nan", "inf", "1e400", "x", "", "9" * 400)
DEVICES = ("x", "", "cuda:99", "cuda:-1", "cpu:x", "tpu")
