"""The surface of a binary mask, estimated between voxel centers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["estimated_occupancy"]


def estimated_occupancy(mask: NDArray) -> NDArray[np.float32]:
    """Occupancy of each voxel."""
    return mask.astype(np.float32)
