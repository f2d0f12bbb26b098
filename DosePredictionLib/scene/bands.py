"""The bands of a result's DVHs, and the DVHs of its samples, as series of its chart.

MRML knows points, lines and bars, but no areas (Slicer's `qMRMLPlotView` makes `vtkPlotLine` and
`vtkPlotBar` alone), and an area that is put into the view's own chart would be lost with it. So a
band is one translucent line that runs to and fro between its ends: at the size of a window its
strokes touch, and it is saved, loaded and drawn by any Slicer. Likewise the samples of a structure
are one thin line, down the first curve, up the second …
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import slicer
from numpy.typing import NDArray

from ..evaluation.calibration import LEVELS, VOLUMES_PERCENT
from .reading import SegmentInfo
from .runs import Draft
from .tables import set_table

__all__ = [
    "BAND_OPACITY",
    "BAND_ROLES",
    "SAMPLES_OPACITY",
    "SAMPLES_ROLE",
    "band_drafts",
    "sample_drafts",
]

BAND_ROLES = {percent: f"series-band-{percent}" for percent in LEVELS}
"""Level in percent → role of its series, before the structure's key."""

BAND_OPACITY = 0.04
"""The 50 % band lies over the 90 % band, and is darker by that."""

SAMPLES_ROLE = "series-samples"
"""Role of the series of a structure's samples, before its key."""

SAMPLES_OPACITY = 0.5

_WIDTH, _SAMPLES_WIDTH = 3, 1  # pixels
_STEP_PERCENT = 0.5  # of the volume between two strokes: they touch in a chart of 700 pixels
_TABLE, _SAMPLES_TABLE = "bands", "samples"


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
    lines = [
        _Line(
            f"{BAND_ROLES[percent]}:{key}",
            f"{segments[key].name} ({percent} % band)",
            _TABLE,
            _column(key, percent),
            (_WIDTH, BAND_OPACITY),
        )
        for key in keys
        for percent in LEVELS
    ]
    return [table, *(_series_draft(line, segments[line.key]) for line in lines)]


def sample_drafts(
    name: str,
    samples: Mapping[str, Any] | None,
    segments: Mapping[str, SegmentInfo],
    external: str | None,
) -> list[Draft]:
    """A table of the samples' DVHs, and a series for each structure; none without samples.

    Args:
        samples: as `prediction.json` has them.
        segments, external: as for `band_drafts`.
    """
    known = {} if samples is None else samples["structures"]
    keys = [key for key in known if key in segments and key != external]
    if samples is None or not keys:
        return []
    volumes = np.array([[0.0, *samples["volume_percent"], 100.0]])
    columns: dict[str, NDArray] = {
        "Volume": _down_and_up(np.tile(volumes, (samples["count"], 1))),
        **{key: _down_and_up(_closed(known[key]["curves_gy"])) for key in keys},
    }

    def fill(node: Any, nodes: Mapping[str, Any]) -> None:
        set_table(node, columns)

    table = Draft(_SAMPLES_TABLE, "vtkMRMLTableNode", f"{name}: DVHs of samples", fill)
    text, look = f"({samples['count']} samples)", (_SAMPLES_WIDTH, SAMPLES_OPACITY)
    lines = [
        _Line(f"{SAMPLES_ROLE}:{key}", f"{segments[key].name} {text}", _SAMPLES_TABLE, key, look)
        for key in keys
    ]
    return [table, *(_series_draft(line, segments[line.key]) for line in lines)]


def _closed(curves_gy: Sequence[Sequence[float]]) -> NDArray:
    """Curves with both ends: straight down to 0 %, and 100 % at 0 Gy, where one goes on as another.

    The stroke between two of them so lies on the axes.
    """
    return np.array([[curve[0], *curve, 0.0] for curve in curves_gy])


def _down_and_up(curves: NDArray) -> NDArray:
    """Curves `(sample, volume)` as one, every second backwards: it goes on where the last ended."""
    turned = curves.copy()
    turned[1::2] = turned[1::2, ::-1]
    return turned.ravel()


class _Line(NamedTuple):
    """A series: its role, name, table and column of doses; its width in pixels and opacity."""

    role: str
    name: str
    table: str
    column: str
    look: tuple[int, float]

    @property
    def key(self) -> str:
        """Of its structure."""
        return self.role.partition(":")[2]


def _to_and_fro(curve: Mapping[str, Any], percent: int, volumes: NDArray) -> NDArray:
    """Low and high, high and low, … Gy, two of each volume."""
    known, ends = curve["volume_percent"], curve[str(percent)]
    both = (np.interp(volumes, known, ends[end]) for end in ("low_gy", "high_gy"))
    pairs = np.column_stack(list(both))
    pairs[1::2] = pairs[1::2, ::-1]
    return pairs.ravel()


def _column(key: str, percent: int) -> str:
    return f"{key} {percent} %"


def _series_draft(line: _Line, segment: SegmentInfo) -> Draft:
    def fill(node: Any, nodes: Mapping[str, Any]) -> None:
        kind = slicer.vtkMRMLPlotSeriesNode
        width, opacity = line.look
        node.SetName(line.name)
        node.SetAndObserveTableNodeID(nodes[line.table].GetID())
        node.SetXColumnName(line.column)
        node.SetYColumnName("Volume")
        node.SetPlotType(kind.PlotTypeScatter)
        node.SetMarkerStyle(kind.MarkerStyleNone)
        node.SetLineStyle(kind.LineStyleSolid)
        node.SetLineWidth(width)
        node.SetColor(*(int(segment.color[i : i + 2], 16) / 255 for i in (1, 3, 5)))
        node.SetOpacity(opacity)

    return Draft(line.role, "vtkMRMLPlotSeriesNode", segment.name, fill)
