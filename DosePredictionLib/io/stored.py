"""What the readers of image files share: sizes known before memory is taken, checksums verified."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import CaseError, GeometryError
from ..findings import Finding
from ..volume import Grid

__all__ = [
    "MOST_BYTES",
    "MOST_VOXELS",
    "SPACING_MM",
    "Segment",
    "StoredImage",
    "checked_grid",
    "data_bytes",
    "inflated",
    "plain_numbers",
    "read_data",
    "units_finding",
]

MOST_VOXELS = 2**29
"""Voxels that one volume may have: four times 512×512×512."""

MOST_BYTES = 2**32
"""Bytes that one volume may take in memory."""

SPACING_MM = (0.05, 100.0)
"""Voxel spacings of images of a patient, mm; others are damage or another unit."""

_LONGEST_MM = 2500.0
_LARGEST_MM3 = 2.5e9
"""A whole body in a field of view of one metre: what a model's grid must be able to cover."""
_FARTHEST_MM = 1e5
_DEFLATE_RATIO = 1032
"""Bytes that one byte of a deflate stream can become (RFC 1951: 258 from two bits)."""

_PIECE = 2**17
_SLACK = 2**20
_MOST_SURPLUS = 4096  # padding to a block; a wrong size in voxels leaves more
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Segment:
    """One structure of a file that holds several: its name, label value and layer."""

    name: str
    value: int
    layer: int = 0


@dataclass(frozen=True, eq=False)
class StoredImage:
    """An image as a file holds it.

    Args:
        array: `(layer, z, y, x)`; values as stored, scaling applied.
        grid: of each layer.
        segments: the structures that the header lists; empty when it lists none.
        labels: label value → name, when the header holds such a table.
        findings: what was noticed while the file was read.
    """

    array: NDArray
    grid: Grid
    segments: tuple[Segment, ...] = ()
    labels: dict[int, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def data_bytes(
    path: Path, shape: tuple[int, ...], dtype: np.dtype, stored_bytes: int, deflated: bool
) -> int:
    """Bytes of an array that a header announces; takes no memory for it.

    Args:
        stored_bytes: what the file has for it.
        deflated: whether these are compressed.

    Raises:
        CaseError: a size below one, more than this library reads, or more than the file can hold.
    """
    size = "×".join(map(str, shape))
    if min(shape, default=0) < 1:
        raise CaseError(f"{path} has the impossible size {size} in its header.")
    voxels = 1
    for extent in shape:
        voxels *= int(extent)  # Python's integers do not overflow
    needed = voxels * dtype.itemsize
    if voxels > MOST_VOXELS or needed > MOST_BYTES:
        raise CaseError(
            f"{path} announces {size} voxels of {dtype}, {needed / 1e9:.3g} GB; at most "
            f"{MOST_VOXELS / 1e6:.0f} million voxels and {MOST_BYTES / 1e9:.1f} GB are read. "
            "Crop or resample it, if its header is right."
        )
    if needed > stored_bytes * (_DEFLATE_RATIO if deflated else 1) + (_SLACK if deflated else 0):
        raise CaseError(
            f"{path} is truncated or damaged: its header announces {size} voxels ({needed} "
            f"bytes), and the file holds {stored_bytes}{' compressed' if deflated else ''} bytes. "
            "Copy or export it again."
        )
    return needed


def read_data(
    file: BinaryIO,
    size: int,
    path: Path,
    wbits: int | None,
    findings: list[Finding],
    padding: int = _MOST_SURPLUS,
) -> NDArray[np.uint8]:
    """`size` bytes from where `file` stands to its end: as they lie, or inflated (see `inflated`).

    Args:
        findings: takes a warning where a few bytes more are there than announced.
        padding: how many are a few.

    Raises:
        CaseError: fewer bytes, many more, or a damaged stream.
    """
    if wbits is None:
        content = np.fromfile(file, np.uint8, size)
        surplus = os.fstat(file.fileno()).st_size - file.tell()
        if content.size < size:
            raise CaseError(f"{path} is truncated: {content.size} of {size} bytes are there.")
    else:
        content, surplus = inflated(file, size, path, wbits)
    if surplus > padding:
        raise CaseError(
            f"{path} is damaged: it holds more data than the {size} bytes that its header "
            "announces. Copy or export it again."
        )
    if surplus:
        message = f"{path.name} holds {surplus} bytes more than its header announces."
        findings.append(Finding("file-longer", "warning", message, "Check its size in voxels."))
    return content


def inflated(
    file: BinaryIO, size: int, path: Path, wbits: int = 31
) -> tuple[NDArray[np.uint8], int]:
    """`size` bytes from a gzip (`wbits` 31) or zlib (15) stream, and the number of those behind.

    The stream is read to its end, where its checksum stands: whoever stops when all voxels are
    there never sees it. Several gzip members in a row count as one stream. Of bytes behind, no more
    than matter are counted.

    Raises:
        CaseError: truncated, or a checksum that does not match.
    """
    result = np.empty(size, np.uint8)
    filled = surplus = 0
    engine = zlib.decompressobj(wbits)
    try:
        while piece := file.read(_PIECE):
            while piece:
                if engine.eof:  # one gzip member may follow another; zeros are padding
                    piece = piece.lstrip(b"\0")
                    if not piece:
                        break
                    engine = zlib.decompressobj(wbits)
                output = engine.decompress(piece, max(size - filled, _PIECE))
                piece = engine.unused_data if engine.eof else engine.unconsumed_tail
                kept = min(len(output), size - filled)
                result[filled : filled + kept] = np.frombuffer(output, np.uint8, kept)
                filled += kept
                surplus += len(output) - kept
                if surplus > _MOST_SURPLUS:
                    return result, surplus
    except zlib.error as exception:
        raise CaseError(
            f"{path} is damaged: {exception}. Copy or export it again; its voxels cannot be "
            "trusted."
        ) from exception
    if not engine.eof or filled < size:
        raise CaseError(
            f"{path} is truncated: its compressed data end after {filled} of {size} bytes. Copy or "
            "export it again."
        )
    return result, surplus


def is_gzip(start: bytes) -> bool:
    """Whether a file that begins so is gzipped, whatever its name."""
    return start.startswith(_GZIP)


def checked_grid(path: Path, size: tuple[int, int, int], index_to_world: NDArray) -> Grid:
    """The grid of a 4×4 matrix from index to LPS mm, if a patient can lie on it.

    Raises:
        GeometryError: sheared, not finite, or a spacing, extent or origin out of all proportion.
    """
    try:
        with np.errstate(all="ignore"):  # what overflows is refused here, in one line
            grid = Grid.from_matrix(size, np.asarray(index_to_world, dtype=float))
    except GeometryError as exception:
        raise GeometryError(f"{path}: {' '.join(str(exception).split())}") from exception
    spacing = "×".join(f"{s:.4g}" for s in grid.spacing)
    low, high = SPACING_MM
    if min(grid.spacing) < low or max(grid.spacing) > high:
        raise GeometryError(
            f"{path}: a voxel spacing of {spacing} mm is impossible for a patient; expected "
            f"{low:g} to {high:g} mm. Is the header damaged, or in another unit?"
        )
    extent = [n * s for n, s in zip(grid.size, grid.spacing, strict=True)]
    if max(extent) > _LONGEST_MM or np.prod(extent) > _LARGEST_MM3:
        raise GeometryError(
            f"{path}: {'×'.join(map(str, grid.size))} voxels of {spacing} mm are larger than a "
            f"patient ({'×'.join(f'{e / 1000:.3g}' for e in extent)} m). Correct the spacing in "
            "its header."
        )
    if max(map(abs, grid.origin)) > _FARTHEST_MM:
        raise GeometryError(
            f"{path}: the origin {tuple(f'{o:.4g}' for o in grid.origin)} mm lies more than "
            f"{_FARTHEST_MM / 1000:g} m away. Correct it in the header."
        )
    return grid


def units_finding(path: Path, unit: str, spacing: NDArray, to_mm: float) -> tuple[float, Finding]:
    """What to multiply lengths with that a header gives in another unit than mm, and a warning.

    Some writers fill in the wrong unit: where only mm make a patient, mm it is.
    """
    low, high = SPACING_MM
    fits = min(spacing) * to_mm >= low and max(spacing) * to_mm <= high
    factor = to_mm if fits else 1.0
    read, other = (_spacing_text(spacing * f) for f in (factor, 1.0 if fits else to_mm))
    message = (
        f"{path.name} gives its lengths in {unit}: read as voxels of {read} mm; the other reading "
        f"is {other} mm."
    )
    remedy = "Check a distance in the image, and export it in mm."
    return factor, Finding("image-units", "warning", message, remedy)


def _spacing_text(spacing: NDArray) -> str:
    return "×".join(f"{s:.4g}" for s in spacing)


def plain_numbers(path: Path, dtype: np.dtype) -> np.dtype:
    """The type, if its values are plain numbers.

    Raises:
        CaseError: colours, complex numbers or other records.
    """
    if dtype.kind not in "biuf":
        raise CaseError(f"{path} holds voxels of type {dtype}, which are no plain numbers.")
    return dtype
