"""Pictures of a validation patient in plain numpy, for machines that have no plotting library.

Pictures are uint8 `(y, x, 3)`. Structures have the colors of their protocol.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from DosePredictionLib.evaluation.dvh import dvhs
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume

from .data import TrainingCase

__all__ = ["dvh_picture", "png", "slices_picture"]

Picture = NDArray[np.uint8]

_ZOOM = 3
_MARGIN = 4  # voxels around the dose region
_DEPTHS = (0.25, 0.5, 0.75)  # of the targets' extent in z
_DIFFERENCE_GY = 10.0
_LOW_GY = 2.0  # below, no dose is painted
_OPACITY = 0.65
_TISSUE = (0.34, 0.67)  # black and white, as shares of the CT window
_DOSE_COLORS = ((13, 8, 135), (126, 3, 168), (204, 71, 120), (248, 149, 64), (240, 249, 33))
_DIFFERENCE_COLORS = ((60, 140, 255), (255, 70, 60))

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 660, 420, 44, 34  # the last two are margins for the numbers
_DASH, _GAP = 9, 6
_INK, _RULE = (60, 60, 60), (225, 225, 225)
_DIGITS = (31599, 11415, 29671, 29647, 23497, 31183, 31215, 29266, 31727, 31695)
"""Three by five dots each, the upper left one in the highest bit."""


def slices_picture(case: TrainingCase, dose_gy: NDArray, protocol: StructureProtocol) -> Picture:
    """Three axial slices, one a row: the plan's dose, the predicted one, predicted minus plan.

    Doses run from dark blue to yellow at the plan's maximum; differences from black to blue at
    −10 Gy and to red at 10 Gy. Targets are outlined. The patient's left is on the right.
    """
    masks = {
        channel.color: mask
        for channel, mask in zip(protocol.inputs, _masks(case, protocol), strict=True)
        if channel.role == "target" and mask.any()
    }
    target = np.any(list(masks.values()), axis=0) if masks else case.region
    occupied = np.flatnonzero(target.any(axis=(1, 2)))
    top = float(case.dose_gy.max())
    _, height, width = case.ct.shape
    _, y, x = case.region_box
    within = (_widened(y, height), _widened(x, width))
    rows = []
    for depth in _DEPTHS:
        z = int(occupied[round(depth * (len(occupied) - 1))])
        gray = _enlarged(np.interp(case.ct[z][within], _TISSUE, (0, 255)))[..., None].repeat(3, -1)
        plan, predicted = (_enlarged(each[z][within]) for each in (case.dose_gy, dose_gy))
        panels = [_dose_washed(gray, each, top) for each in (plan, predicted)]
        panels.append(_difference_washed(gray, predicted - plan))
        for color, mask in masks.items():
            inside = _enlarged(mask[z][within])
            edge = inside & ~ndimage.binary_erosion(inside)
            for panel in panels:
                panel[edge] = _rgb(color)
        rows.append(np.concatenate(panels, axis=1))
    return np.concatenate(rows).astype(np.uint8)


def dvh_picture(case: TrainingCase, dose_gy: NDArray, protocol: StructureProtocol) -> Picture:
    """Cumulative DVHs, percent of the volume over Gy: the plan's lines whole, predicted dashed."""
    grid = Grid(case.ct.shape[::-1], case.spacing_mm)
    named = zip(protocol.inputs, _masks(case, protocol), strict=True)
    structures = {
        channel.name: Volume(mask, grid)
        for channel, mask in named
        if channel.role != "external" and mask.any()
    }
    colors = {channel.name: _rgb(channel.color) for channel in protocol.inputs}
    top_gy = 10 * np.ceil(max(case.dose_gy.max(), dose_gy.max(), 1.0) * 1.02 / 10)
    picture = _axes(top_gy)
    axis_gy = np.linspace(0, top_gy, _WIDTH)
    for dose, dashed in ((case.dose_gy, False), (dose_gy, True)):
        for name, curve in dvhs(Volume(dose, grid), structures).items():
            _draw(picture, curve.cumulative(axis_gy), colors[name], dashed)
    return picture


def png(picture: Picture) -> bytes:
    """A picture as a PNG file (RFC 2083)."""
    height, width, _ = picture.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _masks(case: TrainingCase, protocol: StructureProtocol) -> NDArray[np.bool_]:
    return case.labels


def _widened(box: slice, length: int) -> slice:
    return slice(max(box.start - _MARGIN, 0), min(box.stop + _MARGIN, length))


def _enlarged(image: NDArray) -> NDArray:
    """Every pixel `_ZOOM` times as wide and high."""
    return image.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return (red, green, blue)


def _dose_washed(gray: NDArray, dose_gy: NDArray, top_gy: float) -> NDArray:
    """The gray picture `(y, x, 3)` with the dose's color over it."""
    places = np.linspace(0, top_gy, len(_DOSE_COLORS))
    channels = zip(*_DOSE_COLORS, strict=True)
    color = np.stack([np.interp(dose_gy, places, each) for each in channels], axis=-1)
    opacity = _OPACITY * (dose_gy > _LOW_GY)[..., None]
    return (1 - opacity) * gray + opacity * color


def _difference_washed(gray: NDArray, apart_gy: NDArray) -> NDArray:
    """The darkened gray picture under blue or red, the more opaque the larger the difference."""
    opacity = np.clip(np.abs(apart_gy) / _DIFFERENCE_GY, 0, 1)[..., None]
    color = np.where(apart_gy[..., None] < 0, *map(np.array, _DIFFERENCE_COLORS))
    return (1 - opacity) * gray / 2 + opacity * color


def _axes(top_gy: float) -> Picture:
    """White with rules and numbers, every 10 Gy and every 20 percent."""
    picture = np.full((_HEIGHT + _BOTTOM + 12, _LEFT + _WIDTH + 12, 3), 255, dtype=np.uint8)
    area = _area(picture)
    for percent in range(0, 101, 20):
        y = _row(percent)
        area[y, :] = _RULE
        _write(picture, str(percent), y + 12 - 5, _LEFT - 8)
    for gy in range(0, int(top_gy) + 1, 10):
        x = round(gy / top_gy * (_WIDTH - 1))
        area[:, x] = _RULE
        _write(picture, str(gy), 12 + _HEIGHT + 8, _LEFT + x + 6)
    return picture


def _area(picture: Picture) -> Picture:
    """Where the curves are, a view of the picture."""
    return picture[12 : 12 + _HEIGHT, _LEFT : _LEFT + _WIDTH]


def _row(percent: float) -> int:
    return round((1 - percent / 100) * (_HEIGHT - 1))


def _draw(picture: Picture, percents: NDArray, color: tuple[int, int, int], dashed: bool) -> None:
    """A curve two dots wide, one value a column; dashes count along the curve."""
    area = _area(picture)
    rows = np.round((1 - np.asarray(percents) / 100) * (_HEIGHT - 1)).astype(int)
    length = 0.0
    for x in range(_WIDTH):
        low, high = sorted((rows[max(x - 1, 0)], rows[x]))
        ys = np.arange(low, high + 1)
        if dashed:
            ys = ys[(length + np.arange(len(ys))) % (_DASH + _GAP) < _DASH]
        length += len(range(low, high + 1))
        for shift in (0, 1):
            area[np.minimum(ys + shift, _HEIGHT - 1), x] = color


def _write(picture: Picture, text: str, top: int, edge: int) -> None:
    """Digits of 6 × 10 dots, the last one ending at `edge`."""
    for place, digit in enumerate(reversed(text)):
        bits = np.array([int(bit) for bit in f"{_DIGITS[int(digit)]:015b}"], dtype=bool).reshape(
            5, 3
        )
        dots = bits.repeat(2, axis=0).repeat(2, axis=1)
        left = edge - 8 * (place + 1)
        picture[top : top + 10, left : left + 6][dots] = _INK
