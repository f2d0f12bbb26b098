"""DVH curves, the prediction solid and the plan dashed, each labeled where it runs free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..evaluation.dvh import Dvh, dvh
from ..geometry import bounding_box
from ..volume import Volume
from .content import BAND_LEVEL, ReportInput, ReportStructure
from .palette import LIGHT_SURFACE, LINE_CONTRAST, TEXT_CONTRAST, readable_on, safe_color

__all__ = [
    "Ink",
    "StructureDvh",
    "draw_dvh",
    "legend_handles",
    "paper_ink",
    "short_label",
    "structure_dvhs",
]

Array = NDArray[np.float64]

_SAMPLES = 240
_CROP_VOXELS = 4
_LABEL_LETTERS = 26
_LETTER_POINTS = 5.7  # mean width of a bold letter at the labels' size
_NEAR_POINTS = 5.0
_BAND_OPACITY = 0.14
_DASHES = (0, (4.2, 2.0))


@dataclass(frozen=True)
class StructureDvh:
    """The curves of one structure; `index` is its place in the report's list.

    `band` is the volumes in percent with the lower and the upper dose in Gy, `(3, volumes)`;
    `samples` the volumes and the dose of each sample, `(1 + samples, volumes)`.
    """

    structure: ReportStructure
    index: int
    prediction: Dvh
    reference: Dvh | None
    band: Array | None = None
    samples: Array | None = None


@dataclass(frozen=True)
class Ink:
    """Colors to draw with: they are placeholders where a style sheet decides later.

    `structures` is for lines, `labels` for their names, which need more contrast. `halo` is drawn
    around labels; None where the style sheet does it.
    """

    text: str
    muted: str
    grid: str
    structures: tuple[str, ...]
    labels: tuple[str, ...]
    halo: str | None = None


def paper_ink(structures: Sequence[ReportStructure]) -> Ink:
    """Colors for white paper."""
    lines, names = (
        tuple(readable_on(safe_color(s.color), LIGHT_SURFACE, contrast) for s in structures)
        for contrast in (LINE_CONTRAST, TEXT_CONTRAST)
    )
    return Ink("#1b1f24", "#5b6570", "#d9dde2", lines, names, halo="#ffffff")


def structure_dvhs(report: ReportInput) -> list[StructureDvh]:
    """DVHs of all structures but the external contour; an empty one has no curve."""
    return [
        _structure_dvh(report, structure, index)
        for index, structure in enumerate(report.structures)
        if structure.role != "external"
    ]


def _structure_dvh(report: ReportInput, structure: ReportStructure, index: int) -> StructureDvh:
    box = _neighborhood(structure.mask.array)
    mask = _cropped(structure.mask, box)
    prediction = dvh(_cropped(report.prediction, box), mask, name=structure.label)
    reference = None
    if report.reference is not None:
        reference = dvh(_cropped(report.reference, box), mask, name=structure.label)
    band, samples = _band(report, structure), _samples(report, structure)
    return StructureDvh(structure, index, prediction, reference, band, samples)


def _band(report: ReportInput, structure: ReportStructure) -> Array | None:
    curve = report.banded(structure).get("curve")
    if curve is None:
        return None
    ends = curve[BAND_LEVEL]
    return np.array([curve["volume_percent"], ends["low_gy"], ends["high_gy"]], np.float64)


def _samples(report: ReportInput, structure: ReportStructure) -> Array | None:
    curves = report.drawn(structure)
    if not curves:
        return None
    return np.array([report.samples["volume_percent"], *curves], np.float64)


def _neighborhood(mask: NDArray) -> tuple[slice, ...]:
    """The structure with a rim: its DVH needs no more of the dose, and a scan is large."""
    return bounding_box(mask, _CROP_VOXELS) or (slice(0, 1),) * 3


def _cropped(volume: Volume, box: tuple[slice, ...]) -> Volume:
    block = volume.array[box]
    start = [part.start for part in reversed(box)]
    return Volume(block, volume.grid.cropped(start, block.shape[::-1]))


def draw_dvh(
    axes: Axes,
    curves: Sequence[StructureDvh],
    role: Literal["target", "organ"],
    report: ReportInput,
    ink: Ink,
) -> None:
    """Draw the curves of one role; targets on a dose axis that begins where they fall.

    Args:
        axes: empty, already at its final place and size: labels are placed on it.
        curves: of all roles; the doses' range is shared.
        role: which to draw.
        report: for the prescription.
        ink: colors by structure index.
    """
    shown = [c for c in curves if c.structure.role == role and c.prediction.curve is not None]
    low, high = _dose_range(curves, shown, role)
    dose = np.linspace(low, high, _SAMPLES)
    _prepare(axes, low, high, ink)
    levels: list[float] = []
    if role == "target":
        levels = _draw_prescriptions(axes, [c.structure for c in shown], report, ink)
    drawn: dict[int, list[Array]] = {}
    for curve in shown:
        color = ink.structures[curve.index]
        if curve.band is not None:
            axes.fill_betweenx(*curve.band, color=color, alpha=_BAND_OPACITY, linewidth=0, zorder=2)
        if curve.samples is not None:
            volumes, *doses = curve.samples
            for each in doses:
                axes.plot(each, volumes, color=color, linewidth=0.5, alpha=0.6, zorder=2.2)
        drawn[curve.index] = [_draw_curve(axes, curve.prediction, dose, color, "solid")]
        if curve.reference is not None and curve.reference.curve is not None:
            drawn[curve.index].append(_draw_curve(axes, curve.reference, dose, color, "dashed"))
    labels = {c.index: short_label(c.structure.label) for c in shown}
    _label_curves(axes, drawn, labels, levels, ink)


def legend_handles(
    ink: Ink, with_plan: bool, with_bands: bool = False, samples: int = 0
) -> list[Artist]:
    """What solid, dashed, shaded and thin mean."""
    handles: list[Artist] = [Line2D([], [], color=ink.text, linewidth=1.6, label="prediction")]
    if with_plan:
        handles.append(
            Line2D([], [], color=ink.text, linewidth=1.2, linestyle=_DASHES, label="plan")
        )
    if with_bands:
        label = f"{BAND_LEVEL} % band"
        handles.append(Patch(facecolor=ink.text, alpha=_BAND_OPACITY, linewidth=0, label=label))
    if samples:
        label = f"{samples} samples"
        handles.append(Line2D([], [], color=ink.text, linewidth=0.5, alpha=0.6, label=label))
    return handles


def _dose_range(
    curves: Sequence[StructureDvh], shown: Sequence[StructureDvh], role: str
) -> tuple[float, float]:
    both = [d for c in curves for d in (c.prediction, c.reference) if d is not None]
    high = max([d.max_gy for d in both if d.max_gy is not None], default=1.0)
    high = max(1.0, 1.03 * high)
    low = 0.0
    if role == "target":
        falls = [
            fall
            for c in shown
            for d in (c.prediction, c.reference)
            if d is not None and (fall := d.dose_at_percent(99.5)) is not None
        ]
        low = max(0.0, 10.0 * np.floor((min(falls, default=0.0) - 0.08 * high) / 10.0))
    return low, float(high)


def _prepare(axes: Axes, low: float, high: float, ink: Ink) -> None:
    axes.set_xlim(low, high)
    axes.set_ylim(0, 104)
    axes.set_yticks(range(0, 101, 20))
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    axes.set_facecolor("none")
    axes.grid(color=ink.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=ink.muted, labelcolor=ink.text, length=3, width=0.6, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink.muted)
        spine.set_linewidth(0.8)
    axes.set_xlabel("Dose (Gy)", color=ink.text, fontsize=9.5)
    axes.set_ylabel("Volume (%)", color=ink.text, fontsize=9.5)


def _draw_prescriptions(
    axes: Axes, targets: Sequence[ReportStructure], report: ReportInput, ink: Ink
) -> list[float]:
    """Draw and return the levels, Gy."""
    doses = {report.prescribed_to(target) for target in targets}
    low, high = axes.get_xlim()
    levels = sorted(d for d in doses if d is not None and low < d < high)
    for dose_gy in levels:
        axes.axvline(dose_gy, color=ink.muted, linewidth=0.9, linestyle=(0, (1, 2)))
        axes.annotate(
            f"{dose_gy:g} Gy",
            (dose_gy, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=ink.muted,
        )
    return levels


def _draw_curve(axes: Axes, curve: Dvh, dose: Array, color: str, style: str) -> Array:
    """Draw and return the points `(samples, 2)`."""
    volume = curve.cumulative(dose)
    # Beyond the highest dose the curve is over: no line along the axis.
    last = min(int(np.count_nonzero(volume > 0)) + 1, dose.size)
    if style == "solid":
        axes.plot(dose[:last], volume[:last], color=color, linewidth=1.7, zorder=3)
    else:
        axes.plot(
            dose[:last], volume[:last], color=color, linewidth=1.2, linestyle=_DASHES, zorder=2.5
        )
    return np.column_stack([dose[:last], volume[:last]])


def short_label(label: str) -> str:
    """A label cut so that it fits into a figure, without what no font can draw."""
    label = "".join(c if c.isprintable() else " " for c in label)
    return label if len(label) <= _LABEL_LETTERS else label[: _LABEL_LETTERS - 1] + "…"


def _label_curves(
    axes: Axes,
    drawn: Mapping[int, list[Array]],
    labels: Mapping[int, str],
    levels: Sequence[float],
    ink: Ink,
) -> None:
    """Put each label beside its solid curve where it hides least; greedy, long ones first."""
    box = axes.get_position()
    extent = (
        72 * np.asarray(axes.figure.bbox.size) / axes.figure.dpi * (box.width, box.height)
    )  # points
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    origin, scale = np.array([left, bottom]), extent / (right - left, top - bottom)
    points = {i: [_even((line - origin) * scale) for line in lines] for i, lines in drawn.items()}
    marks = [_even((np.array([[x, 0.0], [x, 100.0]]) - origin) * scale) for x in levels]
    taken: list[tuple[float, float, float, float]] = []
    for index in sorted(points, key=lambda i: -len(labels[i])):
        size = np.array([_LETTER_POINTS * len(labels[index]) + 2.0, 10.0])
        rest = [line for key, lines in points.items() if key != index for line in lines]
        anchor, corner = _best_place(points[index], rest, marks, size, taken, extent)
        taken.append((*corner, *(corner + size)))
        edge = np.clip(anchor, corner, corner + size)
        if np.hypot(*(anchor - edge)) > 7:  # a thin leader where the label had to stand off
            leader = np.stack([anchor, edge]) / scale + origin
            color = ink.structures[index]
            axes.plot(leader[:, 0], leader[:, 1], color=color, linewidth=0.6, zorder=4)
        # Type is never exactly as wide as reckoned: it is set flush with the side of its line.
        part, side = next(
            choice
            for toward, choice in (
                (corner[0] >= anchor[0], (0.0, "left")),
                (corner[0] + size[0] <= anchor[0], (1.0, "right")),
                (True, (0.5, "center")),
            )
            if toward
        )
        x, y = (corner + size * (part, 0.5)) / scale + origin
        _draw_label(axes, x, y, labels[index], ink.labels[index], ink.halo, side)


def _draw_label(
    axes: Axes, x: float, y: float, label: str, color: str, halo: str | None, side: str
) -> None:
    text = axes.text(
        x,
        y,
        label,
        color=color,
        fontsize=8.5,
        fontweight="bold",
        ha=side,
        va="center_baseline",
        zorder=5,
        parse_math=False,
    )
    if halo is not None:
        text.set_path_effects([withStroke(linewidth=2.2, foreground=halo)])


def _even(line: Array) -> Array:
    """The line with a point about every two points of type, so that hidden length counts."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    wanted = np.linspace(0.0, along[-1], max(2, int(along[-1] / 2)))
    return np.column_stack([np.interp(wanted, along, line[:, axis]) for axis in (0, 1)])


def _best_place(
    curve: Sequence[Array],
    others: Sequence[Array],
    marks: Sequence[Array],
    size: Array,
    taken: Sequence[tuple[float, float, float, float]],
    extent: Array,
) -> tuple[Array, Array]:
    """The point of the curve to label, and the lower left corner of its label; in points.

    Counted against a place: lines that the label hides, other labels, distance, and a point where
    other curves run so near that the label could be theirs.
    """
    own, mine, none = curve[0], np.concatenate(curve), np.zeros((0, 2))
    rivals = np.concatenate([*others, none])
    rest = np.concatenate([rivals, *marks])
    best, best_cost = (own[0], own[0]), np.inf
    for anchor in own[:: max(1, len(own) // 40)]:
        near = np.hypot(*(rivals - anchor).T) < _NEAR_POINTS
        ambiguity = 3.0 * min(int(np.count_nonzero(near)), 12)
        for offset, distance in _offsets(size):
            corner = anchor + offset
            cost = ambiguity + 0.12 * distance + 3 * abs(anchor[1] / extent[1] - 0.6)
            cost += sum(400.0 for box in taken if _overlap(box, corner, size))
            if corner.min() < 1 or (corner + size > extent).any():
                cost += 1000.0
            if cost >= best_cost:  # before counting hidden lines, which takes the time
                continue
            cost += 4.0 * _inside(rest, corner, size) + 2.0 * _inside(mine, corner, size)
            if cost < best_cost:
                best, best_cost = (anchor, corner), cost
    return best


def _offsets(size: Array) -> list[tuple[Array, float]]:
    """From a point to the lower left corner of its label, and how far off the label stands."""
    width, height = size
    offsets = []
    for distance in (5.0, 16.0, 30.0, 48.0, 70.0):
        offsets.append((np.array([distance, -height / 2]), distance))
        offsets.append((np.array([-distance - width, -height / 2]), distance))
    for distance in (4.0, 14.0):
        offsets.append((np.array([-width / 2, distance]), distance))
        offsets.append((np.array([-width / 2, -distance - height]), distance))
    return offsets


def _inside(points: Array, corner: Array, size: Array) -> int:
    """How many points of lines a label hides, a little room around it included."""
    within = (points > corner - 2) & (points < corner + size + 2)
    return int(np.count_nonzero(within.all(axis=1)))


def _overlap(box: tuple[float, float, float, float], corner: Array, size: Array) -> bool:
    x0, y0, x1, y1 = box
    return bool(
        corner[0] < x1 + 2
        and corner[0] + size[0] > x0 - 2
        and corner[1] < y1 + 1
        and corner[1] + size[1] > y0 - 1
    )
