"""From CT values to the electron density that a photon beam passes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["relative_electron_density"]

_BONE_HU = 1950.0
_DENSEST_HU = 3071.0  # what a 12-bit CT holds; beyond it is metal, which no CT measures


def relative_electron_density(hu: NDArray) -> NDArray[np.float32]:
    """Electron density relative to water: 1 + HU/1000 below 0 HU and 1 + HU/1950 above.

    Thomas, S. J., "Relative electron density calibration of CT scanners for radiotherapy treatment
    planning", Br. J. Radiol. 72 (1999) 781, doi 10.1259/bjr.72.860.10624344. Air and what lies
    below it has none.
    """
    clipped = np.clip(hu.astype(np.float32, copy=False), -1000.0, _DENSEST_HU)
    slope = np.where(clipped > 0, np.float32(1 / _BONE_HU), np.float32(1e-3))
    return 1 + clipped * slope
