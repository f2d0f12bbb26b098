"""The external contour of a patient, from the CT alone."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .errors import CaseError
from .hounsfield import SKIN_HU
from .mask import Mask
from .volume import Volume

__all__ = ["derive_external"]

_WORKING_SPACING_MM = 3.0
_SHEET_THICKNESS_MM = 9.0


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
