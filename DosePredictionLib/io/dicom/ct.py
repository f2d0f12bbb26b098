"""A CT series as one volume in Hounsfield units, its geometry taken from the slices' positions.

Nothing is trusted that can be measured: slices are sorted along their normal, and missing,
duplicated, unevenly spaced and tilted slices are found there. What can be put right is, with a
finding; the rest is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ...errors import CaseError, GeometryError
from ...findings import Finding
from ...hounsfield import AIR_HU
from ...origin import Reference
from ...volume import Grid, Volume
from .files import DicomFile
from .pixels import stored_pixels

__all__ = ["CtSeries", "read_ct"]

Array = NDArray[np.float64]

_PLAUSIBLE_HU = (-32768, 65535)
_DUPLICATE_MM = 1e-3
_EVEN = 0.02  # of the spacing: rounding of written positions
_ROUNDED_MM = 0.1  # two positions that are written to a tenth of a millimeter
_SAME_AXES = 1e-3
_MOST_SCOUTS = 3
_MOST_MISSING = 2
_LONGEST_STEP_MM = 10.0
_TILT_DEGREES = 0.1
_LARGEST_TILT_DEGREES = 35.0
_AXIAL_COSINE = 0.7
_TURNED = {"P": "prone", "DL": "on the left side", "DR": "on the right side"}


@dataclass(frozen=True, eq=False)
class CtSeries:
    """A CT in HU with what its slices say of themselves.

    Args:
        slices: the instance behind each slice of the volume; None where one was interpolated.
        patient_position: HFS, FFP …; empty when not stated.
    """

    volume: Volume
    slices: tuple[Reference | None, ...]
    patient_position: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class _Slice:
    file: DicomFile
    position: Array
    axes: Array  # rows: direction of a row, of a column
    spacing: tuple[float, float]  # x, y
    size: tuple[int, int]  # columns, rows


def read_ct(files: Sequence[DicomFile]) -> CtSeries:
    """One series as a volume whose third axis runs along the slices' normal.

    Raises:
        CaseError: damaged or missing pixels, or two different slices at one place.
        GeometryError: slices of different size, spacing or orientation, not axial, or too uneven.
    """
    findings: list[Finding] = []
    slices = _without_scouts([_slice(file) for file in files], findings)
    _require_alike(slices)
    axes = np.vstack([slices[0].axes, np.cross(*slices[0].axes)])
    if abs(axes[2, 2]) < _AXIAL_COSINE:
        raise GeometryError(
            f"{slices[0].file.path}: the slices are not axial (normal {np.round(axes[2], 2)}). "
            "Export the axial series."
        )
    slices.sort(key=lambda each: float(each.position @ axes[2]))
    with ThreadPoolExecutor() as pool:
        pixels = list(pool.map(_hounsfield, slices))
    slices, pixels = _without_duplicates(slices, pixels, axes[2], findings)
    if len(slices) < 2:
        raise GeometryError(f"{slices[0].file.path.parent}: the CT has one slice; two are needed.")
    places = np.array([each.position @ axes.T for each in slices])
    array = _stacked(pixels)
    array = _without_tilt(array, places, slices[0], findings)
    references: list[Reference | None] = [
        Reference(each.file.sop_class, each.file.instance_uid) for each in slices
    ]
    array, references, step = _evenly_spaced(array, references, places[:, 2], slices, findings)
    z, y, x = array.shape
    grid = Grid((x, y, z), (*slices[0].spacing, step), tuple(slices[0].position), tuple(axes.T))
    position = slices[0].file.item.text("PatientPosition", "")
    findings += _position_findings(position)
    return CtSeries(Volume(array, grid), tuple(references), position, tuple(findings))


def _slice(file: DicomFile) -> _Slice:
    item = file.item
    orientation = item.numbers("ImageOrientationPatient", 6).reshape(2, 3)
    if np.abs(orientation @ orientation.T - np.eye(2)).max() > 1e-3:
        raise GeometryError(
            f"{file.path}: ImageOrientationPatient {orientation.ravel().tolist()} does not hold "
            "two perpendicular unit vectors."
        )
    orientation /= np.linalg.norm(orientation, axis=1, keepdims=True)
    row_mm, column_mm = item.numbers("PixelSpacing", 2)
    size = (item.integer("Columns"), item.integer("Rows"))
    position = item.numbers("ImagePositionPatient", 3)
    if min(row_mm, column_mm) <= 0 or min(size) < 2 or np.abs(position).max() > 1e5:
        raise GeometryError(
            f"{file.path}: {size[0]}×{size[1]} pixels of {column_mm:g}×{row_mm:g} mm at "
            f"{position.tolist()} mm are no CT slice."
        )
    return _Slice(file, position, orientation, (float(column_mm), float(row_mm)), size)


def _without_scouts(slices: list[_Slice], findings: list[Finding]) -> list[_Slice]:
    """Slices without the few that are oriented otherwise: scout views that are not marked."""
    alike = _most_alike([each.axes.ravel() for each in slices], _SAME_AXES)
    odd = [each for each, same in zip(slices, alike, strict=True) if not same]
    if not odd or len(odd) > _MOST_SCOUTS or len(odd) >= len(slices) - len(odd):
        return slices
    names = ", ".join(each.file.path.name for each in odd)
    message = (
        f"{names}: oriented otherwise than the other {len(slices) - len(odd)} slices of the CT, "
        "as scout views are; left out."
    )
    findings.append(Finding("ct-scout-left-out", "warning", message))
    return [each for each, same in zip(slices, alike, strict=True) if same]


def _most_alike(values: Sequence[Array], tolerance: float) -> NDArray[np.bool_]:
    """Which values agree with the one that most others agree with."""
    table = np.array(values)
    left, largest = np.ones(len(table), dtype=bool), np.zeros(len(table), dtype=bool)
    while left.any():
        same = np.abs(table - table[np.argmax(left)]).max(axis=1) <= tolerance
        largest = same if same.sum() > largest.sum() else largest
        left &= ~same
    return largest


def _require_alike(slices: Sequence[_Slice]) -> None:
    """Refuse slices of several kinds, naming one of the fewer."""
    kinds = [
        np.concatenate([each.size, np.log(each.spacing) / 1e-4, each.axes.ravel() / _SAME_AXES])
        for each in slices
    ]
    first = slices[int(np.argmax(_most_alike(kinds, 0.99)))]
    for other in slices:
        if other.size != first.size or not np.allclose(other.spacing, first.spacing, rtol=1e-4):
            raise GeometryError(
                f"{other.file.path} has {other.size[0]}×{other.size[1]} pixels of "
                f"{other.spacing[0]:g} mm, {first.file.path.name} {first.size[0]}×{first.size[1]} "
                f"of {first.spacing[0]:g} mm: they are not of one series."
            )
        if np.abs(other.axes - first.axes).max() > _SAME_AXES:
            raise GeometryError(
                f"{other.file.path} is oriented otherwise than {first.file.path.name}: they are "
                "not of one series."
            )


def _hounsfield(each: _Slice) -> NDArray:
    """Rescaled pixels `(y, x)`; integers where slope and intercept are."""
    item = each.file.item
    kind = item.text("RescaleType", "HU") or "HU"
    if kind.upper() not in ("HU", "US"):
        raise CaseError(f"{each.file.path}: RescaleType is {kind!r}; a CT in HU is needed.")
    stored = stored_pixels(each.file)
    if stored.shape != (each.size[1], each.size[0]):
        raise CaseError(f"{each.file.path}: one frame was expected; got {stored.shape}.")
    slope, intercept = item.number("RescaleSlope", 1.0), item.number("RescaleIntercept", 0.0)
    lowest, highest = (float(end) * slope + intercept for end in (stored.min(), stored.max()))
    if slope <= 0 or lowest < _PLAUSIBLE_HU[0] or highest > _PLAUSIBLE_HU[1]:
        raise CaseError(
            f"{each.file.path}: slope {slope:g} and intercept {intercept:g} lead to "
            f"{lowest:g} … {highest:g} HU, which no CT has."
        )
    if slope == 1 and intercept == int(intercept):
        shifted = stored.astype(np.int32) + int(intercept)
        fits = np.iinfo(np.int16)
        if shifted.min() >= fits.min and shifted.max() <= fits.max:
            return shifted.astype(np.int16)
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _without_duplicates(
    slices: list[_Slice], pixels: list[NDArray], normal: Array, findings: list[Finding]
) -> tuple[list[_Slice], list[NDArray]]:
    """One slice at each place; two different ones are refused."""
    kept = [0]
    for index in range(1, len(slices)):
        before = kept[-1]
        step = float((slices[index].position - slices[before].position) @ normal)
        if step > _DUPLICATE_MM:
            kept.append(index)
        elif not np.array_equal(pixels[index], pixels[before]):
            raise CaseError(
                f"{slices[index].file.path} and {slices[before].file.path.name} are different "
                f"slices at one position ({_place(slices[index])}): two scans are mixed. Keep one."
            )
    if len(kept) < len(slices):
        message = f"{len(slices) - len(kept)} slices lay there twice with the same pixels."
        findings.append(Finding("ct-slices-duplicated", "info", message))
    return [slices[i] for i in kept], [pixels[i] for i in kept]


def _stacked(pixels: list[NDArray]) -> NDArray:
    kind = np.int16 if all(each.dtype == np.int16 for each in pixels) else np.float32
    return np.stack(pixels).astype(kind, copy=False)


def _without_tilt(array: NDArray, places: Array, first: _Slice, findings: list[Finding]) -> NDArray:
    """Slices moved within their planes so that they stack along their normal.

    Args:
        places: of each slice along the row, the column and the normal, mm.
    """
    drift = places[:, :2] - places[0, :2]
    length = places[:, 2] - places[0, 2]
    slope = drift.T @ length / (length @ length)
    left_over = np.abs(drift - length[:, None] * slope).max()
    if left_over > 0.1 * min(first.spacing):
        raise GeometryError(
            f"{first.file.path.parent}: the slices are moved against each other by up to "
            f"{left_over:.1f} mm without a pattern: they are not of one scan."
        )
    degrees = float(np.degrees(np.arctan(np.hypot(*slope))))
    if degrees < _TILT_DEGREES:
        return array
    if degrees > _LARGEST_TILT_DEGREES:
        raise GeometryError(
            f"{first.file.path.parent}: the gantry tilt would be {degrees:.0f}°; positions and "
            "orientation contradict each other."
        )
    moved = np.empty(array.shape, dtype=np.float32)
    for index, image in enumerate(array.astype(np.float32)):
        shift = (drift[index, 1] / first.spacing[1], drift[index, 0] / first.spacing[0])
        moved[index] = ndimage.shift(image, shift, order=1, cval=AIR_HU)
    message = f"The CT was taken with a gantry tilt of {degrees:.1f}°; its slices were realigned."
    findings.append(Finding("ct-gantry-tilt", "warning", message, "Check it on the images."))
    return moved


def _evenly_spaced(
    array: NDArray,
    references: list[Reference | None],
    heights: Array,
    slices: Sequence[_Slice],
    findings: list[Finding],
) -> tuple[NDArray, list[Reference | None], float]:
    """Slices at equal steps: as they are, with a few missing ones filled, or resampled."""
    steps = np.diff(heights)
    step = float(np.median(steps))
    mean = float((heights[-1] - heights[0]) / steps.size)
    off = np.abs(heights - heights[0] - mean * np.arange(heights.size)).max()
    if np.abs(steps - mean).max() <= _EVEN * mean or off <= min(_ROUNDED_MM, 0.2 * mean):
        return array, references, mean
    folder = slices[0].file.path.parent
    multiples = np.round(steps / step)
    widest = int(np.argmax(steps))
    between = f"{_place(slices[widest])} and {_place(slices[widest + 1])}"
    if np.abs(steps - multiples * step).max() <= _EVEN * step:
        missing = int(np.sum(multiples - 1))
        if multiples.max() - 1 > _MOST_MISSING:
            raise GeometryError(
                f"{folder}: {int(multiples.max()) - 1} CT slices are missing between {between}; "
                f"at most {_MOST_MISSING} in a row are filled in. Export the series completely."
            )
        text = f"{missing} CT slices are missing ({between}); they were interpolated."
        findings.append(
            Finding("ct-slices-missing", "warning", text, "Export the series completely.")
        )
    else:
        step = float(steps.min())
        if steps.max() > _LONGEST_STEP_MM or step < 0.2 * steps.max():
            raise GeometryError(
                f"{folder}: CT slices lie {steps.min():.2f} to {steps.max():.2f} mm apart (widest "
                f"between {between}): too uneven to resample. Export one series alone."
            )
        text = (
            f"CT slices lie {steps.min():.2f} to {steps.max():.2f} mm apart; they were resampled "
            f"to {step:.2f} mm."
        )
        findings.append(Finding("ct-spacing-uneven", "warning", text))
    count = round(float(heights[-1] - heights[0]) / step) + 1
    wanted = heights[0] + step * np.arange(count)
    low = np.clip(np.searchsorted(heights, wanted, "right") - 1, 0, len(heights) - 2)
    share = np.clip((wanted - heights[low]) / steps[low], 0, 1)
    nearest = low + (share > 0.5)
    exact = np.abs(wanted - heights[nearest]) <= _EVEN * step
    result = np.empty((count, *array.shape[1:]), dtype=np.float32)
    for z in range(count):
        if exact[z]:
            result[z] = array[nearest[z]]
        else:
            result[z] = (1 - share[z]) * array[low[z]] + share[z] * array[low[z] + 1]
    known = [references[n] if e else None for n, e in zip(nearest, exact, strict=True)]
    return result, known, step


def _position_findings(position: str) -> list[Finding]:
    turned = next((text for end, text in _TURNED.items() if position[2:] == end), None)
    if turned is None:
        return []
    message = f"The patient lies {turned} ({position}); models are trained on supine patients."
    return [Finding("patient-not-supine", "warning", message, "Expect a worse prediction.")]


def _place(each: _Slice) -> str:
    return f"z = {each.position[2]:.2f} mm"
