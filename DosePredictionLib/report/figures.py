"""The figures: as PNG for a paper, and as the pieces that the HTML report is made of.

Only `Figure` objects with their own canvas are used, so that nothing is shared with a host program
that plots as well.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from ..files import whole_file
from ..prediction import Output
from .content import ReportInput
from .dvh_chart import (
    Ink,
    StructureDvh,
    draw_dvh,
    legend_handles,
    paper_ink,
    short_label,
    structure_dvhs,
)
from .palette import DIFFERENCE_MAP, DOSE_MAP, WASH_OPACITY, bar_map
from .slices import Layer, Scales, SliceView, draw_output, draw_panel, layers, slice_views

__all__ = ["dvh_figure", "dvh_svg", "output_png", "panel_png", "slices_figure", "write_figures"]

_PAPER_DPI = 300
_PAPER_WIDTH = 7.2  # inches, two columns of a journal
_PANEL_PIXELS = 680
_PANEL_BYTES = 170_000  # nine of them, in base64, make 2 MB
_NOTE = "Predicted dose. Research use only; not a medical device."
_CHART_INCHES = (5.3, 3.75)


def write_figures(report: ReportInput, folder: Path) -> list[Path]:
    """Write the slices and the DVHs as PNG at 300 dpi on white; returns the paths.

    The folder is created. Files of the same names are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    views, scales = slice_views(report)
    figures = {
        "slices.png": slices_figure(report, views, scales),
        "dvh.png": dvh_figure(report, structure_dvhs(report)),
    }
    paths = []
    for name, figure in figures.items():
        with whole_file(folder / name) as aside:
            figure.savefig(aside, dpi=_PAPER_DPI, format="png", facecolor="white")
        paths.append(folder / name)
    return paths


def slices_figure(report: ReportInput, views: Sequence[SliceView], scales: Scales) -> Figure:
    """All panels in rows of one slice each; below them the color bars and the structures' key."""
    shown = layers(report)
    columns = 4
    key = 0.16 * -(-len(report.structures) // columns)
    gap, bottom = 0.06, 0.72 + key
    panel = (_PAPER_WIDTH - gap * (len(shown) - 1)) / len(shown)
    heights = [panel * view.frame_mm[1] / view.frame_mm[0] for view in views]
    total = sum(heights) + gap * (len(heights) - 1) + bottom
    figure = _figure(_PAPER_WIDTH, total)
    y = total
    for view, height in zip(views, heights, strict=True):
        y -= height
        for column, layer in enumerate(shown):
            axes = _axes(figure, column * (panel + gap), y, panel, height)
            draw_panel(axes, view, layer, scales, 72 * panel)
        y -= gap
    bars = bottom - 0.2
    last = (len(shown) - 1) * (panel + gap)
    _dose_bar(_axes(figure, 0.25, bars, last - gap - 0.5, 0.09), scales)
    if "difference" in shown:
        _difference_bar(_axes(figure, last + 0.2, bars, panel - 0.4, 0.09), scales)
    _structure_key(figure, report, columns, 0.12 / total)
    figure.text(0.0, 0.015 / total, _NOTE, fontsize=5.5, color="#5b6570", va="bottom")
    return figure


def _structure_key(figure: Figure, report: ReportInput, columns: int, y: float) -> None:
    """Number, color and name of each structure."""
    ink = paper_ink(report.structures)
    handles = [
        Line2D([], [], color=color, linewidth=2, label=f"{number}  {short_label(structure.label)}")
        for number, (structure, color) in enumerate(
            zip(report.structures, ink.structures, strict=True), start=1
        )
    ]
    if not handles:
        return
    key = figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.0, y),
        ncols=columns,
        frameon=False,
        fontsize=6.5,
        handlelength=1.4,
        labelspacing=0.25,
        borderpad=0.1,
    )
    for text in key.get_texts():
        text.set_parse_math(False)


def dvh_figure(report: ReportInput, curves: Sequence[StructureDvh]) -> Figure:
    """Targets and organs side by side."""
    ink = paper_ink(report.structures)
    width, height = 2 * _CHART_INCHES[0], _CHART_INCHES[1] + 0.35
    figure = _figure(width, height)
    for column, (role, title) in enumerate((("target", "Targets"), ("organ", "Organs at risk"))):
        x = column * _CHART_INCHES[0]
        axes = _axes(figure, x + 0.6, 0.62, _CHART_INCHES[0] - 0.75, _CHART_INCHES[1] - 0.95)
        draw_dvh(axes, curves, role, report, ink)  # type: ignore[arg-type]
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=ink.text, pad=16)
    figure.legend(
        handles=legend_handles(
            ink, report.reference is not None, bool(report.bands), report.samples.get("count", 0)
        ),
        loc="upper right",
        ncols=4,
        frameon=False,
        fontsize=9.5,
        labelcolor=ink.text,
    )
    figure.text(0.006, 0.012, _NOTE, fontsize=7, color=ink.muted, va="bottom")
    return figure


def panel_png(view: SliceView, layer: Layer, scales: Scales) -> bytes:
    """One panel as a small PNG, for a screen of high density at a third of a page's width."""
    return _png(view, lambda axes, points: draw_panel(axes, view, layer, scales, points))


def output_png(view: SliceView, output: Output, scales: Scales) -> bytes:
    """One output over a slice, as `panel_png`."""
    return _png(view, lambda axes, points: draw_output(axes, view, output, scales, points))


def _png(view: SliceView, draw: Callable[[Axes, float], None]) -> bytes:
    width = 3.4
    height = width * view.frame_mm[1] / view.frame_mm[0]
    figure = Figure(figsize=(width, height), dpi=_PANEL_PIXELS / width, facecolor="black")
    canvas = FigureCanvasAgg(figure)
    draw(_axes(figure, 0, 0, width, height), 72 * width)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    return _small_png(picture)


def _small_png(picture: Image.Image) -> bytes:
    """The picture in 256 colors, dithered unless a noisy CT makes that too large.

    The octree keeps the colors of thin lines, which a median cut gives away to large areas.
    """
    palette = picture.quantize(256, method=Image.Quantize.FASTOCTREE)
    dithered = picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    png = b""
    for candidate in (dithered, palette):
        buffer = io.BytesIO()
        candidate.save(buffer, format="png", compress_level=6)
        png = buffer.getvalue()
        if len(png) <= _PANEL_BYTES:
            break
    return png


def dvh_svg(report: ReportInput, curves: Sequence[StructureDvh], role: str) -> str | None:
    """The DVHs of one role as inline SVG whose colors the page's style sheet decides.

    Returns:
        None when no structure of the role has a volume.
    """
    if not any(c.structure.role == role and c.prediction.curve is not None for c in curves):
        return None
    slots = range(len(report.structures))
    lines, labels = (tuple(f"#{kind}{slot:04x}" for slot in slots) for kind in _SLOTS)
    ink = Ink(_TEXT, _MUTED, _GRID, lines, labels)
    figure = _figure(*_CHART_INCHES)
    width, height = _CHART_INCHES
    axes = _axes(figure, 0.58, 0.52, width - 0.68, height - 0.8)
    draw_dvh(axes, curves, role, report, ink)  # type: ignore[arg-type]
    buffer = io.StringIO()
    # Text stays text, so that it takes the page's type and can be searched and read aloud.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": role}):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    return _inline(buffer.getvalue(), f"dvh-{role}")


# Colors that stand for what the page decides; the last four digits of a slot are the structure's.
_TEXT, _MUTED, _GRID = "#010101", "#020202", "#030303"
_SLOTS = {"0a": "s", "0b": "t"}


def _inline(svg: str, prefix: str) -> str:
    """The SVG element alone, its ids made unique in the page, its colors left to the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = svg.replace("url(#", f"url(#{prefix}-").replace('xlink:href="#', f'href="#{prefix}-')
    for color, name in ((_TEXT, "ink"), (_MUTED, "muted"), (_GRID, "rule")):
        svg = svg.replace(color, f"var(--{name})")
    svg = re.sub(r"#(0a|0b)([0-9a-f]{4})\b", lambda m: f"var(--{_SLOTS[m[1]]}{int(m[2], 16)})", svg)
    for size in ("width", "height"):  # the page sizes the chart; the view box keeps its shape
        svg = re.sub(rf'(<svg\b[^>]*?)\s{size}="[^"]*"', r"\1", svg, count=1)
    return svg.strip()


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _axes(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Axes by inches from the lower left."""
    across, up = figure.get_size_inches()
    return figure.add_axes((x / across, y / up, width / across, height / up))


def _dose_bar(axes: Axes, scales: Scales) -> None:
    bar = ScalarMappable(Normalize(0, scales.dose_high_gy), bar_map(DOSE_MAP, WASH_OPACITY))
    axes.figure.colorbar(bar, cax=axes, orientation="horizontal")
    axes.tick_params(labelsize=6, length=2, width=0.5)
    axes.set_xlabel("Dose (Gy); isodose lines in % of the highest prescription", fontsize=6.5)


def _difference_bar(axes: Axes, scales: Scales) -> None:
    high = scales.difference_gy
    bar = ScalarMappable(Normalize(-high, high), DIFFERENCE_MAP)
    axes.figure.colorbar(bar, cax=axes, orientation="horizontal", extend="both")
    axes.tick_params(labelsize=6, length=2, width=0.5)
    axes.set_xlabel("Prediction − plan (Gy)", fontsize=6.5)
