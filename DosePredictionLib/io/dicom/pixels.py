"""Stored pixel values, decoded in bounded memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import CaseError
from .files import DicomFile, damage_in

__all__ = ["stored_pixels"]

_LARGEST_PIXELS = 2**29
_NATIVE = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
)


def stored_pixels(file: DicomFile) -> NDArray:
    """Integers as stored: `(y, x)`, or `(frame, y, x)` of a multi-frame file.

    Raises:
        CaseError: no pixels, too few of them, several values a pixel, an absurd size, or a
            compression that no installed codec decodes.
    """
    item, path = file.item, file.path
    if not item.has("PixelData"):
        raise CaseError(f"{path} holds no pixels: it is truncated, or not an image.")
    rows, columns = item.integer("Rows"), item.integer("Columns")
    frames, bits = item.integer("NumberOfFrames", 1), item.integer("BitsAllocated")
    if item.integer("SamplesPerPixel", 1) != 1:
        raise CaseError(f"{path} has several values a pixel; a CT or a dose has one.")
    if min(rows, columns, frames) < 1 or bits not in (8, 16, 32):
        raise CaseError(f"{path}: {columns}×{rows}×{frames} pixels of {bits} bits are no image.")
    wanted = rows * columns * frames
    if wanted > _LARGEST_PIXELS:
        raise CaseError(f"{path} claims {columns}×{rows}×{frames} pixels, more than is read.")
    with damage_in(path):
        dataset = item.dataset
        syntax = dataset.file_meta.TransferSyntaxUID if hasattr(dataset, "file_meta") else None
        if syntax is not None and syntax not in _NATIVE:
            try:
                return np.asarray(dataset.pixel_array)
            except (RuntimeError, NotImplementedError, ValueError) as exception:
                raise CaseError(
                    f"{path} is compressed ({syntax.name!r}) and no codec installed here "
                    "decodes it: install pylibjpeg[all], or export it uncompressed."
                ) from exception
        held = len(dataset.PixelData)
        if held < wanted * bits // 8:
            raise CaseError(
                f"{path} is truncated: it holds {held} of {wanted * bits // 8} bytes of pixels."
            )
        return np.asarray(dataset.pixel_array)
