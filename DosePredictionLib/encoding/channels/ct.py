"""The CT, HU clipped to the model's window and scaled to 0…1; beyond the image lies air."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...hounsfield import AIR_HU
from ...kept import kept
from ...mask import Mask
from ...structures.protocol import StructureProtocol
from ...volume import Grid, Volume
from ..settings import EncodingSettings
from .base import Channel, Source

__all__ = ["CtChannel", "channels", "scale_ct"]


class CtChannel(Channel):
    """Linear in HU; outside the external contour air, where the model wants that."""

    def computed(self, source: Source) -> NDArray:
        """See `Channel.computed`."""
        bound, settings = source.case.bound, source.settings
        body = bound.external if settings.air_outside_external else None
        return scale_ct(_hu_on(bound.case.ct, source.case.grid, body), settings)


def channels(protocol: StructureProtocol, settings: EncodingSettings) -> Sequence[Channel]:
    """The one CT channel."""
    air = float(scale_ct(np.array(AIR_HU), settings))
    return [CtChannel("CT", "CT", "ct", air, "linear", "float32")]


@kept
def _hu_on(ct: Volume, grid: Grid, body: Mask | None) -> NDArray:
    """The CT on another grid `(z, y, x)`, HU; air outside the body, if one is given."""
    if body is not None:
        # Unsigned values, which a check will refuse, cannot hold air.
        holds_air = np.can_cast(np.int16, ct.array.dtype)
        values = ct.array if holds_air else ct.array.astype(np.float32)
        ct = ct.with_array(np.where(body.touched(), values, values.dtype.type(AIR_HU)))
    return ct.resampled_to(grid, "linear", outside=AIR_HU).array


def scale_ct(hu: NDArray, settings: EncodingSettings) -> NDArray[np.float32]:
    """HU clipped to the window and scaled to 0…1."""
    low, high = settings.ct_window_hu
    return (np.clip(hu.astype(np.float32), low, high) - np.float32(low)) / np.float32(high - low)
