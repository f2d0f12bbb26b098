"""Axial, coronal and sagittal pictures of cases: `python -m training.simulation.pictures`.

A row for each case, through the middle of its target, with contours and, if asked for, its dose.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image

from DosePredictionLib.case import Case
from DosePredictionLib.io import read_case
from DosePredictionLib.structures.protocol import StructureProtocol

__all__ = ["draw_cases", "main"]

_WINDOW_HU = (-200.0, 350.0)
_VIEWS = {"axial": 0, "coronal": 1, "sagittal": 2}  # the axis of (z, y, x) that is cut


def draw_cases(cases: Sequence[Case], with_dose: bool) -> Figure:
    """A figure of CTs with contours, `with_dose` from 10 % of the prescription on."""
    columns = [case.grid.size[0] * case.grid.spacing[0] for case in cases]
    figure = Figure(figsize=(11, 2.65 * len(cases) + 0.35), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        len(cases), 3, squeeze=False, width_ratios=(max(columns), max(columns), 312.0)
    )
    for row, case in zip(axes, cases, strict=True):
        where = np.argwhere(case.structures["PTV"].majority())
        middle = np.round(where.mean(axis=0)).astype(int)
        for axis, (view, cut) in zip(row, _VIEWS.items(), strict=True):
            _draw_slice(axis, case, cut, int(middle[cut]), with_dose)
            axis.set_title(f"{case.name}, {view}", fontsize=7.5, loc="left", pad=2)
    inputs = StructureProtocol.load("pelvis").inputs
    lines = [Line2D([], [], color=channel.color, label=channel.label) for channel in inputs]
    figure.legend(handles=lines, loc="outside lower center", ncols=9, fontsize=7.5, frameon=False)
    return figure


def _draw_slice(axes: Axes, case: Case, cut: int, index: int, with_dose: bool) -> None:
    spacing = [s for i, s in enumerate(reversed(case.grid.spacing)) if i != cut]

    def plane(array: NDArray) -> NDArray:
        taken = np.take(array, index, axis=cut)
        # The head is up; in an axial slice the front is.
        return taken if cut == 0 else taken[::-1]

    height, width = plane(case.ct.array).shape
    extent = (0.0, width * spacing[1], height * spacing[0], 0.0)
    low, high = _WINDOW_HU
    axes.imshow(plane(case.ct.array), cmap="gray", vmin=low, vmax=high, extent=extent)
    if with_dose and case.plan_dose is not None and case.prescription is not None:
        gy = case.prescription.highest_gy
        dose = np.ma.masked_less(plane(case.plan_dose.array), 0.1 * gy)
        axes.imshow(dose, cmap="turbo", vmin=0, vmax=1.1 * gy, alpha=0.5, extent=extent)
    for channel in StructureProtocol.load("pelvis").inputs:
        if channel.name in case.structures:
            mask = plane(case.structures[channel.name].majority()).astype(float)
            if mask.any() and not mask.all():
                columns = (np.arange(width) + 0.5) * spacing[1]
                rows = (np.arange(height) + 0.5) * spacing[0]
                axes.contour(columns, rows, mask, [0.5], colors=channel.color, linewidths=1.0)
    axes.set_axis_off()


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw some case folders into one PNG."""
    parser = argparse.ArgumentParser(prog="python -m training.simulation.pictures")
    parser.add_argument("cases", type=Path, nargs="+", metavar="CASE", help="case folder")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="PNG")
    parser.add_argument("--dose", action="store_true", help="show the plan's dose as well")
    parsed = parser.parse_args(arguments)
    figure = draw_cases([read_case(folder) for folder in parsed.cases], parsed.dose)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=80)
    parsed.output.parent.mkdir(parents=True, exist_ok=True)
    # A palette keeps the file small; the octree keeps the colors of thin lines.
    picture = Image.open(drawn).convert("RGB")
    method, dither = Image.Quantize.FASTOCTREE, Image.Dither.NONE
    picture.quantize(256, method=method, dither=dither).save(parsed.output, optimize=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
