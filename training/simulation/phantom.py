"""A simulated patient as a case: CT and structures on a grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.mask import majority, to_binary
from DosePredictionLib.volume import Grid, Volume

from .anatomy import Anatomy, build_anatomy
from .population import Patient
from .shapes import Array, Floats, Shrunk, Space, Union
from .targets import planning_target

__all__ = ["phantom_grid", "simulate_anatomy"]

_AIR, _GAS, _FAT, _MUSCLE, _SKIN, _CANAL = -1000.0, -920.0, -105.0, 52.0, -20.0, 18.0
_CORTEX, _SHAFT_CORTEX = 620.0, 1150.0
_ORGAN_HU = {
    "Prostate": 42.0,
    "SeminalVesicles": 30.0,
    "Uterus": 58.0,
    "Vagina": 40.0,
    "Sigmoid": 30.0,
    "Small_Intestine": 32.0,
    "Rectum": 34.0,
    "Bladder": 8.0,
}
_CORTEX_MM = 2.6
_SHAFT_BELOW_MM = -60.0  # the shaft of the femur, whose cortex is dense
_MARROW_ABOVE_MM = -45.0  # below it no marrow is contoured
_COARSE_MM = 42.0  # correlation length of the deformation


def phantom_grid(spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)) -> Grid:
    """Axial LPS grid of 462 × 312 × 282 mm around the pelvis."""
    extent, low = (462.0, 312.0, 282.0), (-231.0, -160.0, -112.0)
    size = tuple(round(e / s) for e, s in zip(extent, spacing_mm, strict=True))
    origin = tuple(o + s / 2 for o, s in zip(low, spacing_mm, strict=True))
    return Grid(size, spacing_mm, origin)  # type: ignore[arg-type]


def simulate_anatomy(patient: Patient, grid: Grid | None = None, dose_gy: float = 45.0) -> Case:
    """CT and structures of a patient, without a plan.

    Args:
        patient: its measures.
        grid: axis-aligned LPS; by default `phantom_grid()`.
        dose_gy: prescribed to the PTV, in fractions of 1.8 Gy.
    """
    grid = grid or phantom_grid()
    rng = np.random.default_rng((patient.seed, 3))
    x, y, z = (
        np.add(o, s * np.arange(n), dtype=np.float64)
        for o, s, n in zip(grid.origin, grid.spacing, grid.size, strict=True)
    )
    axes = (x, y, z)
    shift = _deformation(grid, patient.deformation_mm, rng)
    space = Space(axes, shift, grid.spacing)
    anatomy = build_anatomy(patient)
    depth = -space.distance(anatomy.trunk)
    body = np.clip(0.5 + depth / grid.spacing[0], 0, 1)
    ct, parts = _painted(space, anatomy, patient, depth, body, axes, rng)
    target = planning_target(patient, parts, z.reshape(-1, 1, 1), grid.spacing, rng)
    structures = {"PTV": target, "Body": to_binary(body)}
    for name in ("Bladder", "Rectum", "Small_Intestine", "Marrow", "SpinalCord"):
        structures[name] = majority(parts[name])
    structures |= {
        name: majority(space.occupancy(head)) for name, head in anatomy.femur_heads.items()
    }
    return Case(
        name=f"sim_{patient.seed:05d}",
        ct=Volume(ct, grid),
        structures={name: Volume(mask, grid) for name, mask in structures.items() if mask.any()},
        prescription=Prescription(
            {"PTV": dose_gy}, round(dose_gy / 1.8), "9-field IMRT, simulated"
        ),
    )


def _painted(
    space: Space,
    anatomy: Anatomy,
    patient: Patient,
    depth: Array,
    body: Array,
    axes: tuple[Floats, ...],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int16], dict[str, Array]]:
    """The CT in HU, and the occupancy of what targets and structures are made of."""
    canvas = _Canvas(np.full(space.shape, _FAT, dtype=np.float32))
    muscle = _muscle(space, anatomy, depth, axes, rng)
    canvas.paint(muscle, _MUSCLE)
    bones = {name: space.occupancy(bone) for name, bone in anatomy.bones.items()}
    bone: Array = np.max(list(bones.values()), axis=0)
    parts = {"muscle": muscle, "inside": (depth > 5.0).astype(np.float32), "bone": bone}
    for name, shape in anatomy.organs.items():
        parts[name] = space.occupancy(shape) * (1 - bone) * np.clip(depth / 8.0, 0, 1)
    _yield_to_each_other(parts)
    parts["vessels"] = space.occupancy(anatomy.vessels) * (1 - bone)
    _paint_organs(canvas, space, anatomy, patient, parts)
    _paint_skeleton(canvas, space, anatomy, patient, parts, axes, rng)
    femurs = np.maximum(bones["femur_left"], bones["femur_right"])
    above = (axes[2] > _MARROW_ABOVE_MM).reshape(-1, 1, 1)
    # Of the femurs no marrow is contoured.
    parts["Marrow"] = parts["cancellous"] * above * (1 - parts["SpinalCord"]) * (femurs < 0.9)
    canvas.paint(np.clip(1 - np.abs(depth - 1.0) / 1.5, 0, 1), _SKIN)
    ct = canvas.ct * body + _AIR * (1 - body)
    if patient.couch:
        ct = _with_couch(ct, body, anatomy.trunk.couch_y_mm, axes)
    return _scanned(ct, body, patient.noise_hu, rng), parts


class _Canvas:
    """A CT that tissues are painted on, one over the other."""

    def __init__(self, ct: Array) -> None:
        self.ct = ct

    def paint(self, occupancy: Array, hu: float | Array) -> None:
        """Cover what is there by a tissue's share of each voxel."""
        self.ct = self.ct * (1 - occupancy) + occupancy * hu


def _muscle(
    space: Space,
    anatomy: Anatomy,
    depth: Array,
    axes: tuple[Floats, ...],
    rng: np.random.Generator,
) -> Array:
    """Occupancy of muscle: the wall below the subcutaneous fat, and what lies in the cavity."""
    cavity = space.occupancy(anatomy.cavity)
    wall = np.clip((depth - _fat_thickness(anatomy, axes)) / 3.0 + 0.5, 0, 1)
    muscle: Array = np.maximum(
        wall * (1 - cavity), np.minimum(wall, space.occupancy(anatomy.muscles))
    )
    muscle *= np.clip(depth / 6.0, 0, 1)
    # Strands of fat between the muscles.
    texture = _noise(space.shape, 4.0, rng)
    strands: Array = np.clip(1.15 - 0.55 * np.clip(texture - 1.0, 0, 1), 0, 1)
    muscle *= strands
    return muscle


def _paint_organs(
    canvas: _Canvas, space: Space, anatomy: Anatomy, patient: Patient, parts: dict[str, Array]
) -> None:
    """Organs, contrast in the bowel, vessels and gas."""
    for name, hu in _ORGAN_HU.items():
        if name in parts:
            canvas.paint(parts[name], hu)
    if patient.bowel_contrast_hu:
        inside = np.clip(_eroded(parts["Small_Intestine"], space.spacing_mm, 4.0), 0, 1)
        canvas.paint(inside, patient.bowel_contrast_hu)
    canvas.paint(parts["vessels"] * (1 - parts["Bladder"]), patient.vessel_hu)
    gas = space.occupancy(anatomy.bowel_gas) * (parts["Small_Intestine"] > 0.3)
    if anatomy.rectum_gas is not None:
        gas = np.maximum(gas, space.occupancy(anatomy.rectum_gas) * (parts["Rectum"] > 0.3))
    canvas.paint(gas, _GAS)


def _paint_skeleton(
    canvas: _Canvas,
    space: Space,
    anatomy: Anatomy,
    patient: Patient,
    parts: dict[str, Array],
    axes: tuple[Floats, ...],
    rng: np.random.Generator,
) -> None:
    """Cortex, cancellous bone and the spinal canal; the latter two become parts."""
    inner = space.occupancy(Union([Shrunk(b, _CORTEX_MM) for b in anatomy.bones.values()]))
    trabeculae = patient.marrow_hu + 35 * _noise(space.shape, 1.2, rng)
    cortex = np.where(axes[2].reshape(-1, 1, 1) < _SHAFT_BELOW_MM, _SHAFT_CORTEX, _CORTEX)
    canvas.paint(parts["bone"], cortex.astype(np.float32))
    canvas.paint(inner, trabeculae)
    canal = space.occupancy(anatomy.canal)
    canvas.paint(canal, _CANAL)
    parts |= {"cancellous": inner, "SpinalCord": canal}


def _scanned(
    ct: NDArray[np.floating], body: Array, noise_hu: float, rng: np.random.Generator
) -> NDArray[np.int16]:
    """The CT as a scanner shows it: a little blurred, with correlated noise, in whole HU."""
    blurred = ndimage.gaussian_filter(ct, 0.45)
    white = rng.standard_normal(ct.shape, dtype=np.float32)
    grain = noise_hu * 1.6 * ndimage.gaussian_filter(white, 0.6) / 0.45
    noisy = blurred + grain * np.where(majority(body), 1.0, 0.35)
    whole: Array = np.clip(np.rint(noisy), -1000, 3000)
    return whole.astype(np.int16)


def _yield_to_each_other(parts: dict[str, Array]) -> None:
    """Organs do not overlap: the one that comes first keeps its place."""
    order = ("Rectum", "Prostate", "Bladder", "Uterus", "Vagina", "SeminalVesicles", "Sigmoid")
    taken = np.zeros_like(parts["Bladder"])
    for name in (*order, "Small_Intestine"):
        if name in parts:
            parts[name] = np.minimum(parts[name], 1 - taken)
            taken = np.maximum(taken, parts[name])


def _fat_thickness(anatomy: Anatomy, axes: tuple[Floats, ...]) -> Array:
    """Thickness of the subcutaneous fat by direction, mm, `(1, y, x)`: thick at the sides."""
    x, y = axes[0][None, :], axes[1][:, None]
    angle = np.arctan2(y, np.abs(x))  # 0 at the side, −90 in front, 90 at the back
    side = np.cos(angle) ** 2
    front = np.clip(-np.sin(angle), 0, 1) ** 2
    back = np.clip(np.sin(angle), 0, 1) ** 2
    thickness = anatomy.fat_mm * (1.0 * side + 0.75 * front + 0.8 * back)
    whole: Array = (thickness + 3.0).astype(np.float32)[None]
    return whole


def _with_couch(
    ct: Array, body: Array, couch_y_mm: float, axes: tuple[Floats, ...]
) -> NDArray[np.floating]:
    """A table top of foam between thin shells under the back."""
    y = axes[1].reshape(1, -1, 1)
    x = np.abs(axes[0]).reshape(1, 1, -1)
    top = couch_y_mm + 2.0
    across = np.clip((218 - x) / 3 + 0.5, 0, 1)
    foam = np.clip(np.minimum(y - top, top + 50 - y) / 3 + 0.5, 0, 1) * across
    shell = np.maximum(
        np.clip(1 - np.abs(y - top) / 3, 0, 1), np.clip(1 - np.abs(y - top - 50) / 3, 0, 1)
    )
    density = -940 + (1000 - 400) * shell * across * 0.8
    outside = foam * (1 - body)
    below: Floats = ct * (1 - outside) + density * outside
    return below


def _deformation(
    grid: Grid, deviation_mm: float, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """A smooth random displacement, three arrays `(z, y, x)`, mm."""
    coarse = tuple(
        max(4, round(n * s / _COARSE_MM) + 3)
        for n, s in zip(reversed(grid.size), reversed(grid.spacing), strict=True)
    )
    # A spline is a product of splines along the axes: three small matrices.
    splines = [
        ndimage.zoom(np.eye(c, dtype=np.float32), (n / (c - 2), 1), order=3)[:n]
        for n, c in zip(grid.shape, coarse, strict=True)
    ]
    fields = []
    for _ in range(3):
        knots = rng.standard_normal(coarse).astype(np.float32) * deviation_mm
        fields.append(np.einsum("zi,yj,xk,ijk->zyx", *splines, knots, optimize=True))
    x, y, z = fields
    return x, y, z


def _noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> Array:
    """Smooth noise of unit deviation."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    unit: Array = noise / max(float(noise.std()), 1e-6)
    return unit


def _eroded(occupancy: Array, spacing_mm: tuple[float, float, float], by_mm: float) -> Array:
    depth = ndimage.distance_transform_edt(majority(occupancy), tuple(reversed(spacing_mm)))
    eroded: Floats = np.clip((depth - by_mm) / 3 + 0.5, 0, 1)
    return eroded.astype(np.float32)
