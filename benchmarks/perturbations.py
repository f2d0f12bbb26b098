"""What is done to a case to make it foreign, and by how much: every kind and size, in one place.

Each takes a case and a random generator, and returns the case changed. Nothing else about it
changes: the CT stays where labels move, the labels where the CT changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from DosePredictionLib.case import Case
from DosePredictionLib.mask import Mask
from DosePredictionLib.structures.protocol import StructureProtocol
from DosePredictionLib.volume import Grid, Volume

__all__ = ["KINDS", "Perturbation"]

Change = Callable[[Case, np.random.Generator], Case | None]
"""None: the case does not have what the change is about."""

_AIR_HU = -1024.0


@dataclass(frozen=True)
class Perturbation:
    """One size of one kind of change; those that are `stated` count for the mean."""

    kind: str
    size: str
    change: Change
    stated: bool = True


def _protocol(case: Case) -> StructureProtocol:
    names = {"openkbp": "Mandible", "pelvis": "Rectum"}
    return StructureProtocol.load(
        next((id for id, organ in names.items() if organ in case.structures), "openkbp")
    )


def _organs(case: Case) -> list[str]:
    return [channel.name for channel in _protocol(case).organs if channel.name in case.structures]


def _with_masks(case: Case, masks: Mapping[str, NDArray]) -> Case:
    changed = {name: Mask(array, case.grid) for name, array in masks.items()}
    return replace(case, structures={**case.structures, **changed})


def _with_ct(case: Case, array: NDArray) -> Case:
    return replace(case, ct=Volume(array, case.grid))


def _external(case: Case) -> NDArray[np.bool_]:
    for name in ("External", "Body"):
        if name in case.structures:
            return case.structures[name].array.astype(bool)
    body: NDArray[np.bool_] = case.ct.array > -300
    return body


def _pair_swapped(case: Case, random: np.random.Generator) -> Case | None:
    """The names of the first pair of organs that the case has both of are exchanged."""
    inputs = _protocol(case).inputs
    for index, partner in enumerate(_protocol(case).mirrored):
        left, right = inputs[index].name, inputs[partner].name
        if index < partner and left in case.structures and right in case.structures:
            masks = {left: case.structures[right], right: case.structures[left]}
            return replace(case, structures={**case.structures, **masks})
    return None


def _all_mirrored(case: Case, random: np.random.Generator) -> Case:
    """Every label but the body is mirrored at the body's middle; the CT is not."""
    columns = np.flatnonzero(_external(case).any(axis=(0, 1)))
    ends = int(columns[0] + columns[-1])
    masks = {}
    for name, mask in case.structures.items():
        if name not in ("External", "Body"):
            array = mask.array
            place = ends - np.arange(array.shape[2])
            inside = (place >= 0) & (place < array.shape[2])
            masks[name] = np.where(inside, array[..., np.clip(place, 0, array.shape[2] - 1)], 0)
            masks[name] = masks[name].astype(array.dtype)
    return _with_masks(case, masks)


def _organ_shifted(millimeters: float) -> Change:
    """One organ, drawn at random, moves along an axis and a way that are drawn, too."""

    def change(case: Case, random: np.random.Generator) -> Case:
        name = str(random.choice(_organs(case)))
        axis = int(random.integers(3))
        voxels = round(millimeters / case.grid.spacing[2 - axis]) * int(random.choice((-1, 1)))
        array = case.structures[name].array
        moved = np.zeros_like(array)
        source, target = [slice(None)] * 3, [slice(None)] * 3
        source[axis] = slice(max(0, -voxels), array.shape[axis] - max(0, voxels))
        target[axis] = slice(max(0, voxels), array.shape[axis] - max(0, -voxels))
        moved[tuple(target)] = array[tuple(source)]
        return _with_masks(case, {name: moved})

    return change


def _organ_missing(share: float) -> Change:
    """An organ that at least that share of patients has is not contoured."""
    common = {
        "openkbp": ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Mandible"),
        "pelvis": ("Bladder", "Rectum", "FemurHead_L", "FemurHead_R"),
    }

    def change(case: Case, random: np.random.Generator) -> Case | None:
        choices = [n for n in common[_protocol(case).id] if n in case.structures]
        if not share and choices:
            choices = [n for n in _organs(case) if n not in choices]
        if not choices:
            return None
        gone = str(random.choice(choices))
        kept = {name: mask for name, mask in case.structures.items() if name != gone}
        return replace(case, structures=kept)

    return change


def _hu_added(hu: float) -> Change:
    return lambda case, random: _with_ct(case, case.ct.array + np.float32(hu))


def _noise_added(hu: float) -> Change:
    def change(case: Case, random: np.random.Generator) -> Case:
        noise = random.normal(0.0, hu, case.ct.array.shape).astype(np.float32)
        return _with_ct(case, case.ct.array + noise)

    return change


def _spacing_times(factor: float) -> Change:
    def change(case: Case, random: np.random.Generator) -> Case:
        grid = case.grid
        spacing = tuple(factor * each for each in grid.spacing)
        other = Grid(grid.size, spacing, grid.origin, grid.direction)  # type: ignore[arg-type]
        masks = {n: Mask(mask.array, other) for n, mask in case.structures.items()}
        return Case(case.name, Volume(case.ct.array, other), masks, prescription=case.prescription)

    return change


def _metal(cc: float) -> Change:
    """A sphere of metal in the body, with bright and dark streaks through it in its slices."""

    def change(case: Case, random: np.random.Generator) -> Case:
        body, spacing = _external(case), np.array(case.grid.spacing[::-1])
        targets = [case.structures[n] for n in case.structures if n.startswith("PTV")]
        held = np.argwhere(body & np.logical_or.reduce([t.array.astype(bool) for t in targets]))
        center = held[random.integers(len(held))]
        radius = (3 * cc * 1000 / (4 * np.pi)) ** (1 / 3)
        place: tuple[NDArray, ...] = np.indices(body.shape, sparse=True)
        away = [(each - c) * s for each, c, s in zip(place, center, spacing, strict=True)]
        angle = np.arctan2(away[1], away[2])
        reach = np.hypot(away[1], away[2])
        streaks = 400 * np.cos(12 * angle) * np.exp(-reach / 60) * (np.abs(away[0]) < radius)
        ct = case.ct.array + np.where(body, streaks, 0).astype(np.float32)
        inside = away[0] ** 2 + away[1] ** 2 + away[2] ** 2 <= radius**2
        return _with_ct(case, np.where(inside & body, np.float32(3000), ct))

    return change


def _prone(case: Case, random: np.random.Generator) -> Case:
    """The patient turned by 180 degrees about the long axis, the frame of reference kept."""
    masks = {name: mask.array[:, ::-1, ::-1] for name, mask in case.structures.items()}
    return _with_masks(_with_ct(case, case.ct.array[:, ::-1, ::-1].copy()), masks)


def _half(upper: bool) -> Change:
    """The CT and the contours end in the middle of the targets."""

    def change(case: Case, random: np.random.Generator) -> Case | None:
        boxes = [mask.bounding_box() for n, mask in case.structures.items() if n.startswith("PTV")]
        held = [box[0] for box in boxes if box is not None]
        middle = (min(b.start for b in held) + max(b.stop for b in held)) // 2
        kept = slice(middle, None) if upper else slice(None, middle)
        grid = case.grid
        if min(case.ct.array[kept].shape) < 2:
            return None
        start = (0, 0, middle if upper else 0)
        size = case.ct.array[kept].shape[::-1]
        cut = grid.cropped(start, size)
        masks = {n: Mask(m.array[kept].copy(), cut) for n, m in case.structures.items()}
        masks = {n: m for n, m in masks.items() if not m.is_empty}
        if not any(n.startswith("PTV") for n in masks):
            return None
        ct = Volume(case.ct.array[kept].copy(), cut)
        return Case(case.name, ct, masks, prescription=case.prescription)

    return change


def _other_site(share: float) -> Change:
    """A share of the organs, drawn at random, exchange their names."""

    def change(case: Case, random: np.random.Generator) -> Case:
        names = _organs(case)
        count = max(2, round(share * len(names)))
        chosen = [str(n) for n in random.permutation(names)[:count]]
        moved = dict(zip(chosen, chosen[1:] + chosen[:1], strict=True))
        masks = {new: case.structures[old] for new, old in moved.items()}
        return replace(case, structures={**case.structures, **masks})

    return change


def _prescribed(factor: float) -> Change:
    def change(case: Case, random: np.random.Generator) -> Case | None:
        known = case.prescription
        if known is None:
            return None
        levels = {target: factor * gy for target, gy in known.target_gy.items()}
        return replace(case, prescription=replace(known, target_gy=levels))

    return change


def _technique(name: str) -> Change:
    def change(case: Case, random: np.random.Generator) -> Case | None:
        known = case.prescription
        if known is None:
            return None
        return replace(case, prescription=replace(known, technique=name))

    return change


def _organ_grown(millimeters: float) -> Change:
    """One organ, drawn at random, is drawn larger by a margin."""

    def change(case: Case, random: np.random.Generator) -> Case:
        name = str(random.choice(_organs(case)))
        array = case.structures[name].array.astype(bool)
        spacing = case.grid.spacing[::-1]
        near = ndimage.distance_transform_edt(~array, sampling=spacing) <= millimeters
        return _with_masks(case, {name: near & _external(case)})

    return change


KINDS: tuple[Perturbation, ...] = (
    Perturbation("left-right swap", "all labels", _all_mirrored),
    Perturbation("left-right swap", "one pair", _pair_swapped),
    Perturbation("organ shifted", "10 mm", _organ_shifted(10), False),
    Perturbation("organ shifted", "15 mm", _organ_shifted(15)),
    Perturbation("organ shifted", "25 mm", _organ_shifted(25), False),
    Perturbation("organ drawn larger", "6 mm", _organ_grown(6), False),
    Perturbation("organ drawn larger", "10 mm", _organ_grown(10), False),
    Perturbation("HU added", "+50", _hu_added(50), False),
    Perturbation("HU added", "+150", _hu_added(150)),
    Perturbation("HU added", "+1000", _hu_added(1000)),
    Perturbation("spacing", "x1.1", _spacing_times(1.1), False),
    Perturbation("spacing", "x1.2", _spacing_times(1.2)),
    Perturbation("missing organ", "one that nearly all have", _organ_missing(0.9)),
    Perturbation("missing organ", "one that some lack", _organ_missing(0.0), False),
    Perturbation("wrong site or names", "all organs", _other_site(1.0)),
    Perturbation("wrong site or names", "two organs", _other_site(0.0), False),
    Perturbation("metal", "20 cc", _metal(20), False),
    Perturbation("metal", "60 cc", _metal(60)),
    Perturbation("prone", "180 degrees", _prone),
    Perturbation("other technique", "VMAT", _technique("VMAT")),
    Perturbation("half the CT", "upper", _half(True)),
    Perturbation("half the CT", "lower", _half(False)),
    Perturbation("noise", "30 HU", _noise_added(30), False),
    Perturbation("noise", "80 HU", _noise_added(80)),
    Perturbation("other prescription", "x0.9", _prescribed(0.9), False),
    Perturbation("other prescription", "x0.75", _prescribed(0.75)),
)
"""Stated are the sizes that the check was made for; what it does with others is printed, too."""
