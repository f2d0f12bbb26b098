"""An organ's own and another contour, in the slice where the difference moves the dose most."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..mask import Mask
from ..volume import Volume
from .palette import DARK_SURFACE, dose_wash
from .wording import clean

__all__ = ["ContourChange", "draw_change", "worst_slice"]

_CT_WINDOW_HU = (-320.0, 340.0)
_OWN, _OTHER = "#7fdbff", "#ffffff"
_MARGIN_MM = 40.0
_WIDTH_IN, _LINE_IN, _DPI = 4.2, 0.18, 110


@dataclass(frozen=True, eq=False)
class ContourChange:
    """What is drawn.

    Args:
        organ: its name.
        ct: HU.
        dose: Gy, on the CT's grid: the plan's, or one that was predicted on the own contours.
        own, other: contours, likewise.
        said: what the change does, in words; each a line.
    """

    organ: str
    ct: Volume
    dose: Volume
    own: Mask
    other: Mask
    said: tuple[str, ...]


def worst_slice(change: ContourChange) -> int | None:
    """The slice of the axis-aligned CT in which the difference moves the mean dose most.

    A voxel that joins or leaves a contour moves its mean dose by its own dose less the mean, over
    the contour's size: slices are compared by the sum of |D − mean| over the voxels that differ.

    Returns:
        None where the contours are the same.
    """
    dose, own, other = _arrays(change)
    different = own ^ other
    if not different.any():
        return None
    mean = dose[own].mean() if own.any() else 0.0
    lever = (np.abs(dose - mean) + 1e-3) * different
    return int(lever.sum((1, 2)).argmax())


def draw_change(change: ContourChange, path: Path) -> None:
    """Write a PNG of `worst_slice`: CT, dose, the own contour whole and the other one dashed.

    The patient's left is on the viewer's right, anterior up. Raises nothing of its own; the
    contours must differ.
    """
    index = worst_slice(change)
    assert index is not None
    dose, own, other = _arrays(change)
    ct = change.ct.reordered_to_lps()
    rows, columns = _window(own | other, ct.grid.spacing)
    x, y = ct.grid.spacing[0], ct.grid.spacing[1]
    height, width = (rows.stop - rows.start) * y, (columns.stop - columns.start) * x
    head_in = _LINE_IN * (len(change.said) + 1) + 0.15
    figure = Figure(figsize=(_WIDTH_IN, _WIDTH_IN * height / width + head_in), dpi=_DPI)
    figure.patch.set_facecolor(DARK_SURFACE)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1 - head_in / figure.get_figheight()))
    axes.set_axis_off()
    extent = (0.0, width, height, 0.0)
    low, high = _CT_WINDOW_HU
    cut = (index, rows, columns)
    axes.imshow(ct.array[cut], cmap="gray", vmin=low, vmax=high, extent=extent)
    axes.imshow(dose_wash(dose[cut], max(float(dose.max()), 1.0)), extent=extent)
    _outline(axes, own[cut], (x, y), _OWN, "solid")
    _outline(axes, other[cut], (x, y), _OTHER, "dashed")
    place = float(ct.grid.world_from_index(np.array([0.0, 0.0, float(index)]))[2])
    title = f"{clean(change.organ)}, z = {place:.0f} mm: own (solid), other (dashed)"
    for line, text in enumerate((title, *map(clean, change.said))):
        at = 1 - (0.1 + _LINE_IN * line) / figure.get_figheight()
        figure.text(0.02, at, text, color="white", fontsize=8, va="top")
    for text, where, align in (("R", 0.01, "left"), ("L", 0.99, "right")):
        axes.text(where, 0.5, text, color="white", ha=align, transform=axes.transAxes, fontsize=9)
    with matplotlib.rc_context({"savefig.facecolor": "auto"}):
        figure.savefig(path, format="png")


def _arrays(
    change: ContourChange,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Dose and both contours on the axis-aligned grid, `(z, y, x)`."""
    dose = change.dose.reordered_to_lps().array.astype(np.float32, copy=False)
    own, other = (m.reordered_to_lps().majority() for m in (change.own, change.other))
    return dose, own, other


def _window(mask: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> tuple[slice, slice]:
    """Rows and columns about a contour, on all slices."""
    found = []
    for axis, step in ((1, spacing_mm[1]), (2, spacing_mm[0])):
        others = tuple(each for each in (0, 1, 2) if each != axis)
        there = np.flatnonzero(mask.any(others))
        margin = round(_MARGIN_MM / step)
        size = mask.shape[axis]
        found.append(slice(max(0, there[0] - margin), min(size, there[-1] + 1 + margin)))
    return found[0], found[1]


def _outline(
    axes: Axes, mask: NDArray[np.bool_], spacing_mm: tuple[float, float], color: str, style: str
) -> None:
    if not mask.any():
        return
    x, y = spacing_mm
    rimmed = np.pad(mask.astype(np.float32), 1)
    columns = (np.arange(rimmed.shape[1]) - 0.5) * x
    rows = (np.arange(rimmed.shape[0]) - 0.5) * y
    axes.contour(columns, rows, rimmed, [0.5], colors=[color], linestyles=[style], linewidths=1.4)
