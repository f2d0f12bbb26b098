"""The bands of a result's DVHs as series of its chart.

MRML knows points, lines and bars, but no areas (Slicer's `qMRMLPlotView` makes `vtkPlotLine` and
`vtkPlotBar` alone), and an area that is put into the view's own chart would be lost with it. So a
band is one translucent line that runs to and fro between its ends: at the size of a window its
strokes touch, and it is saved, loaded and drawn by any Slicer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from ..evaluation.calibration import LEVELS, VOLUMES_PERCENT
from .reading import SegmentInfo
from .runs import Draft
from .tables import set_table

__all__ = ["BAND_OPACITY", "BAND_ROLES", "band_drafts"]

BAND_ROLES = {percent: f"series-band-{percent}" for percent in LEVELS}
"""Level in percent → role of its series, before the structure's key."""

BAND_OPACITY = 0.04
"""The 50 % band lies over the 90 % band, and is darker by that."""

_WIDTH = 3  # pixels
_STEP_PERCENT = 0.5  # of the volume between two strokes: they touch in a chart of 700 pixels
_TABLE = "bands"


def band_drafts(
    name: str,
    bands: Mapping[str, Any] | None,
    segments: Mapping[str, SegmentInfo],
    external: str | None,
) -> list[Draft]:
    """A table of all bands, and a series for each level of each structure; none without bands.

    Args:
        bands: as `Calibration.bands` gives them.
        segments: by the structure's key.
        external: is left out as in the chart.
    """
    known = {} if bands is None else bands["structures"]
    keys = [key for key in known if key in segments and key != external]
    if not keys:
        return []
    low, high = VOLUMES_PERCENT[0], VOLUMES_PERCENT[-1]
    volumes = np.arange(low, high + _STEP_PERCENT / 2, _STEP_PERCENT)
    columns: dict[str, NDArray] = {"Volume": np.repeat(volumes, 2)}
    for key in keys:
        curve = known[key]["curve"]
        for percent in LEVELS:
            columns[_column(key, percent)] = _to_and_fro(curve, percent, volumes)

    def fill(node: Any, nodes: Mapping[str, Any]) -> None:
        set_table(node, columns)

    table = Draft(_TABLE, "vtkMRMLTableNode", f"{name}: DVH bands", fill)
    series = [_series_draft(key, percent, segments[key]) for key in keys for percent in LEVELS]
    return [table, *series]


def _to_and_fro(curve: Mapping[str, Any], percent: int, volumes: NDArray) -> NDArray:
    """Low and high, high and low, … Gy, two of each volume."""
    known, ends = curve["volume_percent"], curve[str(percent)]
    both = (np.interp(volumes, known, ends[end]) for end in ("low_gy", "high_gy"))
    pairs = np.column_stack(list(both))
    pairs[1::2] = pairs[1::2, ::-1]
    return pairs.ravel()


def _column(key: str, percent: int) -> str:
    return f"{key} {percent} %"


def _series_draft(key: str, percent: int, segment: SegmentInfo) -> Draft:
    def fill(node: Any, nodes: Mapping[str, Any]) -> None:
        kind = slicer.vtkMRMLPlotSeriesNode
        node.SetName(f"{segment.name} ({percent} % band)")
        node.SetAndObserveTableNodeID(nodes[_TABLE].GetID())
        node.SetXColumnName(_column(key, percent))
        node.SetYColumnName("Volume")
        node.SetPlotType(kind.PlotTypeScatter)
        node.SetMarkerStyle(kind.MarkerStyleNone)
        node.SetLineStyle(kind.LineStyleSolid)
        node.SetLineWidth(_WIDTH)
        node.SetColor(*(int(segment.color[i : i + 2], 16) / 255 for i in (1, 3, 5)))
        node.SetOpacity(BAND_OPACITY)

    return Draft(f"{BAND_ROLES[percent]}:{key}", "vtkMRMLPlotSeriesNode", segment.name, fill)
