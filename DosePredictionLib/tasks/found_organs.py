"""What is to be said of organs that a network found: of what is missing, cut off or a fragment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..findings import Finding
from ..structures.protocol import Channel
from ..volume import Grid

__all__ = ["WHOLE_CC", "connected", "in_one_piece", "judged", "not_found"]

WHOLE_CC = 20.0
"""Of an organ in one piece: fragments, and bone and bowel, are found on any CT."""

_IN_PIECES = frozenset({"Bowel_Small", "BoneMarrow"})
_LEAVES_THE_CT = frozenset({"SpinalCord"})  # of a pelvis, always; its part may be of any size
_AT_THE_END_MM = 5.0  # the model's voxels do not end where the CT's do
_ENDS = (("left", "right"), ("posterior", "anterior"), ("superior", "inferior"))  # of LPS


def in_one_piece(organ: Channel) -> bool:
    """Whether a patient has the organ once and connected."""
    return organ.tg263 not in _IN_PIECES


def connected(chances: NDArray[np.float32], organs: Sequence[Channel]) -> NDArray[np.float32]:
    """Probabilities `(1 + organs, z, y, x)` without what is apart from an organ's largest piece.

    Bowel and marrow lie in several pieces: of them nothing is taken away.
    """
    classes = chances.argmax(0)
    kept = chances.copy()
    for index, organ in enumerate(organs, start=1):
        if not in_one_piece(organ):
            continue
        pieces, count = ndimage.label(classes == index)
        if count > 1:
            sizes = np.bincount(pieces.ravel())[1:]
            kept[index][(pieces > 0) & (pieces != 1 + sizes.argmax())] = 0
    return kept


def judged(organ: Channel, mask: NDArray[np.bool_], grid: Grid) -> list[Finding]:
    """Whether an organ in one piece ends where the CT does, or is too small to be whole.

    Args:
        mask: `(z, y, x)`, not empty.
    """
    if not in_one_piece(organ) or organ.tg263 in _LEAVES_THE_CT:
        return []
    index = np.argwhere(mask)[:, ::-1]
    x, y, z = grid.world_from_index(index.mean(axis=0))
    place = (float(x), float(y), float(z))
    ends = _ends_reached(index, grid)
    if ends:
        message = f"{organ.label} reaches the CT's {' and '.join(ends)} end: it is cut off there."
        remedy = "Its volume and dose are those of the part on the CT; take a longer CT."
        return [Finding("organ-cut", "warning", message, remedy, organ.name, place)]
    cc = len(index) * grid.voxel_volume_cc
    if cc >= WHOLE_CC:
        return []
    message = f"Only {cc:.0f} cc were found of {organ.label}, hardly all of it."
    remedy = "Contour it by hand, and check that the CT shows it and how the patient lies."
    return [Finding("organ-fragment", "warning", message, remedy, organ.name, place)]


def _ends_reached(index: NDArray[np.intp], grid: Grid) -> list[str]:
    """The ends of the CT that voxels `(voxel, xyz)` lie at, by the patient's directions."""
    ends = []
    for axis, size in enumerate(grid.size):
        towards = np.asarray(grid.direction)[:, axis]
        names = _ENDS[int(np.abs(towards).argmax())]
        names = names if towards[np.abs(towards).argmax()] > 0 else names[::-1]
        near = int(_AT_THE_END_MM / grid.spacing[axis])
        ends += [names[0]] * bool(index[:, axis].max() >= size - 1 - near)
        ends += [names[1]] * bool(index[:, axis].min() <= near)
    return ends


def not_found(organ: Channel) -> Finding:
    """That an organ is not there, or was overlooked."""
    return Finding(
        "organ-not-found",
        "warning",
        f"{organ.label} was not found on this CT.",
        "Contour it by hand if it is there, or check how far the CT reaches.",
        structure=organ.name,
    )
