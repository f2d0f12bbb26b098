"""How a simulated patient's CT was taken: scanner, reconstruction, implants, field of view.

What `phantom.simulate_anatomy` gives is one scanner's CT of a whole pelvis. Networks that find
organs must not depend on it: here slices are thick or thin, sharp or soft, noisy or smooth, the
volume ends early, the field of view cuts the hips, metal throws streaks and the bladder may hold
contrast medium. All ranges are assumed, wide rather than likely.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from DosePredictionLib.case import Case
from DosePredictionLib.hounsfield import AIR_HU
from DosePredictionLib.mask import Mask
from DosePredictionLib.ranges import Seed
from DosePredictionLib.schema import Range, validated
from DosePredictionLib.volume import Grid, Volume

__all__ = ["Scan", "draw_scan", "scanned"]

Metal = Literal["none", "nail_left", "nail_right", "prosthesis_left", "prosthesis_right"]
_METALS: tuple[Metal, ...] = ("nail_left", "nail_right", "prosthesis_left", "prosthesis_right")

_METAL_HU, _HIGHEST_HU = 3000.0, 3071.0
_NECK_MM, _STEM_MM = (52.0, 4.0, -45.0), (58.0, 6.0, -170.0)  # from the head's center, outward
_STREAK_HU, _STREAK_REACH_MM = 420.0, 22.0

_Mm = Annotated[float, Range(0, 1000)]
_Hu = Annotated[float, Range(-1000, 3000)]


@dataclass(frozen=True)
@validated
class Scan:
    """How one CT was taken.

    Args:
        seed: of noise and streaks.
        slice_mm: thickness and distance of the slices.
        blur_mm: standard deviation of the kernel, in plane.
        noise_hu: added to the noise of the patient's own CT, after blurring.
        offset_hu: error of the calibration at water.
        scale: of HU about water.
        top_mm, bottom_mm: what is missing of the anatomy toward head and feet.
        field_mm: diameter of the field of view; 0: it holds the whole patient.
        metal: a nail or a prosthesis in one hip, with streaks.
        bladder_hu: of contrast medium in the bladder; 0: urine.
    """

    seed: Seed
    slice_mm: Annotated[float, Range(0.5, 20)]
    blur_mm: _Mm
    noise_hu: _Hu
    offset_hu: _Hu
    scale: Annotated[float, Range(0.5, 2)]
    top_mm: _Mm
    bottom_mm: _Mm
    field_mm: _Mm
    metal: Metal
    bladder_hu: _Hu


def draw_scan(seed: int) -> Scan:
    """The scan of a seed; equal seeds give equal scans."""
    rng = np.random.default_rng((seed, 11))
    cut_top, cut_bottom, cut_field, has_metal, has_contrast = rng.random(5)
    return Scan(
        seed=seed,
        slice_mm=float(rng.choice([2.0, 2.5, 3.0, 3.0, 4.0, 5.0])),
        blur_mm=float(rng.uniform(0.0, 2.5)),
        noise_hu=float(rng.uniform(0.0, 25.0)),
        offset_hu=float(rng.normal(0.0, 8.0)),
        scale=float(np.clip(rng.normal(1.0, 0.03), 0.9, 1.1)),
        top_mm=float(rng.uniform(0, 80)) if cut_top < 0.4 else 0.0,
        bottom_mm=float(rng.uniform(0, 50)) if cut_bottom < 0.4 else 0.0,
        field_mm=float(rng.uniform(340, 460)) if cut_field < 0.2 else 0.0,
        metal=_METALS[int(rng.integers(len(_METALS)))] if has_metal < 0.2 else "none",
        bladder_hu=float(rng.uniform(80, 500)) if has_contrast < 0.15 else 0.0,
    )


def scanned(case: Case, scan: Scan) -> Case:
    """A simulated case as this scan shows it, on a grid of its own.

    The implant is no structure: the head that it replaces keeps its contour. A structure that is
    cut away entirely is left out.

    Args:
        case: on an axial LPS grid.
        scan: how the CT is taken.
    """
    rng = np.random.default_rng((scan.seed, 13))
    z_mm, y_mm, x_mm = reversed(case.grid.spacing)
    hu = case.ct.array.astype(np.float32)
    if scan.bladder_hu and "Bladder" in case.structures:
        lumen = ndimage.gaussian_filter(case.structures["Bladder"].weights(), 0.7)
        hu += lumen * np.float32(scan.bladder_hu)
    if scan.metal != "none":
        hu = _with_metal(hu, case, scan, rng)
    kernel = (scan.slice_mm / 3 / z_mm, scan.blur_mm / y_mm, scan.blur_mm / x_mm)
    hu = ndimage.gaussian_filter(hu, kernel)
    hu += np.float32(scan.noise_hu) * rng.standard_normal(hu.shape, dtype=np.float32)
    hu = hu * np.float32(scan.scale) + np.float32(scan.offset_hu)
    if scan.field_mm:
        hu[:, _beyond(case.grid, scan.field_mm)] = AIR_HU
    grid = _grid(case.grid, scan)
    ct = Volume(hu, case.grid).resampled_to(grid, "linear", outside=AIR_HU).array
    whole = np.clip(np.rint(ct), AIR_HU, _HIGHEST_HU).astype(np.int16)
    masks = {name: mask.resampled_to(grid).as_binary() for name, mask in case.structures.items()}
    if scan.field_mm:
        outside = _beyond(grid, scan.field_mm)
        masks = {name: _without(mask, outside) for name, mask in masks.items()}
    kept = {name: mask for name, mask in masks.items() if not mask.is_empty}
    return replace(case, ct=Volume(whole, grid), structures=kept)


def _grid(grid: Grid, scan: Scan) -> Grid:
    """The grid of the scan: other slices, and fewer."""
    low, high = (each[2] for each in grid.bounds_mm())
    low, high = low + scan.bottom_mm, high - scan.top_mm
    count = max(2, int((high - low) / scan.slice_mm))
    x, y, _ = grid.origin
    size = (grid.size[0], grid.size[1], count)
    spacing = (grid.spacing[0], grid.spacing[1], scan.slice_mm)
    return Grid(size, spacing, (x, y, low + scan.slice_mm / 2))


def _beyond(grid: Grid, field_mm: float) -> NDArray[np.bool_]:
    """What the field of view, a circle about the grid's middle, leaves out: `(y, x)`."""
    nx, ny, _ = grid.size
    x = (np.arange(nx) - (nx - 1) / 2) * grid.spacing[0]
    y = (np.arange(ny) - (ny - 1) / 2) * grid.spacing[1]
    beyond: NDArray[np.bool_] = np.hypot(x[None, :], y[:, None]) > field_mm / 2
    return beyond


def _without(mask: Mask, outside: NDArray[np.bool_]) -> Mask:
    return Mask(mask.array & ~outside, mask.grid)


def _with_metal(
    hu: NDArray[np.float32], case: Case, scan: Scan, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The CT with a nail or a prosthesis in a hip, and streaks around it on its slices."""
    kind, side = scan.metal.split("_")
    head = case.structures.get("FemurHead_L" if side == "left" else "FemurHead_R")
    box = None if head is None else head.bounding_box()
    if box is None:
        return hu
    middle = [(edge.start + edge.stop - 1) / 2 for edge in reversed(box)]
    center = case.grid.world_from_index(middle)
    outward = np.array([1.0 if side == "left" else -1.0, 1.0, 1.0])
    path = [center, center + outward * _NECK_MM, center + outward * _STEM_MM]
    distance = np.minimum(*(_to_line(case.grid, *ends) for ends in (path[:2], path[1:]))) - 6.5
    if kind == "prosthesis":
        ball = _to_line(case.grid, center, center) - 16.0
        distance = np.minimum(distance, ball)
    metal = np.clip(0.5 - distance / case.grid.spacing[0], 0, 1)
    kernel = _streaks(case.grid, rng)
    for index in np.flatnonzero(metal.any((1, 2))):
        spread = signal.fftconvolve(metal[index], kernel, mode="same")
        strongest = max(float(np.abs(spread).max()), 1e-6)
        inside = hu[index] > AIR_HU + 300
        strength = np.float32(_STREAK_HU * rng.uniform(0.5, 1.0) / strongest)
        hu[index] += np.where(inside, strength * spread, 0)
    solid = hu * (1 - metal) + _METAL_HU * metal
    return solid.astype(np.float32)


def _to_line(grid: Grid, start: NDArray, end: NDArray) -> NDArray[np.float64]:
    """Distance of every voxel from a line between two points, mm, `(z, y, x)`."""
    triples = zip(grid.origin, grid.spacing, grid.size, strict=True)
    axes = [o + s * np.arange(n) for o, s, n in triples]
    x, y, z = axes[0], axes[1][:, None], axes[2][:, None, None]
    along = end - start
    length = max(float(along @ along), 1e-9)
    dx, dy, dz = x - start[0], y - start[1], z - start[2]
    share = np.clip((dx * along[0] + dy * along[1] + dz * along[2]) / length, 0, 1)
    squares = (dx - share * along[0]) ** 2 + (dy - share * along[1]) ** 2
    distance: NDArray[np.float64] = np.sqrt(squares + (dz - share * along[2]) ** 2)
    return distance


def _streaks(grid: Grid, rng: np.random.Generator) -> NDArray[np.float32]:
    """Rays from one point of metal, bright and dark in turn, without a mean, `(y, x)`."""
    nx, ny, _ = grid.size
    x = np.arange(-nx + 1, nx)[None, :] * grid.spacing[0]
    y = np.arange(-ny + 1, ny)[:, None] * grid.spacing[1]
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    rays = sum(np.cos(2 * k * angle + rng.uniform(0, 2 * np.pi)) for k in range(3, 24))
    kernel: NDArray[np.float32] = (rays / (1 + (radius / _STREAK_REACH_MM) ** 2)).astype(np.float32)
    return kernel
