"""TotalSegmentator's contours in the terms of pelvic protocols.

Its tasks `total` and `total_v1` (Wasserthal et al. 2023, doi 10.1148/ryai.230024) have whole
femurs, bones without marrow, and no rectum. What can be made of them is made here, and said.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from ..findings import Finding
from ..mask import Mask

__all__ = ["NAMES", "SOURCE", "in_pelvic_terms", "is_totalsegmentator", "name_of_type"]

SOURCE = "TotalSegmentator"

NAMES = frozenset(
    {
        *("urinary_bladder", "small_bowel", "colon", "duodenum", "prostate", "sacrum"),
        *("spinal_cord", "hip_left", "hip_right", "femur_left", "femur_right"),
        *("vertebrae_L5", "gluteus_maximus_left", "gluteus_maximus_right"),
        *("iliopsoas_left", "iliopsoas_right"),
    }
)
_TYPES = {
    "89837001": "urinary_bladder",
    "30315005": "small_bowel",
    "71854001": "colon",
    "38848004": "duodenum",
    "41216001": "prostate",
    "54735007": "sacrum",
    "2748008": "spinal_cord",
    "29836001": "hip",
    "71341001": "femur",
    "49668003": "vertebrae_L5",
    "181674001": "gluteus_maximus",
    "68455001": "iliopsoas",
}
"""Type by SNOMED CT → name, of those whose side is a modifier without it."""

_SIDES = {"7771000": "_left", "24028007": "_right", "": ""}
_FEWEST_NAMES = 3
_BONES = ("hip_left", "hip_right", "sacrum", "vertebrae_L5")
_HEADS = {"femur_left": "FemurHead_L", "femur_right": "FemurHead_R"}
_MARROW = "Marrow"

_CAP_MM = 15.0  # below the top: the greater trochanter begins at the center of the head
_BEYOND_MM = 2.0  # of the fitted surface: voxels and what is not quite a sphere
_RADIUS_MM = (15.0, 32.0)
_WORST_FIT_MM = 2.5
_FITS = 8
_DIRECTIONS, _LEAST_COVERED = 200, 0.75


class _Sphere(NamedTuple):
    """In LPS mm; `residual_mm` is the root mean square distance of the surface that it fits."""

    center_mm: NDArray[np.float64]
    radius_mm: float
    residual_mm: float


def is_totalsegmentator(names: Collection[str]) -> bool:
    """Whether structures are called as TotalSegmentator calls them: three or more exactly so."""
    return len(NAMES & set(names)) >= _FEWEST_NAMES


def name_of_type(type_code: str, modifier_code: str = "") -> str | None:
    """TotalSegmentator's name of what SNOMED CT calls by a type and a side; None: none of these.

    Its extension for 3D Slicer labels segments in plain words and keeps such codes with them.
    """
    name = _TYPES.get(type_code, "") + _SIDES.get(modifier_code, "?")
    return name if name in NAMES else None


def in_pelvic_terms(
    structures: Mapping[str, Mask],
) -> tuple[dict[str, Mask], list[Finding]]:
    """Structures with femoral heads in place of femurs, and marrow beside the bones.

    A structure that is there already is left as it is. Structures of another origin come back
    unchanged.

    Returns:
        The structures, and findings that say what was made of what, and what is not there.
    """
    if not is_totalsegmentator(structures):
        return dict(structures), []
    made, findings = dict(structures), []
    for femur, head in _HEADS.items():
        if femur in made and head not in made:
            findings.append(_cut_head(made, femur, head))
    if _MARROW not in made:
        findings += _unite_bones(made)
    if not any("rect" in name.lower() for name in made):
        findings.append(
            Finding(
                "totalsegmentator-no-rectum",
                "warning",
                "TotalSegmentator contours no rectum, only the colon.",
                "Contour it by hand, or let a model find it (dose-prediction segment "
                "--fill-missing), and check it.",
            )
        )
    return made, findings


def _cut_head(made: dict[str, Mask], femur: str, head: str) -> Finding:
    """Put the head in the femur's place, if it can be found."""
    mask = made[femur]
    sphere = _head_of(mask)
    if sphere is None:
        return Finding(
            "femur-not-cut",
            "warning",
            f"No head was found at the top of {femur}: the CT may end in it, or it is an implant.",
            "Contour the head by hand, or leave the channel empty.",
            femur,
        )
    made[head] = _within(mask, sphere)
    del made[femur]
    return Finding(
        "derived-femoral-head",
        "info",
        f"{head} was cut from TotalSegmentator's {femur} by a sphere of {sphere.radius_mm:.0f} mm "
        f"about ({', '.join(f'{mm:.0f}' for mm in sphere.center_mm)}) mm; the rest of the femur is "
        "left out.",
        structure=head,
        position_mm=tuple(float(mm) for mm in sphere.center_mm),  # type: ignore[arg-type]
    )


def _head_of(femur: Mask) -> _Sphere | None:
    """The sphere of a femur's head, or None if there is none.

    Femoral heads are spheres to a millimetre or two (Lopes et al. 2015, doi 10.1115/1.4031650, who
    fit spheres and less simple shapes). The first sphere is fitted to the surface of the topmost
    15 mm, which are the head's alone; the following ones to the surface that lies within 3 mm of
    the one before and not below its center, where the neck leaves it.
    """
    points = _surface_mm(femur)
    if len(points) < 30:
        return None
    top = points[:, 2].max()
    sphere = _fitted(points[points[:, 2] >= top - _CAP_MM])
    for _ in range(_FITS):
        if sphere is None:
            return None
        apart = np.linalg.norm(points - sphere.center_mm, axis=1) - sphere.radius_mm
        upper = points[:, 2] >= sphere.center_mm[2]
        sphere = _fitted(points[(np.abs(apart) <= 3.0) & upper])
    if sphere is None:
        return None
    low, high = _RADIUS_MM
    good = low <= sphere.radius_mm <= high and sphere.residual_mm <= _WORST_FIT_MM
    return sphere if good and _covered(sphere, points, femur) >= _LEAST_COVERED else None


def _covered(sphere: _Sphere, points: NDArray[np.float64], femur: Mask) -> float:
    """Share of a sphere's upper half that a surface lies near: a neck's end covers little of it."""
    number = np.arange(_DIRECTIONS)
    height = (number + 0.5) / _DIRECTIONS  # equal areas
    turn, across = number * np.pi * (3 - np.sqrt(5)), np.sqrt(1 - height**2)
    way = np.c_[across * np.cos(turn), across * np.sin(turn), height]
    apart, _ = cKDTree(points).query(sphere.center_mm + sphere.radius_mm * way)
    return float((apart <= 2.0 + max(femur.grid.spacing) / 2).mean())


def _fitted(points: NDArray[np.float64]) -> _Sphere | None:
    """The least-squares sphere: |p|² = 2 c·p + (r² − |c|²) is linear in c and r² − |c|²."""
    if len(points) < 20:
        return None
    middle = points.mean(0)
    p = points - middle
    matrix = np.c_[2 * p, np.ones(len(p))]
    solved, _, rank, _ = np.linalg.lstsq(matrix, (p**2).sum(1), rcond=None)
    if rank < 4:
        return None
    center = solved[:3]
    radius = float(np.sqrt(max(solved[3] + (center**2).sum(), 0.0)))
    residual = np.linalg.norm(p - center, axis=1) - radius
    return _Sphere(center + middle, radius, float(np.sqrt((residual**2).mean())))


def _surface_mm(mask: Mask) -> NDArray[np.float64]:
    """Centers of the outermost voxels, LPS mm; those that the CT's edge cuts are no surface."""
    box = mask.bounding_box(margin=1)
    if box is None:
        return np.zeros((0, 3))
    block = mask.within(box) >= 0.5
    surface = block & ~ndimage.binary_erosion(block, border_value=1)
    index = np.argwhere(surface) + [edge.start for edge in box]
    return mask.grid.world_from_index(index[:, ::-1].astype(float))


def _within(mask: Mask, sphere: _Sphere) -> Mask:
    """The part of a mask inside a sphere and a little more."""
    array = mask.majority()
    index = np.argwhere(array)
    apart = np.linalg.norm(
        mask.grid.world_from_index(index[:, ::-1].astype(float)) - sphere.center_mm, axis=1
    )
    kept = index[apart <= sphere.radius_mm + _BEYOND_MM]
    head = np.zeros_like(array)
    head[tuple(kept.T)] = True
    return Mask(head, mask.grid)


def _unite_bones(made: dict[str, Mask]) -> list[Finding]:
    """Add the bones of the pelvis as marrow: their outer contours, not the red marrow in them."""
    there = [name for name in _BONES if name in made and not made[name].is_empty]
    missing = [name for name in _BONES if name not in there]
    if not there:
        return []
    if set(missing) - {"vertebrae_L5"}:
        return [
            Finding(
                "marrow-not-derived",
                "warning",
                f"Marrow is not made of {', '.join(there)}: {', '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} missing.",
                "Contour them with TotalSegmentator, or leave the channel empty.",
            )
        ]
    union = np.zeros(made[there[0]].grid.shape, dtype=bool)
    for name in there:
        union |= made[name].majority()
    made[_MARROW] = Mask(union, made[there[0]].grid)
    without = "; L5 is missing and left out" if missing else ""
    return [
        Finding(
            "derived-marrow",
            "info",
            f"Marrow is TotalSegmentator's {', '.join(there)} as whole bones{without}.",
            structure=_MARROW,
        )
    ]
