"""Targets by rule, after contouring guidelines, and simpler than they are.

Nodes: 7 mm around the iliac vessels, without muscle and bone, and 10 mm in front of the sacrum:
Taylor, A. et al., Int. J. Radiat. Oncol. Biol. Phys. 63 (2005) 1604. Prostate bed: Michalski, J. M.
et al., ibid. 76 (2010) 361, DOI 10.1016/j.ijrobp.2009.02.006. Rectum: Valentini, V. et al.,
Radiother. Oncol. 120 (2016) 195. Endometrium and cervix: Small, W. et al., Int. J. Radiat. Oncol.
Biol. Phys. 109 (2021) 413, DOI 10.1016/j.ijrobp.2020.08.061.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from DosePredictionLib.mask import majority

from .population import Patient
from .shapes import Array, Floats

__all__ = ["planning_target"]

Mask = NDArray[np.bool_]


def planning_target(
    patient: Patient,
    parts: dict[str, Array],
    height_mm: Floats,
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
    region = _Region(
        parts,
        height_mm,
        tuple(reversed(spacing_mm)),
        nodes_above_mm=float(rng.uniform(8, 22)),
        nodes_below_mm=float(rng.uniform(96, 118)),
    )
    inside, bone = region["inside"], region["bone"]
    clinical = _clinical(patient, region, rng)
    clinical &= inside & ~bone & ~(region["muscle"] & ~region["vessels"])
    if patient.site in ("prostate", "prostate_only"):
        clinical |= region["Prostate"]
    clinical = ndimage.binary_closing(clinical, iterations=2) & inside & ~bone
    # The nodes of both sides and the vault need not touch each other.
    clinical = _parts(clinical, 0.1 if patient.site in ("endometrium", "nodes") else 1.0)
    margin_mm = float(rng.uniform(6, 9))
    if patient.site == "prostate_only":  # as of stereotactic plans
        margin_mm -= 3.0
    target = region.grown(clinical, margin_mm) & inside
    return np.stack([ndimage.binary_fill_holes(plane) for plane in target])


@dataclass(frozen=True, eq=False)
class _Region:
    """What a target is drawn from: masks by name, heights, and how far the nodes reach.

    Args:
        parts, height_mm: see `planning_target`.
        sampling: spacing z, y, x, mm.
        nodes_above_mm, nodes_below_mm: between these heights nodes are treated.
    """

    parts: dict[str, Array]
    height_mm: Floats
    sampling: tuple[float, ...]
    nodes_above_mm: float
    nodes_below_mm: float

    def __getitem__(self, name: str) -> Mask:
        """The mask of a part, empty for one that the patient does not have."""
        if name not in self.parts:
            return np.zeros(self.parts["bone"].shape, dtype=bool)
        return majority(self.parts[name])

    def grown(self, mask: Mask, margin_mm: float) -> Mask:
        """A mask and all within a margin of it."""
        distance_mm = ndimage.distance_transform_edt(~mask, self.sampling)
        return np.asarray(distance_mm <= margin_mm)

    @property
    def low_enough(self) -> Mask:
        """Below the upper end of the nodes, `(z, 1, 1)`."""
        return self.height_mm <= self.nodes_below_mm

    @property
    def nodes(self) -> Mask:
        """The iliac nodes: the vessels with 7 mm around them."""
        around = self.grown(self["vessels"], 7.0)
        return np.asarray(around & (self.height_mm >= self.nodes_above_mm) & self.low_enough)


def _clinical(patient: Patient, region: _Region, rng: np.random.Generator) -> Mask:
    """The clinical target of a site, before bone and muscle are taken out."""
    if patient.site == "prostate":
        near = region.grown(region["Prostate"], 12)
        return region["Prostate"] | (region["SeminalVesicles"] & near)
    if patient.site == "prostate_only":
        return region["Prostate"]
    if patient.site == "nodes":
        return _nodal(region)
    if patient.site == "prostate_bed":
        return _between(region["Bladder"], region["Rectum"], region.height_mm, region.sampling)
    if patient.site == "rectum":
        return _rectal(region, float(rng.uniform(14, 19)))
    vault = region.grown(region["Vagina"], 9) & (region.height_mm > -32)
    if patient.site == "endometrium":
        return _endometrial(region, vault)
    uterus = region["Uterus"]
    parametria = region.grown(uterus, 14) & (region.height_mm < 50)
    return np.asarray(uterus | vault | region.nodes | parametria)


def _rectal(region: _Region, mesorectum_mm: float) -> Mask:
    """Mesorectum, presacral and internal iliac nodes."""
    rectum, bone, height = region["Rectum"], region["bone"], region.height_mm
    mesorectum = region.grown(rectum, mesorectum_mm) & (height > -45) & region.low_enough
    presacral = region.grown(bone, 10) & region.grown(rectum, 30) & region.low_enough
    internal = region.nodes & ~_lateral_front(region)
    clinical = mesorectum | (presacral & (height > 10)) | internal
    return np.asarray(clinical & ~_behind_the_sacrum(bone, rectum))


def _endometrial(region: _Region, vault: Mask) -> Mask:
    """Vault, parametria, iliac and presacral nodes."""
    rectum, bone, height = region["Rectum"], region["bone"], region.height_mm
    parametria = region.grown(vault, 16) & (height > -10) & (height < 35)
    presacral = region.grown(bone, 10) & region.grown(rectum, 26) & region.low_enough
    presacral = presacral & (height > 65) & ~_behind_the_sacrum(bone, rectum)
    clinical = vault | parametria | region.nodes | presacral
    return np.asarray(clinical & ~(rectum | region["Bladder"]))


def _nodal(region: _Region) -> Mask:
    """Iliac nodes of both sides, joined in front of the sacrum: a horseshoe about the bowel."""
    rectum, bone, height = region["Rectum"], region["bone"], region.height_mm
    presacral = region.grown(bone, 10) & region.grown(rectum, 26) & region.low_enough
    presacral = presacral & (height > 50) & ~_behind_the_sacrum(bone, rectum)
    return np.asarray((region.nodes | presacral) & ~(rectum | region["Bladder"]))


def _between(bladder: Mask, rectum: Mask, height_mm: Floats, sampling: tuple[float, ...]) -> Mask:
    """The prostate's bed: between the bladder's neck and the rectum."""
    to_bladder = ndimage.distance_transform_edt(~bladder, sampling)
    to_rectum = ndimage.distance_transform_edt(~rectum, sampling)
    low = (height_mm > -32) & (height_mm < 26)
    near = (to_bladder + to_rectum < 62) & (to_rectum < 34)
    return np.asarray(low & near & ~bladder & ~rectum)


def _behind_the_sacrum(bone: Mask, rectum: Mask) -> Mask:
    """Where bone lies in front, not counting bone in front of the rectum."""
    rows = np.arange(bone.shape[1]).reshape(1, -1, 1)
    middle = int(np.argwhere(rectum)[:, 1].mean())
    return np.maximum.accumulate(bone & (rows > middle), axis=1)


def _lateral_front(region: _Region) -> Mask:
    """The external iliac region, in front of the femoral heads: no target of rectal cancer."""
    rectum = region["Rectum"]
    rows = np.flatnonzero(rectum.any(axis=(0, 2)))
    front = np.zeros_like(rectum)
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
