"""DVHs of shapes whose answer is known in closed form, with dicompyler-core beside them.

After Nelms et al. 2015 (doi 10.1118/1.4923175): a ball, a cylinder and a cone, axis-aligned and
oblique, at random positions within a voxel, in a linear dose along the shape's axis and (the ball)
in a Gaussian dose about its center. Errors are absolute: dose metrics in percent of
the dose range in the shape, volumes in percent of the shape's volume.

    python -m benchmarks.nelms [--quick] [--write docs/evaluation.md]
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from DosePredictionLib.evaluation.dvh import Dvh, dvh

from .dicompyler_adapter import contours_of, dose_dataset, dvh_by_dicompyler, structure_dataset

Array = NDArray[np.float64]
Shape = Literal["ball", "cylinder", "cone"]
Field = Callable[[Array, Array, Array], Array]
"""A function of x, y and z in mm."""

_MIDDLE_GY = 60.0
_SLOPE_GY_MM = 1.0
_SIGMA_MM = 10.0
_PEAK_GY = 70.0
_SUBSAMPLES = 1000
_PERCENTS = (99.0, 95.0, 50.0, 5.0, 1.0)
_LEVELS = (0.2, 0.5, 0.8)
_BEGIN, _END = "<!-- begin: python -m benchmarks.nelms -->", "<!-- end -->"
_COLUMNS = ("volume", "mean", "D99–D1", "D0.03cc", "V", "max, min")


@dataclass(frozen=True)
class Known:
    """A shape in a dose: what is inside, and the dose that a part of its volume reaches.

    Args:
        inside: signed distance to the surface or less in size, positive inside, mm.
        dose_gy: at a point.
        dose_at: part of the volume 0…1 → dose that at least this part receives, Gy.
        reach_mm: half the edge of a box around the shape.
    """

    inside: Field
    dose_gy: Field
    dose_at: Callable[[float], float]
    reach_mm: float

    @property
    def range_gy(self) -> float:
        """Highest - lowest dose in the shape."""
        return self.dose_at(0.0) - self.dose_at(1.0)

    def part_above(self, dose_gy: float) -> float:
        """Part of the volume that receives at least a dose, 0…1."""
        return float(optimize.brentq(lambda part: self.dose_at(part) - dose_gy, 0.0, 1.0))

    @property
    def mean_gy(self) -> float:
        """Mean dose."""
        parts = (np.arange(2000) + 0.5) / 2000
        return float(np.mean([self.dose_at(part) for part in parts]))


def linear(shape: Shape, volume_cc: float, axis: Array) -> Known:
    """A shape in a dose that rises along its axis."""
    half, radius_of, part_to_height = _profile(shape, volume_cc)

    def inside(x: Array, y: Array, z: Array) -> Array:
        along, across = _cylindrical(axis, x, y, z)
        if shape == "ball":
            return half - np.sqrt(along**2 + across**2)
        slant = np.sqrt(1.25) if shape == "cone" else 1.0
        return np.minimum(half - np.abs(along), (radius_of(along) - across) / slant)

    return Known(
        inside,
        lambda x, y, z: _MIDDLE_GY + _SLOPE_GY_MM * (x * axis[0] + y * axis[1] + z * axis[2]),
        lambda part: _MIDDLE_GY + _SLOPE_GY_MM * half * part_to_height(part),
        1.45 * half,
    )


def gaussian_ball(volume_cc: float) -> Known:
    """A ball about the peak of a Gaussian dose."""
    radius = (volume_cc * 750.0 / np.pi) ** (1 / 3)

    def dose(square: Array | float) -> Array | float:
        return _PEAK_GY * np.exp(-square / (2 * _SIGMA_MM**2))

    return Known(
        lambda x, y, z: radius - np.sqrt(x**2 + y**2 + z**2),
        lambda x, y, z: np.asarray(dose(x**2 + y**2 + z**2)),
        lambda part: float(dose(radius**2 * part ** (2 / 3))),
        radius,
    )


def _profile(
    shape: Shape, volume_cc: float
) -> tuple[float, Callable[[Array], Array], Callable[[float], float]]:
    """Half height, radius over height, and part of the volume above → height / half height.

    Cylinder and cone are as high as their base is wide.
    """
    if shape == "ball":
        radius = (volume_cc * 750.0 / np.pi) ** (1 / 3)

        def height(part: float) -> float:
            if part <= 0 or part >= 1:
                return 1.0 if part <= 0 else -1.0
            return float(optimize.brentq(lambda q: 1 - (2 + 3 * q - q**3) / 4 - part, -1.0, 1.0))

        return radius, lambda along: np.zeros_like(along), height
    if shape == "cylinder":
        half = (volume_cc * 500.0 / np.pi) ** (1 / 3)
        return half, lambda along: np.full_like(along, half), lambda part: 1 - 2 * part
    half = (volume_cc * 1500.0 / np.pi) ** (1 / 3)
    return half, lambda along: (half - along) / 2, lambda part: 1 - 2 * part ** (1 / 3)


def _cylindrical(axis: Array, x: Array, y: Array, z: Array) -> tuple[Array, Array]:
    along = x * axis[0] + y * axis[1] + z * axis[2]
    return along, np.sqrt(np.maximum(x**2 + y**2 + z**2 - along**2, 0.0))


@dataclass(frozen=True)
class Rendered:
    """A known shape on a grid."""

    dose: NDArray[np.float32]
    occupancy: Array
    binary: NDArray[np.bool_]
    spacing: tuple[float, float, float]


def render(known: Known, spacing_mm: float, shift_mm: Array) -> Rendered:
    """Occupancy from 1000 points in voxels near the surface, and the voxels with centers inside."""
    count = 2 * int(np.ceil(known.reach_mm / spacing_mm)) + 8
    axis = (np.arange(count) - (count - 1) / 2) * spacing_mm
    z, y, x = np.meshgrid(*(axis - shift for shift in shift_mm[::-1]), indexing="ij")
    depth = known.inside(x, y, z)
    binary = depth > 0
    occupancy = binary.astype(float)
    near = np.abs(depth) < 0.9 * spacing_mm
    # A low-discrepancy sequence: 1000 different positions along every axis, flat ends included.
    ratios = 1.2207440846057596 ** -np.arange(1, 4)  # of the plastic constant, for three dimensions
    dx, dy, dz = (((0.5 + np.outer(np.arange(_SUBSAMPLES), ratios)) % 1.0 - 0.5) * spacing_mm).T
    places = np.argwhere(near)
    for rows in np.array_split(places, max(1, len(places) // 4000)):
        at = tuple(rows.T)
        points = known.inside(x[at][:, None] + dx, y[at][:, None] + dy, z[at][:, None] + dz)
        occupancy[at] = (points > 0).mean(axis=1)
    dose = known.dose_gy(x, y, z).astype(np.float32)
    return Rendered(np.maximum(dose, 0.0), occupancy, binary, (spacing_mm,) * 3)


def errors(known: Known, volume_cc: float, curve: Dvh) -> list[float]:
    """Absolute errors in percent, in the order of `_COLUMNS`; the worst of each kind."""
    unit = 100.0 / known.range_gy
    doses = [
        abs(_number(curve.dose_at_percent(p)) - known.dose_at(p / 100)) * unit for p in _PERCENTS
    ]
    near_max = abs(_number(curve.dose_at_cc(0.03)) - known.dose_at(0.03 / volume_cc)) * unit
    volumes = []
    for level in _LEVELS:
        dose_gy = known.dose_at(1.0) + level * known.range_gy
        part = _number(curve.volume_at_gy_cc(dose_gy)) / volume_cc
        volumes.append(100.0 * abs(part - known.part_above(dose_gy)))
    extremes = (
        abs(_number(curve.max_gy) - known.dose_at(0.0)) * unit,
        abs(_number(curve.min_gy) - known.dose_at(1.0)) * unit,
    )
    volume = 100.0 * abs(curve.volume_cc / volume_cc - 1)
    mean = abs(_number(curve.mean_gy) - known.mean_gy) * unit
    return [volume, mean, max(doses), near_max, max(volumes), max(extremes)]


def dicompyler_errors(known: Known, volume_cc: float, rendered: Rendered) -> list[float]:
    """The same of dicompyler-core, given the half-occupancy contours of each slice."""
    origin = (0.0, 0.0, 0.0)
    contours = contours_of(rendered.occupancy, rendered.spacing, origin)
    dose = dose_dataset(rendered.dose, rendered.spacing, origin)
    theirs = dvh_by_dicompyler(structure_dataset({"shape": contours}), dose, 1)
    unit = 100.0 / known.range_gy
    doses = [
        abs(float(theirs.dose_constraint(p).value) - known.dose_at(p / 100)) * unit
        for p in _PERCENTS
    ]
    near_max = float(theirs.dose_constraint(0.03, "cm3").value) - known.dose_at(0.03 / volume_cc)
    volumes = []
    for level in _LEVELS:
        dose_gy = known.dose_at(1.0) + level * known.range_gy
        part = float(theirs.volume_constraint(dose_gy, "Gy").value) / volume_cc
        volumes.append(100.0 * abs(part - known.part_above(dose_gy)))
    extremes = (
        abs(float(theirs.max) - known.dose_at(0.0)) * unit,
        abs(float(theirs.min) - known.dose_at(1.0)) * unit,
    )
    volume = 100.0 * abs(float(theirs.volume) / volume_cc - 1)
    mean = abs(float(theirs.mean) - known.mean_gy) * unit
    return [volume, mean, max(doses), abs(near_max) * unit, max(volumes), max(extremes)]


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    shape: str
    volume_cc: float
    spacing_mm: float
    mask: Literal["occupancy", "binary"]
    positions: int


def settings(quick: bool) -> Iterator[Setting]:
    """The rows: the issue's limits first, then coarser grids and other sizes."""
    few, many = (4, 8) if quick else (12, 40)
    shapes = ("ball", "cylinder", "cone", "ball, Gaussian")
    for shape in shapes:
        for volume_cc, spacing_mm in ((1.0, 1.0), (1.0, 2.0), (4.0, 2.0), (20.0, 2.0)):
            yield Setting(shape, volume_cc, spacing_mm, "occupancy", few)
    for shape in shapes:
        for volume_cc, spacing_mm in ((2.0, 1.0), (10.0, 1.0), (20.0, 2.0)):
            yield Setting(shape, volume_cc, spacing_mm, "binary", many)
    for shape in shapes:
        for spacing_mm in (3.0, 5.0):
            yield Setting(shape, 50.0, spacing_mm, "occupancy", few)


def measure(setting: Setting) -> tuple[Array, Array]:
    """Worst (occupancy) or 95th percentile (binary) over positions: ours, and dicompyler-core's."""
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for trial in range(setting.positions):
        shift = rng.uniform(-0.5, 0.5, 3) * setting.spacing_mm
        axis = np.array([0.0, 0.0, 1.0]) if trial % 2 else rng.normal(size=3)
        axis /= np.linalg.norm(axis)
        if setting.mask == "binary" and setting.shape in ("cylinder", "cone"):
            # A flat end along the grid lies anywhere in a voxel: no mask states where.
            axis = rng.normal(size=3)
            axis /= np.linalg.norm(axis)
        known = _known(setting, axis)
        rendered = render(known, setting.spacing_mm, shift)
        mask = rendered.binary if setting.mask == "binary" else rendered.occupancy
        curve = dvh(rendered.dose, mask, spacing_mm=rendered.spacing)
        ours.append(errors(known, setting.volume_cc, curve))
        if trial < 4:
            theirs.append(dicompyler_errors(known, setting.volume_cc, rendered))
    percentile = 95 if setting.mask == "binary" else 100
    return np.percentile(ours, percentile, axis=0), np.max(theirs, axis=0)


def _known(setting: Setting, axis: Array) -> Known:
    if setting.shape == "ball, Gaussian":
        return gaussian_ball(setting.volume_cc)
    return linear(setting.shape, setting.volume_cc, axis)  # type: ignore[arg-type]


def table(quick: bool) -> Iterator[str]:
    """Lines of the Markdown table."""
    head = " | ".join((*_COLUMNS, *(f"dicompyler: {column}" for column in _COLUMNS)))
    yield f"| shape | cc | grid, mm | mask | {head} |"
    yield "|---" * (4 + 2 * len(_COLUMNS)) + "|"
    yield from (_row(setting, *measure(setting)) for setting in settings(quick))


def _row(setting: Setting, ours: Array, theirs: Array) -> str:
    numbers = " | ".join(f"{value:.2f}" for value in (*ours, *theirs))
    return (
        f"| {setting.shape} | {setting.volume_cc:g} | {setting.spacing_mm:g} | {setting.mask} "
        f"| {numbers} |"
    )


def _number(value: float | None) -> float:
    assert value is not None
    return value


def main() -> None:
    """Print the table, and write it between the marks of a Markdown file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer positions")
    parser.add_argument("--write", type=Path, help="Markdown file with the table's marks")
    call = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    lines = []
    for line in table(call.quick):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        lines.append(line)
    if call.write is not None:
        text = call.write.read_text(encoding="utf-8")
        before, rest = text.split(_BEGIN, 1)
        _, after = rest.split(_END, 1)
        body = "\n".join(lines)
        call.write.write_text(f"{before}{_BEGIN}\n{body}\n{_END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
