"""Masks as a segmentation of 3D Slicer (`.seg.nrrd`), which `nrrd.read_nrrd` gives back."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import GeometryError
from ..files import whole_file
from ..mask import Mask
from ..volume import Grid

__all__ = ["write_segmentation"]

_MOST_LABELS = 255
_LEVEL = 4  # masks compress well at any


def write_segmentation(
    path: Path, masks: Mapping[str, Mask], grid: Grid, colors: Mapping[str, str] | None = None
) -> None:
    """Write masks as segments, whole or not at all.

    Segments that overlap lie in layers of their own. A voxel belongs to a segment if more than half
    of it does.

    Args:
        masks: by name, on the grid.
        colors: "#rrggbb" by name; Slicer chooses others itself.

    Raises:
        GeometryError: a mask lies on another grid.
    """
    layers: list[NDArray[np.uint8]] = []
    places: dict[str, tuple[int, int]] = {}
    for name, mask in masks.items():
        if not mask.grid.matches(grid):
            raise GeometryError(f"{name} lies on {mask.grid}, the segmentation on {grid}.")
        places[name] = _place(layers, mask.majority())
    # The first axis in the header is the fastest: layers are interleaved.
    stored = layers[0] if len(layers) == 1 else np.stack(layers or [_empty(grid)], axis=-1)
    header = _header(stored, grid, len(layers) > 1) + _segment_keys(places, colors or {})
    with whole_file(path) as aside:
        text = ("\n".join(header) + "\n\n").encode()
        aside.write_bytes(text + gzip.compress(stored.tobytes(), _LEVEL))


def _empty(grid: Grid) -> NDArray[np.uint8]:
    return np.zeros(grid.shape, dtype=np.uint8)


def _place(layers: list[NDArray[np.uint8]], inside: NDArray[np.bool_]) -> tuple[int, int]:
    """Draw a segment into the first layer where it overlaps nothing: layer and label."""
    for number, layer in enumerate(layers):
        label = int(layer.max()) + 1
        if label <= _MOST_LABELS and not layer[inside].any():
            layer[inside] = label
            return number, label
    layers.append(inside.astype(np.uint8))
    return len(layers) - 1, 1


def _header(stored: NDArray[np.uint8], grid: Grid, has_layers: bool) -> list[str]:
    axes = np.asarray(grid.direction) * grid.spacing
    vectors = [
        "(" + ",".join(f"{value:.12g}" for value in axes[:, axis]) + ")" for axis in range(3)
    ]
    origin = ",".join(f"{value:.12g}" for value in grid.origin)
    return [
        "NRRD0004",
        "type: unsigned char",
        f"dimension: {stored.ndim}",
        "space: left-posterior-superior",
        "sizes: " + " ".join(str(count) for count in reversed(stored.shape)),
        "space directions: " + " ".join([*(["none"] if has_layers else []), *vectors]),
        "kinds: " + ("list " if has_layers else "") + "domain domain domain",
        "encoding: gzip",
        f"space origin: ({origin})",
    ]


def _segment_keys(places: Mapping[str, tuple[int, int]], colors: Mapping[str, str]) -> list[str]:
    """What Slicer lists of each segment."""
    keys = ["Segmentation_ContainedRepresentationNames:=Binary labelmap|"]
    for index, (name, (layer, label)) in enumerate(places.items()):
        entries = {"ID": f"Segment_{index + 1}", "Name": " ".join(name.split())}
        entries |= {"LabelValue": str(label), "Layer": str(layer)}
        if name in colors:
            parts = bytes.fromhex(colors[name].removeprefix("#"))
            entries["Color"] = " ".join(f"{part / 255:.4f}" for part in parts)
        keys += [f"Segment{index}_{key}:={value}" for key, value in entries.items()]
    return keys
