"""A simulated patient as a case: CT and structures on a grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from DosePredictionLib.case import Case, Prescription
from DosePredictionLib.volume import Grid, Volume

from .anatomy import Anatomy, build_anatomy
from .population import Patient
from .shapes import Array, Shrunk, Space, Union
from .targets import planning_target

__all__ = ["phantom_grid", "simulate_anatomy"]

_AIR, _FAT, _MUSCLE, _SKIN = -1000.0, -105.0, 52.0, -20.0
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
    axes = tuple(
        o + s * np.arange(n) for o, s, n in zip(grid.origin, grid.spacing, grid.size, strict=True)
    )
    shift = _deformation(grid, patient.deformation_mm, rng)
    space = Space(axes, shift, grid.spacing)  # type: ignore[arg-type]
    anatomy = build_anatomy(patient)
    depth = -space.distance(anatomy.trunk)
    body = np.clip(0.5 + depth / grid.spacing[0], 0, 1)
    ct, parts = _painted(space, anatomy, patient, depth, body, axes, rng)
    height = axes[2].reshape(-1, 1, 1)
    target = planning_target(patient, parts, height, grid.spacing, rng)
    structures = {"PTV": target, "Body": body >= 0.5}
    for name in ("Bladder", "Rectum", "Small_Intestine", "Marrow", "SpinalCord"):
        structures[name] = parts[name] > 0.5
    structures |= {name: space.occupancy(head) > 0.5 for name, head in anatomy.femur_heads.items()}
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
    axes: tuple[NDArray, ...],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int16], dict[str, Array]]:
    """The CT in HU, and the occupancy of what targets and structures are made of."""
    ct = np.full(space.shape, _FAT, dtype=np.float32)

    def paint(occupancy: Array, hu: float | Array) -> None:
        nonlocal ct
        ct = ct * (1 - occupancy) + occupancy * hu

    cavity = space.occupancy(anatomy.cavity)
    wall = np.clip((depth - _fat_thickness(anatomy, axes)) / 3.0 + 0.5, 0, 1)
    muscle = np.maximum(wall * (1 - cavity), np.minimum(wall, space.occupancy(anatomy.muscles)))
    muscle *= np.clip(depth / 6.0, 0, 1)
    # Strands of fat between the muscles.
    texture = _noise(space.shape, 4.0, rng)
    muscle = muscle * np.clip(1.15 - 0.55 * np.clip(texture - 1.0, 0, 1), 0, 1)
    paint(muscle, _MUSCLE)
    parts = {"muscle": muscle, "inside": (depth > 5.0).astype(np.float32)}
    bones = {name: space.occupancy(bone) for name, bone in anatomy.bones.items()}
    bone = np.max(list(bones.values()), axis=0)
    for name, shape in anatomy.organs.items():
        occupancy = space.occupancy(shape) * (1 - bone) * np.clip(depth / 8.0, 0, 1)
        parts[name] = occupancy
    _yield_to_each_other(parts, anatomy)
    for name, hu in _ORGAN_HU.items():
        if name in parts:
            paint(parts[name], hu)
    if patient.bowel_contrast_hu:
        inside = np.clip(_eroded(parts["Small_Intestine"], space.spacing_mm, 4.0), 0, 1)
        paint(inside, patient.bowel_contrast_hu)
    parts["vessels"] = space.occupancy(anatomy.vessels) * (1 - bone)
    paint(parts["vessels"] * (1 - parts["Bladder"]), patient.vessel_hu)
    gas = space.occupancy(anatomy.bowel_gas) * (parts["Small_Intestine"] > 0.3)
    if anatomy.rectum_gas is not None:
        gas = np.maximum(gas, space.occupancy(anatomy.rectum_gas) * (parts["Rectum"] > 0.3))
    paint(gas, -920.0)
    inner = space.occupancy(Union([Shrunk(b, _CORTEX_MM) for b in anatomy.bones.values()]))
    trabeculae = patient.marrow_hu + 35 * _noise(space.shape, 1.2, rng)
    cortex = np.where(axes[2].reshape(-1, 1, 1) < -60, 1150.0, 620.0)
    paint(bone, cortex.astype(np.float32))
    paint(inner, trabeculae)
    canal = space.occupancy(anatomy.canal)
    paint(canal, 18.0)
    parts |= {"bone": bone, "SpinalCord": canal}
    femurs = np.maximum(bones["femur_left"], bones["femur_right"])
    above = (axes[2] > -45).reshape(-1, 1, 1)
    parts["Marrow"] = inner * above * (1 - canal) * (femurs < 0.9)
    skin = np.clip(1 - np.abs(depth - 1.0) / 1.5, 0, 1)
    paint(skin, _SKIN)
    ct = ct * body + _AIR * (1 - body)
    if patient.couch:
        ct = _with_couch(ct, body, anatomy.trunk.couch_y_mm, axes)
    blur = 0.45
    ct = ndimage.gaussian_filter(ct, blur)
    grain = (
        patient.noise_hu
        * 1.6
        * ndimage.gaussian_filter(rng.standard_normal(space.shape, dtype=np.float32), 0.6)
        / 0.45
    )
    ct = ct + grain * np.where(body > 0.5, 1.0, 0.35)
    return np.clip(np.rint(ct), -1000, 3000).astype(np.int16), parts


def _yield_to_each_other(parts: dict[str, Array], anatomy: Anatomy) -> None:
    """Organs do not overlap: the one that comes first keeps its place."""
    order = ("Rectum", "Prostate", "Bladder", "Uterus", "Vagina", "SeminalVesicles", "Sigmoid")
    taken = np.zeros_like(parts["Bladder"])
    for name in (*order, "Small_Intestine"):
        if name in parts:
            parts[name] = np.minimum(parts[name], 1 - taken)
            taken = np.maximum(taken, parts[name])


def _fat_thickness(anatomy: Anatomy, axes: tuple[NDArray, ...]) -> Array:
    """Thickness of the subcutaneous fat by direction, mm, `(1, y, x)`: thick at the sides."""
    x, y = axes[0][None, :], axes[1][:, None]
    angle = np.arctan2(y, np.abs(x))  # 0 at the side, −90 in front, 90 at the back
    side = np.cos(angle) ** 2
    front = np.clip(-np.sin(angle), 0, 1) ** 2
    back = np.clip(np.sin(angle), 0, 1) ** 2
    thickness = anatomy.fat_mm * (1.0 * side + 0.75 * front + 0.8 * back)
    return (thickness + 3.0).astype(np.float32)[None]


def _with_couch(ct: Array, body: Array, couch_y_mm: float, axes: tuple[NDArray, ...]) -> Array:
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
    return ct * (1 - outside) + density * outside


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
    return tuple(fields)  # type: ignore[return-value]


def _noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> Array:
    """Smooth noise of unit deviation."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    return noise / max(float(noise.std()), 1e-6)


def _eroded(occupancy: Array, spacing_mm: tuple[float, float, float], by_mm: float) -> Array:
    depth = ndimage.distance_transform_edt(occupancy > 0.5, tuple(reversed(spacing_mm)))
    return np.clip((depth - by_mm) / 3 + 0.5, 0, 1).astype(np.float32)
