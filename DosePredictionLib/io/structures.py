"""Structures from an image file: one mask, the segments of a header, or the labels of a map."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import CaseError
from ..findings import Finding
from ..geometry import Box, bounding_box
from ..mask import Mask
from ..volume import Grid, Volume
from .labels import labels_file, read_labels
from .masks import label_values, mask_from_values, without_dust
from .stored import StoredImage

__all__ = ["require_finite", "structures_from"]

_MOST_STRUCTURES = 512
_MOST_BYTES = 2**33  # all masks of a file together
_UNNAMED = re.compile(r"segment[ _]?\d*", re.IGNORECASE)  # what Slicer calls a new segment


def structures_from(
    image: StoredImage,
    path: Path,
    stem: str,
    grid: Grid,
    findings: list[Finding],
    labels: Mapping[int, str] | None = None,
) -> dict[str, Mask]:
    """Structure → mask (boolean, or occupancy as float32) on the grid of the CT.

    A header that lists segments names them; a label map has its names from `labels`, its header, or
    a file beside it (see `labels_file`); any other file is one structure, called `stem`.

    Args:
        stem: the file's name without its suffixes.
        findings: takes what was noticed: values that are not 0 and 1, resampling, names.
        labels: label value → name; None looks for them.

    Raises:
        CaseError: several labels without names, values that are no mask's, or no overlap.
    """
    require_finite(image.array, path, "a mask holds 0 and 1")
    image, box = _cropped(image)
    if image.segments and labels is None:
        masks = _from_segments(image, path, stem, findings)
    elif image.array.shape[0] > 1:
        raise CaseError(f"{path} has several values a voxel and names no segments for them.")
    else:
        masks = _from_values(image, path, stem, findings, labels)
    return {
        name: _on_grid(Mask.of_block(mask, box, image.grid), grid, name, path, findings)
        for name, mask in masks.items()
    }


def _cropped(image: StoredImage) -> tuple[StoredImage, Box]:
    """The block that holds anything, in any layer, and where it lies in the image's grid.

    With a voxel around it: whether there is an outside, and what values it has, must still show.
    """
    boxes = [box for layer in image.array if (box := bounding_box(layer, 1)) is not None]
    edges = list(zip(*boxes, strict=True)) or [(slice(0, 1),)] * 3
    z, y, x = (slice(min(e.start for e in axis), max(e.stop for e in axis)) for axis in edges)
    return replace(image, array=image.array[:, z, y, x]), (z, y, x)


def require_finite(array: NDArray, path: Path, rule: str) -> None:
    """Refuse NaN and infinite voxels.

    Raises:
        CaseError: some are there.
    """
    if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
        raise CaseError(f"{path} holds NaN or infinite voxels; {rule}.")


def _from_segments(
    image: StoredImage, path: Path, stem: str, findings: list[Finding]
) -> dict[str, NDArray]:
    """A mask per segment of the header."""
    segments = image.segments
    _require_count(path, image, len(segments))
    if len(segments) == 1:
        only = segments[0]
        name = stem if _UNNAMED.fullmatch(only.name) else only.name
        layer = image.array[only.layer]
        others = (layer != 0) & (layer != only.value)
        if not others.any() or label_values(layer):
            _note_leftovers(image, path, findings)
            return {name: layer == only.value}
        mask, noticed = mask_from_values(layer, path, name)  # resampled with its header
        findings += [noticed] if noticed else []
        return {name: mask}
    masks: dict[str, NDArray] = {}
    for segment in segments:
        if segment.name in masks:
            raise CaseError(f"{path} holds two segments called {segment.name!r}: rename one.")
        masks[segment.name] = image.array[segment.layer] == segment.value
    _note_leftovers(image, path, findings)
    return masks


def _require_count(path: Path, image: StoredImage, count: int) -> None:
    """Refuse more masks than memory should be taken for."""
    if count > _MOST_STRUCTURES or count * math.prod(image.grid.size) > _MOST_BYTES:
        raise CaseError(
            f"{path} names {count} structures on {image.grid}; at most {_MOST_STRUCTURES}, and "
            f"{_MOST_BYTES / 1e9:.1f} GB of masks, are read. Keep those that the plan needs."
        )


def _note_leftovers(image: StoredImage, path: Path, findings: list[Finding]) -> None:
    """Warn of voxels that belong to no segment of the header."""
    for number, layer in enumerate(image.array):
        known = [0, *(s.value for s in image.segments if s.layer == number)]
        lost = int(np.count_nonzero(~np.isin(layer, known)))
        if lost:
            message = f"{path.name}: {lost} voxels of layer {number} belong to no listed segment."
            findings.append(Finding("labels-unnamed", "warning", message, "Export it again."))


def _from_values(
    image: StoredImage,
    path: Path,
    stem: str,
    findings: list[Finding],
    labels: Mapping[int, str] | None,
) -> dict[str, NDArray]:
    """One mask, or one per label."""
    array = image.array[0]
    values = label_values(array)
    names, source = (labels, "the list given") if labels else _names(image, path, stem, values)
    if not values and names:  # a map of one label is a mask, unless its name is known
        found = np.unique(array[array != 0])
        values = (int(found[0]),) if found.size == 1 and found[0] in names else ()
    if not values:
        mask, noticed = mask_from_values(array, path, stem)
        findings += [noticed] if noticed else []
        return {stem: mask}
    if not names:
        raise CaseError(
            f"{path} holds {len(values)} labels ({_shown(values)}) and no names for them. Write "
            f'these into {stem}.json beside it, as {{"{values[0]}": "PTV", …}}, or one file a '
            "structure."
        )
    unnamed = tuple(value for value in values if value not in names)
    if len(unnamed) == len(values):
        raise CaseError(f"{path}: none of its labels ({_shown(values)}) has a name in {source}.")
    if unnamed:
        message = f"{path.name}: labels {_shown(unnamed)} have no name in {source}: left out."
        findings.append(Finding("labels-unnamed", "warning", message, "Name them there."))
    _require_count(path, image, len(values) - len(unnamed))
    masks = {names[value]: array == value for value in values if value in names}
    message = f"{path.name} holds {len(masks)} labels; their names are from {source}."
    findings.append(Finding("labels-named", "info", message))
    return masks


def _shown(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values[:12])) + (" …" if len(values) > 12 else "")


def _names(
    image: StoredImage, path: Path, stem: str, values: tuple[int, ...]
) -> tuple[Mapping[int, str], str]:
    """Names of the labels, and where they are from."""
    if image.labels:
        if len(set(image.labels.values())) < len(image.labels):
            raise CaseError(f"{path} names two labels alike in its header: rename one.")
        return image.labels, "its header"
    file = labels_file(path, stem) if values else None
    return ({}, "") if file is None else (read_labels(file), file.name)


def _on_grid(mask: Mask, grid: Grid, name: str, path: Path, findings: list[Finding]) -> Mask:
    """A mask on the CT's grid."""
    if mask.grid.matches(grid):
        box = mask.bounding_box()
        return mask if box is None else Mask.of_block(mask.block, box, grid)
    if not mask.grid.extent_overlaps(grid):
        raise CaseError(
            f"{path} lies on {mask.grid} and does not overlap the CT on {grid}: they are of "
            "different patients or frames of reference."
        )
    label = path.name if name == path.name.split(".")[0] else f"{name} of {path.name}"
    message = f"{label} ({mask.grid}) was resampled onto the CT's grid ({grid})."
    findings.append(Finding("structure-resampled", "info", message, structure=name))
    moved = Volume.resampled_to(mask, grid, "occupancy")
    return Mask(without_dust(moved.array), grid)
