"""One slice as a panel: CT, dose or difference as a wash, isodoses, contours, orientation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from contourpy import contour_generator
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy import ndimage

from ..mask import majority
from ..prediction import Output
from ..structures.protocol import Role
from .content import ReportInput, ReportStructure
from .palette import DARK_SURFACE, difference_wash, dose_wash, readable_on, safe_color
from .planes import Plane, choose_planes, target_order
from .wording import clean

__all__ = ["Layer", "Scales", "SliceView", "draw_output", "draw_panel", "layers", "slice_views"]

Layer = Literal["prediction", "reference", "difference", "structures"]

_CT_WINDOW_HU = (-320.0, 340.0)
_FINE_MM = 1.0  # contours of coarse masks are drawn through an interpolated picture
_SMOOTHING_VOXELS = 0.75  # takes the stairs out of a coarse mask's outline, for the eye only
_COARSE_MM = 1.5
_NICE_GY = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0)
_TALLEST = 1.15  # height over width of a panel; narrower slices stand on a wider black ground
_FLATTEST = 0.62
_ISODOSE_PERCENT = (20.0, 50.0, 80.0, 95.0, 105.0)
_TITLES: dict[Layer, str] = {
    "prediction": "Prediction",
    "reference": "Plan",
    "difference": "Prediction − plan",
    "structures": "Structures on the CT",
}
_LINE_POINTS: dict[Role, float] = {"target": 1.7, "organ": 1.2, "external": 0.7}
_HALO = "#000000"


@dataclass(frozen=True)
class Contour:
    """The outline of one structure in one slice: lines `(points, 2)` of (x, y) in mm."""

    number: int
    color: str
    role: Role
    lines: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True)
class Scales:
    """What colors and lines mean, one scale for all slices.

    Args:
        dose_high_gy: upper end of the dose wash.
        difference_gy: the difference wash runs from minus to plus this.
        isodoses: (percent, Gy) of the lines; percent of the highest prescription, or of the
            highest dose where there is none.
    """

    dose_high_gy: float
    difference_gy: float
    isodoses: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class SliceView:
    """One slice, cut and ready to be drawn; pictures are `(row, column)`, rows downwards."""

    plane: Plane
    ct_hu: NDArray
    prediction_gy: NDArray
    reference_gy: NDArray | None
    contours: tuple[Contour, ...]

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the slice."""
        rows, columns = self.ct_hu.shape
        return columns * self.plane.spacing_mm[1], rows * self.plane.spacing_mm[0]

    @property
    def frame_mm(self) -> tuple[float, float]:
        """Width and height of the panel, which is never extremely narrow or flat."""
        width, height = self.size_mm
        return max(width, height / _TALLEST), max(height, width * _FLATTEST)


def layers(report: ReportInput) -> tuple[Layer, ...]:
    """The panels of each slice, from left to right."""
    if report.reference is None:
        return ("prediction", "structures")
    return ("prediction", "reference", "difference")


def slice_views(report: ReportInput) -> tuple[list[SliceView], Scales]:
    """Cut the slices to show, and the scales that fit them all."""
    views = [_view(report, plane) for plane in choose_planes(report)]
    doses = [view.prediction_gy for view in views]
    doses += [view.reference_gy for view in views if view.reference_gy is not None]
    highest = max(float(dose.max()) for dose in doses)
    base = report.highest_gy or highest
    isodoses = tuple(
        (percent, percent / 100 * base)
        for percent in _ISODOSE_PERCENT
        if 0 < percent / 100 * base < highest
    )
    high = 5 * np.ceil(max(highest, 1.0) / 5)
    return views, Scales(float(high), _difference_range(views), isodoses)


def _difference_range(views: Sequence[SliceView]) -> float:
    """A round range that all but the largest hundredth of the differences in dose stay within."""
    found = [
        np.abs(view.prediction_gy - view.reference_gy)[
            (view.prediction_gy > 1) | (view.reference_gy > 1)
        ]
        for view in views
        if view.reference_gy is not None
    ]
    values = np.concatenate(found) if found else np.zeros(0)
    wanted = float(np.percentile(values, 99)) if values.size else 0.0
    return next((nice for nice in _NICE_GY if nice >= wanted), _NICE_GY[-1])


def _view(report: ReportInput, plane: Plane) -> SliceView:
    reference = report.reference
    return SliceView(
        plane=plane,
        ct_hu=plane.cut(report.case.ct),
        prediction_gy=plane.cut(report.prediction).astype(np.float32),
        reference_gy=None if reference is None else plane.cut(reference).astype(np.float32),
        contours=_contours(report, plane),
    )


def _contours(report: ReportInput, plane: Plane) -> tuple[Contour, ...]:
    """Outlines, those of the highest target last: what is drawn later lies on top."""
    rank = {s.key: index for index, s in enumerate(target_order(report))}
    found = []
    for number, structure in enumerate(report.structures, start=1):
        lines = _outline(plane.cut(structure.mask), plane.spacing_mm)
        if lines:
            color = readable_on(safe_color(structure.color), DARK_SURFACE)
            contour = Contour(number, color, structure.role, lines)
            found.append((_depth(structure, rank), contour))
    return tuple(contour for _, contour in sorted(found, key=lambda pair: pair[0]))


def _depth(structure: ReportStructure, rank: dict[str, int]) -> int:
    if structure.role == "external":
        return -2
    return len(rank) - rank[structure.key] if structure.key in rank else -1


def _outline(mask: NDArray, spacing_mm: tuple[float, float]) -> tuple[NDArray[np.float64], ...]:
    occupancy = mask.astype(np.float32)
    if not majority(occupancy).any():
        return ()
    # A rim of zeros closes contours at the picture's edge.
    rimmed = np.pad(occupancy, 1)
    smooth = ndimage.gaussian_filter(
        rimmed, [_SMOOTHING_VOXELS if step > _COARSE_MM else 0.0 for step in spacing_mm]
    )
    # What is only a voxel wide would be smoothed away: it keeps its corners.
    fine, step = _finer(smooth if smooth.max() > 0.6 else rimmed, spacing_mm)
    start = [0.5 * step[axis] - spacing_mm[axis] for axis in (0, 1)]
    y = start[0] + step[0] * np.arange(fine.shape[0])
    x = start[1] + step[1] * np.arange(fine.shape[1])
    lines = contour_generator(x, y, fine, line_type="Separate").lines(0.5)
    return tuple(np.asarray(line, dtype=np.float64) for line in lines)


def _finer(
    picture: NDArray[np.float32], spacing_mm: tuple[float, float]
) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """The picture interpolated to about a millimetre over the same area, and its new spacing."""
    factors = [max(1, round(step / _FINE_MM)) for step in spacing_mm]
    step = (spacing_mm[0] / factors[0], spacing_mm[1] / factors[1])
    if factors == [1, 1]:
        return picture, step
    fine = ndimage.zoom(picture, factors, order=3, mode="nearest", grid_mode=True)
    return np.clip(fine, picture.min(), picture.max()), step


def draw_panel(
    axes: Axes, view: SliceView, layer: Layer, scales: Scales, points_per_width: float
) -> None:
    """Draw one layer of a slice.

    Args:
        axes: empty; becomes a black panel without ticks.
        view: the slice.
        layer: what to show over the CT.
        scales: what colors mean.
        points_per_width: the panel's width in points, by which type and lines are sized.
    """
    unit = points_per_width / 260.0
    # Bright bone would outshine the bright ends of the difference's colors.
    extent = _draw_ct(axes, view, dimming=1.7 if layer == "difference" else 1.0)
    dose = _shown(view, layer)
    if dose is not None:
        fine, step = _finer(dose, view.plane.spacing_mm)
        wash = (
            difference_wash(fine, scales.difference_gy)
            if layer == "difference"
            else dose_wash(fine, scales.dose_high_gy)
        )
        axes.imshow(wash, extent=extent, interpolation="bilinear")
        if layer != "difference":
            _draw_isodoses(axes, fine, step, scales, unit)
    for contour in view.contours:
        _draw_contour(axes, contour, unit * (0.75 if layer == "difference" else 1.0))
    _frame(axes, view)
    if layer in ("difference", "structures"):  # the others carry the isodoses' labels
        _tag_structures(axes, view, unit)
    _annotate(axes, view, _TITLES[layer], unit, is_predicted=layer != "structures")


def draw_output(
    axes: Axes, view: SliceView, output: Output, scales: Scales, points_per_width: float
) -> None:
    """Draw an output over a slice: a dose as the predicted one, others from zero to their highest.

    Args:
        axes: empty; becomes a black panel without ticks.
        view: the slice.
        output: on the case's grid.
        scales: of the doses.
        points_per_width: the panel's width in points, by which type and lines are sized.
    """
    unit = points_per_width / 260.0
    extent = _draw_ct(axes, view)
    picture = view.plane.cut(output.volume).astype(np.float32)
    fine, step = _finer(picture, view.plane.spacing_mm)
    high = scales.dose_high_gy
    if not output.is_dose_like:
        high = 1.0 if output.unit != "Gy" else max(float(output.volume.array.max()), 1.0)
    axes.imshow(dose_wash(fine, high), extent=extent, interpolation="bilinear")
    if output.is_dose_like:
        _draw_isodoses(axes, fine, step, scales, unit)
    for contour in view.contours:
        _draw_contour(axes, contour, unit * 0.75)
    _frame(axes, view)
    title = clean(output.label)
    title = title[0].upper() + title[1:]
    _annotate(axes, view, title, unit, is_predicted=True)


def _draw_ct(
    axes: Axes, view: SliceView, dimming: float = 1.0
) -> tuple[float, float, float, float]:
    """Draw the CT; where it lies: left, right, bottom, top, in mm."""
    width, height = view.size_mm
    extent = (0.0, width, height, 0.0)
    low, high = _CT_WINDOW_HU
    axes.imshow(
        view.ct_hu,
        cmap="gray",
        vmin=low,
        vmax=low + dimming * (high - low),
        extent=extent,
        interpolation="bicubic",
    )
    return extent


def _shown(view: SliceView, layer: Layer) -> NDArray | None:
    if layer == "prediction":
        return view.prediction_gy
    if layer == "reference":
        return view.reference_gy
    if layer == "difference" and view.reference_gy is not None:
        return view.prediction_gy - view.reference_gy
    return None


def _draw_isodoses(
    axes: Axes, dose: NDArray, step: tuple[float, float], scales: Scales, unit: float
) -> None:
    levels = {gy: percent for percent, gy in scales.isodoses if dose.min() < gy < dose.max()}
    if not levels:
        return
    y, x = ((np.arange(size) + 0.5) * gap for size, gap in zip(dose.shape, step, strict=True))
    lines = axes.contour(
        x, y, dose, levels=sorted(levels), colors="white", linewidths=0.7 * unit, alpha=0.9
    )
    lines.set_path_effects([withStroke(linewidth=1.6 * unit, foreground=_HALO, alpha=0.45)])
    labels = axes.clabel(
        lines,
        fmt={gy: f"{percent:g}" for gy, percent in levels.items()},
        fontsize=6.5 * unit,
        inline=False,
        colors="white",
    )
    for label in labels or ():
        label.set_path_effects([withStroke(linewidth=1.8 * unit, foreground=_HALO)])
        label.set_fontweight("bold")


def _draw_contour(axes: Axes, contour: Contour, unit: float) -> None:
    width = _LINE_POINTS[contour.role] * unit
    for line in contour.lines:
        axes.plot(
            line[:, 0],
            line[:, 1],
            color=contour.color,
            linewidth=width,
            path_effects=[withStroke(linewidth=width + 1.3 * unit, foreground=_HALO)],
        )


def _frame(axes: Axes, view: SliceView) -> None:
    (width, height), (frame_width, frame_height) = view.size_mm, view.frame_mm
    x, y = (frame_width - width) / 2, (frame_height - height) / 2
    axes.set_xlim(-x, width + x)
    axes.set_ylim(height + y, -y)
    axes.set_aspect("equal")
    axes.set_facecolor("black")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _tag_structures(axes: Axes, view: SliceView, unit: float) -> None:
    """A number beside each contour, as in the key, where no other number is near."""
    placed: list[NDArray] = []
    width, height = view.size_mm
    for contour in reversed(view.contours):
        longest = max(contour.lines, key=len)
        points = longest[:: max(1, len(longest) // 48)]
        edges = np.minimum(points, np.array([width, height]) - points).min(axis=1)
        room = np.minimum(3 * edges, 0.25 * width)
        for tag in placed:
            room = np.minimum(room, np.hypot(*(points - tag).T))
        point = points[int(np.argmax(room))]
        placed.append(point)
        number, (x, y) = str(contour.number), point
        _text(axes, x, y, number, 7.5 * unit, contour.color, "center", "center")


def _annotate(axes: Axes, view: SliceView, title: str, unit: float, is_predicted: bool) -> None:
    """What the panel shows, orientation, scale and what it must not be used for."""
    size = 8.5 * unit
    left, right, top, bottom = view.plane.letters
    inside: dict[str, Any] = {"transform": axes.transAxes}
    _text(axes, 0.018, 0.5, left, size, "white", "left", "center", **inside)
    _text(axes, 0.982, 0.5, right, size, "white", "right", "center", **inside)
    _text(axes, 0.5, 0.98, top, size, "white", "center", "top", **inside)
    _text(axes, 0.5, 0.022, bottom, size, "white", "center", "bottom", **inside)
    _text(axes, 0.022, 0.975, title, size, "white", "left", "top", **inside)
    if is_predicted:
        note = "Research only"
        _text(axes, 0.98, 0.03, note, 5.5 * unit, "#d0d0d0", "right", "bottom", **inside)
    width, height = view.frame_mm
    bar = next(mm for mm in (100.0, 50.0, 20.0, 10.0, 5.0, 1.0) if mm <= 0.3 * width or mm == 1.0)
    x = axes.get_xlim()[0] + 0.025 * width
    y = axes.get_ylim()[0] - 0.035 * height
    axes.plot([x, x + bar], [y, y], color="white", linewidth=2 * unit, solid_capstyle="butt")
    label = f"{bar / 10:g} cm" if bar >= 10 else f"{bar:g} mm"
    _text(axes, x, y - 0.015 * height, label, 6.5 * unit, "white", "left", "bottom")


def _text(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    size: float,
    color: str,
    horizontal: str,
    vertical: str,
    **more: Any,
) -> None:
    axes.text(
        x,
        y,
        text,
        fontsize=size,
        color=color,
        ha=horizontal,
        va=vertical,
        fontweight="bold",
        bbox={"facecolor": _HALO, "alpha": 0.45, "edgecolor": "none", "pad": size / 9},
        path_effects=[withStroke(linewidth=max(1.5, size / 4), foreground=_HALO)],
        parse_math=False,
        **more,
    )
