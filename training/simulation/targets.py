"""Targets by rule, as contouring guidelines describe them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .population import Patient
from .shapes import Array

__all__ = ["planning_target"]

Mask = NDArray[np.bool_]


def planning_target(
    patient: Patient,
    parts: dict[str, Array],
    height_mm: NDArray,
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
) -> Mask:
    """The PTV: clinical target by site, without bone, and its margin.

    Args:
        parts: occupancy `(z, y, x)` of organs, "vessels", "bone", "muscle" and "inside" (more than
            5 mm below the skin).
        height_mm: z of each slice above the femoral heads, `(z, 1, 1)`.
        spacing_mm: x, y, z.
        rng: for the margins.
    """
    sampling = tuple(reversed(spacing_mm))
    bone, inside = parts["bone"] > 0.5, parts["inside"] > 0.5

    def grown(mask: Mask, margin_mm: float) -> Mask:
        return ndimage.distance_transform_edt(~mask, sampling) <= margin_mm

    def of(name: str) -> Mask:
        return parts[name] > 0.5 if name in parts else np.zeros_like(bone)

    low = height_mm >= float(rng.uniform(8, 22))
    high = height_mm <= float(rng.uniform(96, 118))
    nodes = grown(of("vessels"), 7.0) & low & high
    rectum = of("Rectum")
    if patient.site == "prostate":
        clinical = of("Prostate") | (of("SeminalVesicles") & grown(of("Prostate"), 12))
    elif patient.site == "prostate_bed":
        clinical = _between(of("Bladder"), rectum, height_mm, sampling)
    elif patient.site == "rectum":
        mesorectum = grown(rectum, float(rng.uniform(14, 19))) & (height_mm > -45) & high
        presacral = grown(bone, 10) & grown(rectum, 30) & high & (height_mm > 10)
        clinical = mesorectum | presacral | (nodes & ~_lateral_front(parts))
        clinical &= ~_behind_the_sacrum(bone, rectum)
    elif patient.site == "endometrium":
        vault = grown(of("Vagina"), 9) & (height_mm > -32)
        parametria = grown(vault, 16) & (height_mm > -10) & (height_mm < 35)
        presacral = grown(bone, 10) & grown(rectum, 26) & high & (height_mm > 65)
        clinical = vault | parametria | nodes | (presacral & ~_behind_the_sacrum(bone, rectum))
        clinical &= ~(rectum | of("Bladder"))
    else:
        vault = grown(of("Vagina"), 9) & (height_mm > -32)
        clinical = of("Uterus") | vault | nodes | (grown(of("Uterus"), 14) & (height_mm < 50))
    clinical &= inside & ~bone & ~(of("muscle") & ~of("vessels"))
    clinical |= of("Prostate") if patient.site == "prostate" else False
    clinical = ndimage.binary_closing(clinical, iterations=2) & inside & ~bone
    # The nodes of both sides and the vault need not touch each other.
    clinical = _parts(clinical, 0.1 if patient.site == "endometrium" else 1.0)
    target = grown(clinical, float(rng.uniform(6, 9))) & inside
    return np.stack([ndimage.binary_fill_holes(plane) for plane in target])


def _between(bladder: Mask, rectum: Mask, height_mm: NDArray, sampling: tuple) -> Mask:
    """The prostate's bed: between the bladder's neck and the rectum."""
    to_bladder = ndimage.distance_transform_edt(~bladder, sampling)
    to_rectum = ndimage.distance_transform_edt(~rectum, sampling)
    low = (height_mm > -32) & (height_mm < 26)
    return low & (to_bladder + to_rectum < 62) & (to_rectum < 34) & ~bladder & ~rectum


def _behind_the_sacrum(bone: Mask, rectum: Mask) -> Mask:
    """Where bone lies in front, not counting bone in front of the rectum."""
    rows = np.arange(bone.shape[1]).reshape(1, -1, 1)
    middle = int(np.argwhere(rectum)[:, 1].mean())
    return np.maximum.accumulate(bone & (rows > middle), axis=1)


def _lateral_front(parts: dict[str, Array]) -> Mask:
    """The external iliac region, in front of the femoral heads: no target of rectal cancer."""
    shape = parts["bone"].shape
    rows = np.flatnonzero((parts["Rectum"] > 0.5).any(axis=(0, 2)))
    front = np.zeros(shape, dtype=bool)
    if rows.size:
        front[:, : max(int(rows.mean()) - 8, 0)] = True
    return front


def _parts(mask: Mask, share: float) -> Mask:
    """The connected parts that are at least a share of the largest."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count <= 1:
        return mask
    sizes = np.bincount(labels.reshape(-1))
    sizes[0] = 0
    if share >= 1:
        return np.asarray(labels == int(sizes.argmax()))
    return np.asarray((sizes >= share * sizes.max())[labels])
