"""Preflight: what may be wrong with a case, before a dose is predicted from it.

Each rule is one function that looks at a `_View`, a case prepared so that all rules together stay
fast: masks cropped to their boxes, and the CT thinned to about 4 mm where a rule looks at the whole
patient. Positions are LPS mm. Nothing here changes the case; readers and the encoding do their own
refusals (another grid, NaN, a target that does not fit the model's grid).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .case import Case, Prescription
from .errors import CaseError
from .external import derive_external
from .findings import LEFT_OUT, Finding, Severity, worst_first
from .mapping import StructureMapping
from .names import fit_name, read_target
from .protocol import Channel, StructureProtocol
from .volume import Grid, Volume

__all__ = ["ModelExpectations", "check_case"]

_MAPPED = "mapped-structure-left-out"
_TINY_VOXELS = 10
_COARSE_MM = 4.0
_AIR_HU = -700.0
_SKIN_HU = -300.0
_PADDING_HU = -1100.0  # below air and its noise: what scanners write outside the field of view
_TISSUE_MUST_EXCEED_HU = -200.0
_DENSER_THAN_TISSUE_HU = 800.0
_METAL_HU = 2500.0
_METAL_CC = 1.0  # dental fillings, markers
_MUCH_METAL_CC = 5.0
_METAL_CELL_MM = 20.0
_OVERLAP_CC = 0.5
_OVERLAP_SHARE = 0.10
_SAME_SHARE = 0.9
_OUTSIDE_TARGET_SHARE = 0.01
_OUTSIDE_TARGET_CC = 0.2
_OUTSIDE_ORGAN_SHARE = 0.10
_SIDE_MM = 5.0
_ORDER_MM = 10.0
_SHEET_MM = 250.0
_COUCH_CC = 100.0
_CT_BEYOND_TARGET_MM = 50.0
_CUT_AREA_SHARE = 0.25
_PRESCRIPTION_SHARE = 0.15
_SPACING_TOLERANCE = 0.01
_BEYOND_HU_CC = 1.0

# Organs that share voxels by definition: marrow fills the femoral heads and surrounds the canal.
_MAY_OVERLAP = frozenset(
    {
        frozenset({"BoneMarrow", "Femur_Head_L"}),
        frozenset({"BoneMarrow", "Femur_Head_R"}),
        frozenset({"BoneMarrow", "SpinalCord"}),
    }
)
# (TG-263 name, TG-263 name, axis, what the first is of the second): true in every upright patient.
_ANATOMICAL_ORDER = (
    ("Bladder", "Rectum", 1, "anterior"),
    ("Larynx", "SpinalCord", 1, "anterior"),
    ("Bone_Mandible", "SpinalCord", 1, "anterior"),
    ("Brainstem", "SpinalCord", 2, "superior"),
    ("Brainstem", "Larynx", 2, "superior"),
    ("Bone_Mandible", "Esophagus", 2, "superior"),
)


@dataclass(frozen=True)
class ModelExpectations:
    """What a model's card says of the cases that it was made for; None or empty: it does not say.

    Args:
        spacing_mm_min, spacing_mm_max: voxel spacing (x, y, z), mm.
        prescription_gy: target channel → Gy.
        fractions: number of fractions of that prescription.
        technique: "IMRT", "VMAT", …
        hu_min, hu_max: range of the CT values that the model has seen, HU.
    """

    spacing_mm_min: tuple[float, float, float] | None = None
    spacing_mm_max: tuple[float, float, float] | None = None
    prescription_gy: Mapping[str, float] = field(default_factory=dict)
    fractions: int | None = None
    technique: str | None = None
    hu_min: float | None = None
    hu_max: float | None = None


def check_case(
    case: Case,
    protocol: StructureProtocol,
    mapping: StructureMapping,
    expectations: ModelExpectations | None = None,
) -> list[Finding]:
    """Everything that may spoil a prediction of this case, worst first.

    What `mapping.findings` says already (a channel without structure) is not said again, nor what
    `case.findings` does.

    Args:
        expectations: what the model's card states; without it the rules on the model are left out.
    """
    view = _View(case, protocol, mapping)
    findings = list(_check_hu(view))
    rules = _STRUCTURE_RULES
    if not any(finding.severity == "blocking" for finding in findings):
        rules += _CT_RULES
    for rule in rules:
        findings += rule(view)
    if expectations is not None:
        findings += _check_model(view, expectations)
    said = {(f.id, f.structure) for f in (*mapping.findings, *case.findings)}
    return worst_first([f for f in findings if (f.id, f.structure) not in said])


# --- The case, prepared ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Region:
    """A structure cropped to its box.

    Args:
        channel: the channel it fills.
        name: as the clinic typed it.
        box: slices `(z, y, x)` into the CT's array.
        mask: bool, the box's content.
        grid: the CT's grid.
    """

    channel: Channel
    name: str
    box: tuple[slice, slice, slice]
    mask: NDArray[np.bool_]
    grid: Grid

    @cached_property
    def voxels(self) -> int:
        return int(np.count_nonzero(self.mask))

    @property
    def cc(self) -> float:
        """Volume, cm³."""
        return self.voxels * self.grid.voxel_volume_cc

    @cached_property
    def center_mm(self) -> tuple[float, float, float]:
        """Centroid, LPS mm."""
        return _center_mm(self.mask, self.box, self.grid)

    @cached_property
    def z_range_mm(self) -> tuple[float, float]:
        """Lowest and highest z, voxel edges included, LPS mm."""
        start = [self.box[2 - axis].start for axis in range(3)]
        low, high = self.grid.cropped(start, self.mask.shape[::-1]).bounds_mm()
        return float(low[2]), float(high[2])


@dataclass(eq=False)
class _View:
    """A case as the rules look at it; everything is computed once, when first asked for."""

    case: Case
    protocol: StructureProtocol
    mapping: StructureMapping

    @cached_property
    def regions(self) -> dict[str, _Region]:
        """Channel → structure; channels without one, or with an all-zero one, are left out."""
        regions = {}
        for channel in self.protocol.channels:
            name = self.mapping.structure(channel.name)
            if name is not None:
                region = _region(channel, name, self.case.structures[name])
                if region is not None:
                    regions[channel.name] = region
        return regions

    @property
    def targets(self) -> list[_Region]:
        return [r for r in self.regions.values() if r.channel.role == "target"]

    @property
    def organs(self) -> list[_Region]:
        return [r for r in self.regions.values() if r.channel.role == "organ"]

    @property
    def external(self) -> _Region | None:
        """The external contour, if one is mapped."""
        channel = self.protocol.external
        return None if channel is None else self.regions.get(channel.name)

    def by_tg263(self, name: str) -> _Region | None:
        """The structure in the channel with this TG-263 name."""
        return next((r for r in self.regions.values() if r.channel.tg263 == name), None)

    @cached_property
    def hu_range(self) -> tuple[float, float]:
        """Lowest and highest CT value, HU."""
        return float(self.case.ct.array.min()), float(self.case.ct.array.max())

    @cached_property
    def axial_axis(self) -> int:
        """The array axis that runs along the patient."""
        return _array_axis(self.case.grid, 2)

    @cached_property
    def coarse_ct(self) -> Volume:
        """The CT thinned to about 4 mm, LPS-ordered, HU."""
        return _thinned(self.case.ct)

    @cached_property
    def densest_ct(self) -> Volume:
        """As `coarse_ct`, but the highest value along y: a thin couch top is not lost."""
        return _thinned(self.case.ct, keep_highest_along_y=True)

    @cached_property
    def patient(self) -> NDArray[np.bool_]:
        """The patient on the coarse grid by threshold, couch removed; all false when none."""
        try:
            return derive_external(self.coarse_ct).array
        except CaseError:
            return np.zeros(self.coarse_ct.array.shape, dtype=bool)

    @cached_property
    def body(self) -> NDArray[np.bool_]:
        """The external contour on the coarse grid; without one, all tissue with its holes filled.

        Rather too much than too little: couch and straps stay in.
        """
        if self.external is not None:
            return self.coarse_mask(self.external)
        tissue = self.coarse_ct.array > _SKIN_HU
        return np.stack([ndimage.binary_fill_holes(plane) for plane in tissue])

    def coarse_mask(self, region: _Region) -> NDArray[np.bool_]:
        """A structure on the coarse grid."""
        return _thinned(self.case.structures[region.name]).array >= 0.5


def _region(channel: Channel, name: str, volume: Volume) -> _Region | None:
    """The structure in its box; None when it is all-zero."""
    array = volume.array
    planes = np.flatnonzero(array.any(axis=(1, 2)))
    if planes.size == 0:
        return None
    z = slice(int(planes[0]), int(planes[-1]) + 1)
    shadow = np.asarray(array[z].any(axis=0))
    rows, columns = np.flatnonzero(shadow.any(axis=1)), np.flatnonzero(shadow.any(axis=0))
    box = (z, slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    mask = array[box]
    if mask.dtype != bool:
        mask = mask >= min(0.5, float(mask.max()))
    return _Region(channel, name, box, mask, volume.grid)


def _thinned(volume: Volume, keep_highest_along_y: bool = False) -> Volume:
    """Every n-th voxel, to about 4 mm, LPS-ordered."""
    grid = volume.grid
    steps = [max(1, int(_COARSE_MM / spacing)) for spacing in grid.spacing]
    along_y = _array_axis(grid, 1)
    picks = [slice(None, None, steps[2 - axis]) for axis in range(3)]
    if keep_highest_along_y and steps[2 - along_y] > 1:
        picks[along_y] = slice(None)
        starts = np.arange(0, volume.array.shape[along_y], steps[2 - along_y])
        array = np.maximum.reduceat(volume.array[tuple(picks)], starts, axis=along_y)
    else:
        array = volume.array[tuple(picks)]
    spacing = tuple(s * step for s, step in zip(grid.spacing, steps, strict=True))
    thin = Grid(array.shape[::-1], spacing, grid.origin, grid.direction)  # type: ignore[arg-type]
    return Volume(array, thin).reordered_to_lps()


def _array_axis(grid: Grid, patient_axis: int) -> int:
    """The array axis that runs nearest to L (0), P (1) or S (2)."""
    return 2 - grid.axis_order()[0][patient_axis]


def _center_mm(
    mask: NDArray[np.bool_], box: tuple[slice, slice, slice], grid: Grid
) -> tuple[float, float, float]:
    """Centroid of a cropped mask, LPS mm."""
    counts = mask.sum(axis=2, dtype=np.int64)  # (z, y)
    columns = mask.sum(axis=0, dtype=np.int64).sum(axis=0)
    profiles = (counts.sum(axis=1), counts.sum(axis=0), columns)
    index = [
        place.start + float(np.average(np.arange(profile.size), weights=profile))
        for place, profile in zip(box, profiles, strict=True)
    ]
    return _position(grid.world_from_index(index[::-1]))


def _position(world: NDArray[np.float64]) -> tuple[float, float, float]:
    return (float(world[0]), float(world[1]), float(world[2]))


def _shared(one: _Region, other: _Region) -> tuple[NDArray[np.bool_], tuple[slice, slice, slice]]:
    """Voxels of `one` that `other` has too, on the box that both share (may be of size zero)."""
    box = tuple(
        slice(max(a.start, b.start), max(min(a.stop, b.stop), max(a.start, b.start)))
        for a, b in zip(one.box, other.box, strict=True)
    )
    shared = one.mask[_within(box, one.box)] & other.mask[_within(box, other.box)]
    return shared, (box[0], box[1], box[2])


def _within(box: Iterable[slice], outer: Iterable[slice]) -> tuple[slice, ...]:
    """The box counted from the corner of another one."""
    return tuple(
        slice(b.start - o.start, b.stop - o.start) for b, o in zip(box, outer, strict=True)
    )


# --- The CT ------------------------------------------------------------------------------------


def _check_hu(view: _View) -> list[Finding]:
    """Whether the CT holds HU at all, and padding that is none."""
    low, high = view.hu_range
    remedy = "Load the CT as HU (DICOM rescale slope and intercept applied), not a picture."
    seen = f"The CT's values run from {low:g} to {high:g}"
    if high - low < 100:
        message = f"{seen}: nothing can be told apart, so they are not HU."
    elif low >= 0 and high <= 255:
        message = f"{seen}, those of an 8-bit picture, not HU: air is −1000 and fat −100 HU."
    elif low >= 0:
        message = f"{seen}: nothing is below water, so they are shifted or raw, not HU."
        remedy = "Subtract the offset (often 1024), or export the CT with its rescale intercept."
    elif high < _TISSUE_MUST_EXCEED_HU:
        message = f"{seen} HU: there is no tissue in it (soft tissue lies about 0 HU)."
    else:
        return _check_hu_details(view)
    return [Finding("ct-not-hu", "blocking", message, remedy)]


def _check_hu_details(view: _View) -> list[Finding]:
    """Air, padding and the density of the target, for a CT that holds HU."""
    low, high = view.hu_range
    findings = []
    if low > _AIR_HU:
        message = f"The CT holds no air: its lowest value is {low:g} HU, its highest {high:g} HU."
        remedy = "Check that it holds HU and is not cut inside the patient."
        findings.append(Finding("ct-without-air", "warning", message, remedy))
    if low < _PADDING_HU:
        message = f"The CT holds values down to {low:g} HU, below air; they count as air."
        findings.append(Finding("ct-padding", "info", message))
    for region in view.targets:
        median = float(np.median(view.case.ct.array[region.box][region.mask]))
        if not -950 < median < _DENSER_THAN_TISSUE_HU:
            message = f"The median CT value in {region.name} is {median:.0f} HU, that of no tissue."
            remedy = "Check that the CT holds HU, and that CT and contours belong together."
            place = region.center_mm
            findings.append(
                Finding("target-not-tissue", "warning", message, remedy, region.name, place)
            )
    return findings


def _check_metal(view: _View) -> list[Finding]:
    """Metal in the patient: fillings, implants, a hip prosthesis."""
    external = view.external
    box = external.box if external is not None else (slice(None),) * 3
    if view.hu_range[1] <= _METAL_HU:
        return []
    dense = view.case.ct.array[box] > _METAL_HU
    if external is not None:
        dense &= external.mask
    index = np.argwhere(dense)
    cc = len(index) * view.case.grid.voxel_volume_cc
    if cc < _METAL_CC:
        return []
    index += [place.start or 0 for place in box]
    world = view.case.grid.world_from_index(index[:, ::-1])
    # The fullest cell of 2 cm, for a centroid of two hips lies between them.
    cells = np.floor(world / _METAL_CELL_MM).astype(int)
    _, cell, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    place = world[cell.ravel() == counts.argmax()].mean(axis=0)
    what = "a hip prosthesis" if view.by_tg263("Bladder") is not None else "fillings or an implant"
    highest = view.hu_range[1]
    message = (
        f"{cc:.1f} cc of the patient exceed {_METAL_HU:.0f} HU (highest {highest:.0f} HU), like "
        f"{what}; most lies at ({', '.join(f'{v:.0f}' for v in place)}) mm."
    )
    remedy = "Do not trust the dose near it and in beams through it: the model knows little metal."
    severity: Severity = "warning" if cc >= _MUCH_METAL_CC else "info"
    return [Finding("metal", severity, message, remedy, position_mm=_position(place))]


# --- Structures --------------------------------------------------------------------------------


def _check_presence(view: _View) -> list[Finding]:
    """Channels without a structure, all-zero and tiny structures."""
    findings = []
    for channel in view.protocol.channels:
        name = view.mapping.structure(channel.name)
        region = view.regions.get(channel.name)
        if name is None:
            findings += _missing(view, channel)
        elif region is None:
            severity: Severity = "blocking" if channel.required else "warning"
            message = f"{name} ({channel.label}) is all-zero."
            remedy = f"Contour it, or map another structure: --map {channel.name}=NAME."
            findings.append(Finding("structure-empty", severity, message, remedy, name))
        elif region.voxels < _TINY_VOXELS:
            message = f"{name} has only {region.voxels} voxels ({region.cc:.3f} cc)."
            remedy = "Check its contour; its dose statistics mean little."
            place = region.center_mm
            findings.append(Finding("structure-tiny", "warning", message, remedy, name, place))
    return findings


def _check_left_out(view: _View) -> list[Finding]:
    """Structures that were too bad to be read, but would have filled a channel that is empty."""
    empty = {m.channel for m in view.mapping.matches if m.automatic and m.structure is None}
    channels = [channel for channel in view.protocol.channels if channel.name in empty]
    findings = []
    for told in view.case.findings:
        if told.id != LEFT_OUT or told.structure is None:
            continue
        target = read_target(told.structure, view.protocol) is not None
        for channel in channels:
            if fit_name(told.structure, channel) or (target and channel.role == "target"):
                remedy = f"{told.remedy} To predict without it: --map {channel.name}="
                findings.append(replace(told, id=_MAPPED, severity="blocking", remedy=remedy))
                break
    return findings


def _missing(view: _View, channel: Channel) -> list[Finding]:
    match = next(m for m in view.mapping.matches if m.channel == channel.name)
    if not match.automatic:
        return []  # left empty on purpose; the mapping says so
    if channel.role == "external" and not channel.required:
        message = f"No {channel.label} contour: the body's outline is derived from the CT."
        remedy = "Map the body contour if the derived one is wrong (couch, immobilisation)."
        return [Finding("external-missing", "info", message, remedy, channel.name)]
    severity: Severity = "blocking" if channel.required else "info"
    message = f"No structure fills the channel {channel.name} ({channel.label})."
    remedy = f"Map one: --map {channel.name}=NAME."
    return [Finding("structure-missing", severity, message, remedy, channel.name)]


def _check_gaps(view: _View) -> list[Finding]:
    """Organs and external contours with slices left out. A target may be of several parts."""
    findings = []
    for region in view.regions.values():
        others = tuple(axis for axis in range(3) if axis != view.axial_axis)
        filled = np.asarray(region.mask.any(axis=others))
        missing = np.flatnonzero(~filled)
        if missing.size == 0 or (region.channel.role == "target" and not _is_comb(filled)):
            continue
        index = [float(p.start + p.stop - 1) / 2 for p in region.box]
        index[view.axial_axis] = float(region.box[view.axial_axis].start + missing[0])
        place = _position(view.case.grid.world_from_index(index[::-1]))
        message = (
            f"{region.name} has no contour on {missing.size} of the {filled.size} slices that it "
            f"spans, the first at z = {place[2]:.1f} mm."
        )
        remedy = "Interpolate the missing contours."
        findings.append(Finding("structure-gaps", "warning", message, remedy, region.name, place))
    return findings


def _is_comb(filled: NDArray[np.bool_]) -> bool:
    """Whether every contoured slice stands alone: drawn on each n-th, and not interpolated."""
    _, count = ndimage.label(filled)
    return bool(count >= 4 and count == np.count_nonzero(filled))


def _check_overlaps(view: _View) -> list[Finding]:
    """Organs that share voxels though they cannot."""
    findings = []
    for one, other in itertools.combinations(view.organs, 2):
        if frozenset({one.channel.tg263, other.channel.tg263}) in _MAY_OVERLAP:
            continue
        shared, box = _shared(one, other)
        voxels = int(np.count_nonzero(shared))
        cc = voxels * view.case.grid.voxel_volume_cc
        share = voxels / min(one.voxels, other.voxels)
        if share < _OVERLAP_SHARE or (cc < _OVERLAP_CC and share < _SAME_SHARE):
            continue
        same = voxels > _SAME_SHARE * max(one.voxels, other.voxels)
        kind = "are the same region" if same else "overlap"
        message = (
            f"{one.name} and {other.name} {kind}: they share {cc:.2f} cc, {100 * share:.0f} % of "
            f"the smaller ({one.cc:.2f} and {other.cc:.2f} cc)."
        )
        remedy = "Check both contours; one may be drawn or named wrongly."
        place = _center_mm(shared, box, view.case.grid)
        findings.append(Finding("structures-overlap", "warning", message, remedy, one.name, place))
    return findings


def _check_outside_body(view: _View) -> list[Finding]:
    """Targets and organs outside the external contour, or the patient where there is none."""
    findings = []
    for region in (*view.targets, *view.organs):
        outside, place = _outside(view, region)
        cc = outside * region.cc
        is_target = region.channel.role == "target"
        blocks = is_target and outside >= 0.5
        if is_target:
            matters = blocks or (outside >= _OUTSIDE_TARGET_SHARE and cc >= _OUTSIDE_TARGET_CC)
        else:
            matters = outside >= _OUTSIDE_ORGAN_SHARE
        if not matters:
            continue
        body = view.external.name if view.external is not None else "the patient (by threshold)"
        message = (
            f"{cc:.2f} of {region.cc:.2f} cc of {region.name} ({100 * outside:.0f} %) lie outside "
            f"{body}; the dose there is zero."
        )
        remedy = "Check both contours, and that CT and structures belong together."
        kind = "target-outside-body" if is_target else "structure-outside-body"
        severity: Severity = "blocking" if blocks else "warning"
        findings.append(Finding(kind, severity, message, remedy, region.name, place))
    return findings


def _outside(view: _View, region: _Region) -> tuple[float, tuple[float, float, float] | None]:
    """Share of a structure outside the body, and where.

    Without an external contour the body is rough, and so is the answer.
    """
    external = view.external
    if external is not None:
        shared, box = _shared(region, external)
        left = region.mask.copy()
        left[_within(box, region.box)] &= ~shared
        count = int(np.count_nonzero(left))
        place = _center_mm(left, region.box, region.grid) if count else None
        return count / region.voxels, place
    body = _grown(view.body, view.coarse_ct.grid, _COARSE_MM)
    mask = view.coarse_mask(region)
    total = int(np.count_nonzero(mask))
    if total == 0 or not body.any():
        return 0.0, None
    outside = mask & ~body
    count = int(np.count_nonzero(outside))
    # One voxel of the coarse grid more or less says nothing.
    share = count / total if count > 2 else 0.0
    return share, _first_center(outside, view.coarse_ct.grid) if share else None


def _first_center(mask: NDArray[np.bool_], grid: Grid) -> tuple[float, float, float]:
    whole = tuple(slice(0, n) for n in mask.shape)
    return _center_mm(mask, (whole[0], whole[1], whole[2]), grid)


# --- Orientation -------------------------------------------------------------------------------


def _check_sides(view: _View) -> list[Finding]:
    """Left organs lie to the left: by the other of the pair, or by the body's middle."""
    findings = []
    inputs = view.protocol.inputs
    for index, partner in enumerate(view.protocol.mirrored):
        left, right = (view.regions.get(inputs[i].name) for i in (index, partner))
        if index == partner or inputs[index].side != "left":
            continue
        if left is not None and right is not None:
            apart = left.center_mm[0] - right.center_mm[0]
            if apart < -_SIDE_MM:
                findings.append(_swapped(left, right, -apart))
        elif (one := left or right) is not None:
            findings += _check_one_side(view, one)
    return findings


def _swapped(left: _Region, right: _Region, apart_mm: float) -> Finding:
    message = (
        f"Left and right are swapped: {left.name} lies {apart_mm:.0f} mm to the patient's right of "
        f"{right.name} (x = {left.center_mm[0]:.0f} and {right.center_mm[0]:.0f} mm)."
    )
    remedy = (
        f"Rename the contours or map them the other way round (--map {left.channel.name}=…), or "
        "check that the CT is not mirrored."
    )
    return Finding("left-right-swapped", "warning", message, remedy, left.name, left.center_mm)


def _check_one_side(view: _View, region: _Region) -> list[Finding]:
    """An organ without its partner, against the middle of the body at its own height."""
    middle = _middle_x_mm(view, region)
    if middle is None:
        return []
    offset = region.center_mm[0] - middle
    wrong = offset < -_ORDER_MM if region.channel.side == "left" else offset > _ORDER_MM
    if not wrong:
        return []
    side = "right" if region.channel.side == "left" else "left"
    message = (
        f"{region.name} ({region.channel.label}) lies {abs(offset):.0f} mm to the patient's {side} "
        "of the body's middle."
    )
    remedy = "Check its side, its name, and that the CT is not mirrored."
    return [
        Finding("left-right-swapped", "warning", message, remedy, region.name, region.center_mm)
    ]


def _middle_x_mm(view: _View, region: _Region) -> float | None:
    """x of the body's middle at the height of a structure, LPS mm."""
    if view.external is not None:
        return view.external.center_mm[0]
    grid = view.coarse_ct.grid
    plane = round(float(grid.index_from_world(region.center_mm)[2]))
    columns = np.flatnonzero(view.body[np.clip(plane, 0, grid.size[2] - 1)].any(axis=0))
    if columns.size == 0:
        return None
    return grid.origin[0] + grid.spacing[0] * float(columns[0] + columns[-1]) / 2


def _check_anatomical_order(view: _View) -> list[Finding]:
    """Organs that always lie in front of, or above, another: an image flipped is found out."""
    for name, other_name, axis, word in _ANATOMICAL_ORDER:
        one, other = view.by_tg263(name), view.by_tg263(other_name)
        if one is None or other is None:
            continue
        # Anterior is −y, superior is +z.
        ahead = (other.center_mm[1] - one.center_mm[1], one.center_mm[2] - other.center_mm[2])
        distance = ahead[axis - 1]
        if distance < -_ORDER_MM:
            opposite = "posterior" if word == "anterior" else "inferior"
            message = (
                f"{one.name} lies {-distance:.0f} mm {opposite} to {other.name}; it should be "
                f"{word} to it."
            )
            remedy = "Check that the image is not flipped, and that the contours are named rightly."
            kind = "orientation-implausible"
            return [Finding(kind, "warning", message, remedy, one.name, one.center_mm)]
    return []


def _check_prone(view: _View) -> list[Finding]:
    """A couch in front of the patient and none behind."""
    patient = view.patient
    grid = view.densest_ct.grid
    if not patient.any():
        return []
    near = _grown(patient, grid, 12.0)
    sheets = _wide_rows((view.densest_ct.array > _AIR_HU) & ~near, grid)
    rows = np.arange(patient.shape[1])
    area = patient.sum(axis=2)
    planes = np.flatnonzero(area.sum(axis=1))
    middle = (area * rows).sum(axis=1) / np.maximum(area.sum(axis=1), 1)
    anterior: NDArray[np.bool_] = (sheets & (rows[None] < middle[:, None])).any(axis=1)[planes]
    posterior = (sheets & (rows[None] > middle[:, None])).any(axis=1)[planes]
    if anterior.mean() < 0.5 or posterior.mean() > 0.1:
        return []
    plane, row = np.argwhere(sheets & (rows[None] < middle[:, None]))[0]
    place = _position(grid.world_from_index([grid.size[0] / 2, row, plane]))
    message = (
        f"The patient lies prone, or the image is flipped: the couch is in front of the patient "
        f"(y = {place[1]:.0f} mm) on {100 * anterior.mean():.0f} % of the slices, and none behind."
    )
    remedy = "The models were made on supine patients; check the position before trusting the dose."
    return [Finding("patient-prone", "warning", message, remedy, position_mm=place)]


def _check_couch_in_body(view: _View) -> list[Finding]:
    """An external contour that holds the couch: wide sheets in it that are not patient."""
    external = view.external
    if external is None or not view.patient.any():
        return []
    grid = view.coarse_ct.grid
    body = view.body
    excess = body & ~_grown(view.patient, grid, 8.0)
    sheets = _wide_rows(excess, grid)
    planes = view.patient.any(axis=(1, 2))
    share = float(np.asarray(sheets.any(axis=1))[planes].mean())
    cc = float(np.count_nonzero(excess)) * grid.voxel_volume_cc
    if share < 0.3 or cc < _COUCH_CC:
        return []
    couch = excess & sheets[:, :, None]
    message = (
        f"{external.name} holds about {cc:.0f} cc that are not patient, in sheets at least "
        f"{_SHEET_MM / 10:.0f} cm wide on {100 * share:.0f} % of the slices: the couch?"
    )
    remedy = "Contour the patient alone, or leave the contour out so that it is derived."
    place = _first_center(couch, grid)
    return [Finding("couch-in-body", "warning", message, remedy, external.name, place)]


def _grown(mask: NDArray[np.bool_], grid: Grid, margin_mm: float) -> NDArray[np.bool_]:
    """The mask with a margin in plane."""
    reach = [2 * max(1, round(margin_mm / grid.spacing[axis])) + 1 for axis in (1, 0)]
    return ndimage.maximum_filter(mask, size=(1, *reach))


def _wide_rows(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """`(z, y)`: rows of which the mask covers the width of a couch."""
    return mask.sum(axis=2) * grid.spacing[0] >= _SHEET_MM


# --- Extent and model --------------------------------------------------------------------------


def _check_ct_length(view: _View) -> list[Finding]:
    """The patient goes on for 5 cm above and below the target: scatter and beams need it."""
    area = np.count_nonzero(view.body, axis=(1, 2))
    planes = np.flatnonzero(area)
    if planes.size == 0 or not view.targets:
        return []
    grid = view.coarse_ct.grid
    z_low, z_high = (grid.origin[2] + grid.spacing[2] * plane for plane in planes[[0, -1]])
    target_low = min(region.z_range_mm[0] for region in view.targets)
    target_high = max(region.z_range_mm[1] for region in view.targets)
    # Where the body tapers off (the vertex) nothing is missing; where it is cut, something is.
    # OpenKBP keeps, beyond the dose, only the contoured structures of the CT: no cut either.
    cut = _CUT_AREA_SHARE * area.max()
    ends = (
        ("below", target_low - (z_low - grid.spacing[2] / 2), area[planes[0]] > cut, z_low),
        ("above", z_high + grid.spacing[2] / 2 - target_high, area[planes[-1]] > cut, z_high),
    )
    findings = []
    for word, room_mm, is_cut, z in ends:
        if is_cut and room_mm < _CT_BEYOND_TARGET_MM - grid.spacing[2]:
            center = view.targets[0].center_mm
            message = (
                f"The CT ends {max(room_mm, 0):.0f} mm {word} the target (z = {z:.0f} mm); "
                f"{_CT_BEYOND_TARGET_MM:.0f} mm are wanted."
            )
            remedy = "Use a longer scan; the dose near its end is uncertain."
            place = (center[0], center[1], float(z))
            findings.append(Finding("ct-short", "warning", message, remedy, position_mm=place))
    return findings


def _check_model(view: _View, expected: ModelExpectations) -> list[Finding]:
    """What differs from the model's card."""
    prescription = view.case.prescription
    findings = _check_spacing(view, expected) + _check_hu_range(view, expected)
    if prescription is not None:
        findings += _check_prescription(view, expected, prescription)
        findings += _check_delivery(expected, prescription)
    return findings


def _check_spacing(view: _View, expected: ModelExpectations) -> list[Finding]:
    if expected.spacing_mm_min is None and expected.spacing_mm_max is None:
        return []
    order, _ = view.case.grid.axis_order()
    spacing = [view.case.grid.spacing[axis] for axis in order]
    low = expected.spacing_mm_min or (0.0,) * 3
    high = expected.spacing_mm_max or (np.inf,) * 3
    fits = [
        bottom * (1 - _SPACING_TOLERANCE) <= own <= top * (1 + _SPACING_TOLERANCE)
        for bottom, own, top in zip(low, spacing, high, strict=True)
    ]
    if all(fits):
        return []
    message = (
        f"The voxel spacing ({_by(spacing)} mm) is outside the model's range "
        f"({_by(low)} to {_by(high)} mm)."
    )
    remedy = "The case is resampled to the model's grid; expect a less exact dose."
    return [Finding("spacing-out-of-range", "warning", message, remedy)]


def _by(values: Iterable[float]) -> str:
    return " × ".join(f"{value:.4g}" for value in values)


def _check_hu_range(view: _View, expected: ModelExpectations) -> list[Finding]:
    """CT values beyond those the model has seen, inside the body alone: padding does not matter."""
    low, high = view.hu_range
    beyond_low = expected.hu_min is not None and low < expected.hu_min
    # What exceeds metal's threshold, the rule on metal tells.
    beyond_high = expected.hu_max is not None and expected.hu_max < min(high, _METAL_HU)
    if not (beyond_low or beyond_high):
        return []
    ct = view.coarse_ct
    body = view.body
    values = ct.array[body]
    beyond = np.zeros(values.shape, dtype=bool)
    if expected.hu_min is not None:
        beyond |= values < expected.hu_min
    if expected.hu_max is not None and beyond_high:
        beyond |= values > expected.hu_max
    cc = float(np.count_nonzero(beyond)) * ct.grid.voxel_volume_cc
    if cc < _BEYOND_HU_CC:
        return []
    message = (
        f"About {cc:.1f} cc of the body lie outside the HU that the model has seen "
        f"({_end(expected.hu_min)} to {_end(expected.hu_max)} HU); the CT runs from {low:g} to "
        f"{high:g} HU."
    )
    remedy = "Check the CT for metal and artefacts; the dose there is uncertain."
    index = np.argwhere(body)[beyond]
    place = _position(ct.grid.world_from_index(np.median(index, axis=0)[::-1]))
    return [Finding("hu-out-of-range", "warning", message, remedy, position_mm=place)]


def _end(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"


def _check_prescription(
    view: _View, expected: ModelExpectations, prescription: Prescription
) -> list[Finding]:
    """Each target's dose against the model's; by the highest where the names do not meet."""
    pairs = []
    for channel, model_gy in expected.prescription_gy.items():
        name = view.mapping.assigned.get(channel)
        own_gy = prescription.target_gy.get(channel, prescription.target_gy.get(name or ""))
        if own_gy is not None:
            pairs.append((name or channel, own_gy, model_gy))
    if not pairs and expected.prescription_gy:
        highest = max(expected.prescription_gy.values())
        pairs = [
            (
                max(prescription.target_gy, key=lambda t: prescription.target_gy[t]),
                prescription.highest_gy,
                highest,
            )
        ]
    findings = []
    for target, own_gy, model_gy in pairs:
        deviation = own_gy / model_gy - 1
        if abs(deviation) > _PRESCRIPTION_SHARE + 1e-9:
            message = (
                f"{target} is prescribed {own_gy:g} Gy, the model's is {model_gy:g} Gy "
                f"({100 * deviation:+.0f} %)."
            )
            remedy = "The dose is scaled, but trade-offs differ; use a model for this prescription."
            kind = "prescription-unlike-model"
            findings.append(Finding(kind, "warning", message, remedy, target))
    return findings


def _check_delivery(expected: ModelExpectations, prescription: Prescription) -> list[Finding]:
    """Fractions and technique."""
    findings = []
    own, theirs = prescription.fractions, expected.fractions
    if own is not None and theirs is not None and own != theirs:
        message = f"The case has {own} fractions, the model's plans had {theirs}."
        remedy = "Compare dose per fraction and constraints before using the dose."
        findings.append(Finding("fractionation-unlike-model", "warning", message, remedy))
    if prescription.technique and expected.technique:
        words = set(re.findall(r"\w+", prescription.technique.casefold()))
        if words.isdisjoint(re.findall(r"\w+", expected.technique.casefold())):
            message = (
                f"The case's technique is {prescription.technique}, the model's plans were "
                f"{expected.technique}."
            )
            remedy = "Dose outside the target depends on the technique; expect differences there."
            findings.append(Finding("technique-unlike-model", "warning", message, remedy))
    return findings


_Rule = Callable[[_View], list[Finding]]

_STRUCTURE_RULES: tuple[_Rule, ...] = (
    _check_presence,
    _check_left_out,
    _check_gaps,
    _check_overlaps,
    _check_sides,
    _check_anatomical_order,
)
_CT_RULES: tuple[_Rule, ...] = (
    _check_outside_body,
    _check_metal,
    _check_couch_in_body,
    _check_prone,
    _check_ct_length,
)
"""Rules that need a CT in HU (without one, the patient cannot be told from air)."""
