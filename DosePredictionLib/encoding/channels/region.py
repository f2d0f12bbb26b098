"""Where dose may be at all: the case's possible-dose mask, or the body in its place.

A possible-dose mask is part of a data set, made when the dose is known; a clinic has none. A model
sees it only where its manifest says so, `"further": {"region": {"of": "possible_dose_mask"}}`, and
the result names it then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import CaseError, ModelError
from ...findings import Finding
from ...schema import from_json, validated
from ...structures.protocol import StructureProtocol
from ..settings import EncodingSettings
from .base import Channel, Source

__all__ = ["BodyChannel", "DoseMaskChannel", "RegionSettings", "channels"]


@dataclass(frozen=True)
@validated
class RegionSettings:
    """What `EncodingSettings.further["region"]` may hold.

    Args:
        of: which region the channel shows.
    """

    of: Literal["body", "possible_dose_mask"] = "body"


class BodyChannel(Channel):
    """0 or 1: the external contour."""

    def computed(self, source: Source) -> NDArray:
        """See `Channel.computed`."""
        return source.body.astype(np.float32)


class DoseMaskChannel(Channel):
    """0 or 1: the case's possible-dose mask.

    Raises:
        CaseError: the case has none.
    """

    def computed(self, source: Source) -> NDArray:
        """See `Channel.computed`."""
        on_grid = source.case
        case = on_grid.bound.case
        if case.dose_mask is None:
            raise CaseError(
                f"{case.name} has no possible-dose mask, which this model takes as an input. "
                "Choose a model that sees the body in its place, or give the case its mask."
            )
        on_grid.findings.append(
            Finding(
                "possible-dose-mask-input",
                "info",
                "The network saw the case's possible-dose mask, which is made from a known dose.",
            )
        )
        return case.dose_mask.resampled_to(on_grid.grid, "nearest").touched().astype(np.float32)


def channels(protocol: StructureProtocol, settings: EncodingSettings) -> Sequence[Channel]:
    """One channel, where the settings ask for it."""
    if "region" not in settings.further:
        return []
    chosen = from_json(RegionSettings, settings.further["region"], "further.region", ModelError)
    if chosen.of == "body":
        return [BodyChannel("body", "body", "derived", 0.0, "nearest", "bits")]
    name = "possible dose mask"
    return [DoseMaskChannel(name, name, "derived", 0.0, "nearest", "bits")]
