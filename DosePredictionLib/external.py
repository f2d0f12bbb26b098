"""The external contour of a patient: from the CT alone, or as drawn, with all that it encloses."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .errors import CaseError
from .hounsfield import SKIN_HU
from .kept import kept
from .mask import Mask
from .volume import Volume

__all__ = [
    "DOSE_MASK_REACH_MM",
    "complete_external",
    "derive_external",
    "dose_region",
    "holes_filled",
]

DOSE_MASK_REACH_MM = 15.0
"""How far outside the body a stated dose mask is believed: those of OpenKBP reach 14 mm."""

_WORKING_SPACING_MM = 3.0
_SHEET_THICKNESS_MM = 9.0


@kept
def derive_external(ct: Volume, skin_hu: float = SKIN_HU) -> Mask:
    """The patient's outline: tissue by threshold, couch and straps removed, holes filled.

    Works on a grid thinned to about 3 mm in plane; thin sheets (couch top, masks) are opened away
    before the largest connected body is kept and its holes are filled slice by slice.

    Args:
        ct: HU on any grid.
        skin_hu: threshold between air and skin.

    Returns:
        A boolean mask on the CT's grid.

    Raises:
        CaseError: nothing above the threshold.
    """
    lps = ct.reordered_to_lps()
    step_x, step_y = (max(1, int(_WORKING_SPACING_MM / lps.grid.spacing[a])) for a in (0, 1))
    tissue = lps.array[:, ::step_y, ::step_x] > skin_hu
    # At least three voxels: less would open nothing away where voxels are large.
    size = [
        max(3, round(_SHEET_THICKNESS_MM / (step * lps.grid.spacing[axis])))
        for axis, step in ((1, step_y), (0, step_x))
    ]
    opened = ndimage.binary_opening(tissue, np.ones((1, *size), dtype=bool))
    labels, count = ndimage.label(opened)
    if count == 0:
        raise CaseError(
            f"No body was found in the CT: no voxel exceeds {skin_hu:g} HU. Check that it holds "
            "HU, or map an external contour."
        )
    sizes = np.bincount(labels.ravel())[1:]
    body = labels == 1 + int(sizes.argmax())
    # What the opening rounded off the patient comes back; what hung on by a sheet does not.
    body = ndimage.binary_dilation(body, np.ones((1, 3, 3), dtype=bool), mask=tissue)
    for index in np.flatnonzero(body.any(axis=(1, 2))):
        body[index] = ndimage.binary_fill_holes(body[index])
    full = body.repeat(step_y, axis=1).repeat(step_x, axis=2)
    full = full[:, : lps.array.shape[1], : lps.array.shape[2]]
    return Mask(full, lps.grid).resampled_to(ct.grid, "nearest")


def complete_external(outline: Mask, structures: Iterable[Mask]) -> Mask:
    """The body of an external contour: with every structure in it, and without holes.

    A segment that is drawn with other segments overwritten cuts itself out of the body; a
    threshold leaves gas and lungs out, and a target that was grown past the skin. No dose may be
    taken to be 0 there.

    Args:
        outline: the contour, drawn or found in the CT.
        structures: targets and organs, on the same grid.

    Returns:
        A boolean mask on the same grid.
    """
    body = _filled(outline)
    outside = [mask.as_binary() for mask in structures if not _holds(body, mask.as_binary())]
    return body if body.is_empty or not outside else _filled(outline, *outside)


@kept
def _filled(drawn: Mask, *others: Mask) -> Mask:
    """The union of masks without holes, boolean."""
    masks = [drawn.as_binary(), *others]
    boxes = [box for box in (mask.bounding_box() for mask in masks) if box is not None]
    if not boxes:
        return Mask.of_block(np.zeros((0, 0, 0), dtype=bool), (slice(0, 0),) * 3, drawn.grid)
    z, y, x = (
        slice(min(edge.start for edge in edges), max(edge.stop for edge in edges))
        for edges in zip(*boxes, strict=True)
    )
    block = np.logical_or.reduce([mask.within((z, y, x)) for mask in masks])
    filled = holes_filled(block, 2 - drawn.grid.axis_order()[0][2])
    return Mask.of_block(filled, (z, y, x), drawn.grid)


def _holds(body: Mask, mask: Mask) -> bool:
    """Whether a boolean mask lies in another one."""
    box = mask.bounding_box()
    return box is None or not np.any(mask.block & ~body.within(box))


def dose_region(external: Mask, dose_mask: Mask | None) -> NDArray[np.bool_]:
    """Where a predicted dose stands, `(z, y, x)`; everywhere else it is 0.

    In the body; or, where the data set states it, in the dose mask. Plans have dose in what the
    CT does not show (bolus, a CT that was cut at the skin), and networks learn it there. Farther
    from the body than `DOSE_MASK_REACH_MM` (along an axis) nobody has learned anything.

    Args:
        external: the body, boolean.
        dose_mask: on the same grid.
    """
    return external.touched() if dose_mask is None else _believed(dose_mask, external)


@kept
def _believed(dose_mask: Mask, external: Mask) -> NDArray[np.bool_]:
    """A stated dose mask without what lies too far from the body."""
    stated, body = dose_mask.touched(), external.touched()
    if not np.any(stated & ~body):
        return stated
    reach = [2 * int(DOSE_MASK_REACH_MM / mm) + 1 for mm in reversed(external.grid.spacing)]
    return stated & ndimage.maximum_filter(body, reach)


def holes_filled(mask: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """A mask whose slices across an array axis have no holes; the mask itself if there are none.

    A hole is what does not reach the slice's edge, by faces.
    """
    slices = np.moveaxis(mask, axis, 0)
    # A slice whose every row is one run has none: what is left of each row reaches an edge.
    edges = slices[:, :, 1:] & ~slices[:, :, :-1]
    runs = np.count_nonzero(edges, axis=2) + slices[:, :, 0]
    suspects = np.flatnonzero((runs > 1).any(axis=1))
    filled = None
    for index in suspects:
        labels, count = ndimage.label(np.pad(~slices[index], 1, constant_values=True))
        if count > 1:
            if filled is None:
                filled = slices.copy()
            filled[index] = labels[1:-1, 1:-1] != labels[0, 0]
    return mask if filled is None else np.ascontiguousarray(np.moveaxis(filled, 0, axis))
