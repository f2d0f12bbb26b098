"""The report as one HTML file that needs nothing else: no network, no script, no second file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.colors import Colormap, to_hex

from ..files import whole_file
from .content import ReportInput
from .dvh_chart import structure_dvhs
from .figures import dvh_svg, output_png, panel_png
from .palette import (
    DARK_SURFACE,
    DIFFERENCE_MAP,
    DOSE_MAP,
    LIGHT_SURFACE,
    LINE_CONTRAST,
    TEXT_CONTRAST,
    WASH_OPACITY,
    bar_map,
    readable_on,
    safe_color,
)
from .slices import Layer, Scales, SliceView, layers, slice_views
from .tables import (
    bands_note,
    endpoint_groups,
    goal_rows,
    goal_sources,
    headline_tiles,
    model_rows,
    review_note,
    review_rows,
    run_rows,
    samples_note,
    score_rows,
    sorted_findings,
)
from .wording import clean, number, signed, when

__all__ = ["write_report"]

_MOST_TICKS = 25
_TEMPLATE = "template.html.jinja"
_SEVERITIES = {
    "blocking": ("■", "Blocking"),
    "warning": ("▲", "Warning"),
    "info": ("●", "Note"),
}
_NOTICE = (
    "This dose was predicted by a neural network. No dose engine has computed it and nobody has "
    "checked it: do not use it to treat, or to decide on a treatment."
)
_LAYER_WORDS: dict[Layer, str] = {
    "prediction": "predicted dose",
    "reference": "dose of the plan",
    "difference": "prediction minus plan",
    "structures": "CT with structures, no dose",
}


@dataclass(frozen=True)
class _Panel:
    """A picture for the page."""

    source: str
    alt: str
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class _Bar:
    """A color bar: a CSS gradient and ticks of (place in %, text)."""

    title: str
    gradient: str
    ticks: tuple[tuple[float, str], ...]
    marks: tuple[tuple[float, str], ...]
    wide: bool


def write_report(report: ReportInput, path: Path) -> Path:
    """Write the report to `path`, whole or not at all; returns the path.

    A file of that name is replaced.
    """
    page = _render(report)
    with whole_file(path) as aside:
        aside.write_text(page, encoding="utf-8")
    return path


def _render(report: ReportInput) -> str:
    views, scales = slice_views(report)
    curves = structure_dvhs(report)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).resolve().parent),
        autoescape=True,  # names of structures come from files that anyone may have written
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clean"] = clean
    findings = sorted_findings(report)
    metadata = report.metadata
    model = metadata.get("title") or metadata.get("model")
    facts = (metadata.get("protocol"), model, when(metadata.get("generated")))
    oblique = max(view.plane.obliquity_degrees for view in views)
    return environment.get_template(_TEMPLATE).render(
        report=report,
        title=clean(report.case.name),
        kicker=clean(metadata.get("kicker") or _kicker(report)),
        notice=clean(metadata.get("notice") or _NOTICE),
        facts=[clean(fact) for fact in facts if fact],
        version=clean(metadata.get("version") or ""),
        generated=when(metadata.get("generated")),
        has_plan=report.reference is not None,
        swatches=_swatches(report),
        tiles=headline_tiles(report, curves),
        rows_of_panels=[(_heading(view), _panels(report, view, scales)) for view in views],
        further=_further(report, views, scales),
        bars=_bars(report, scales),
        oblique=number(oblique) if oblique else "",
        charts=_charts(report, curves),
        bands_note=bands_note(report),
        samples_note=samples_note(report),
        endpoints=endpoint_groups(report, curves),
        goals=goal_rows(report),
        goal_sources=goal_sources(report),
        review=review_rows(report),
        review_note=review_note(report),
        scores=score_rows(report),
        findings=[(finding, *_SEVERITIES[finding.severity]) for finding in findings],
        tally=_tally([finding.severity for finding in findings]),
        model=model_rows(report),
        run=run_rows(report),
    )


def _kicker(report: ReportInput) -> str:
    return "Predicted dose" + (" against the plan" if report.reference is not None else "")


@dataclass(frozen=True)
class _Swatch:
    """A structure's name and colors; its place in the list is the number to show."""

    label: str
    light_line: str
    light_text: str
    dark_line: str
    dark_text: str


def _swatches(report: ReportInput) -> list[_Swatch]:
    return [
        _Swatch(
            clean(structure.label),
            *(
                readable_on(safe_color(structure.color), surface, contrast)
                for surface in (LIGHT_SURFACE, DARK_SURFACE)
                for contrast in (LINE_CONTRAST, TEXT_CONTRAST)
            ),
        )
        for structure in report.structures
    ]


def _heading(view: SliceView) -> tuple[str, str]:
    return view.plane.name.capitalize(), view.plane.position


def _panels(report: ReportInput, view: SliceView, scales: Scales) -> list[_Panel]:
    panels = []
    for layer in layers(report):
        words = _LAYER_WORDS[layer]
        alt, caption = _alt(view, layer, words), words[0].upper() + words[1:]
        panels.append(_panel(panel_png(view, layer, scales), alt, caption))
    return panels


def _panel(png: bytes, alt: str, caption: str) -> _Panel:
    return _Panel(
        source="data:image/png;base64," + base64.b64encode(png).decode("ascii"),
        alt=alt,
        caption=caption,
        width=int.from_bytes(png[16:20], "big"),
        height=int.from_bytes(png[20:24], "big"),
    )


def _further(
    report: ReportInput, views: Sequence[SliceView], scales: Scales
) -> tuple[str, list[_Panel]]:
    """Where the slice lies, and every output beside the dose in it."""
    view = views[0]
    where = f"{view.plane.name} slice at {view.plane.position}"
    panels = []
    for output in report.further:
        words = clean(output.label)
        voxels = output.volume.array
        if output.role == "segment":
            volume_cc = np.count_nonzero(voxels) * output.volume.grid.voxel_volume_cc
            amount = f"{number(volume_cc)} cc"
        else:
            unit = " Gy" if output.unit == "Gy" else ""
            amount = f"{number(voxels.min(), 2)} to {number(voxels.max(), 2)}{unit}"
        caption = f"{words[0].upper()}{words[1:]}: {amount}"
        panels.append(_panel(output_png(view, output, scales), f"{words}, {where}", caption))
    return where, panels


def _alt(view: SliceView, layer: Layer, words: str) -> str:
    """What a reader who does not see the picture should know of it."""
    text = f"{view.plane.name.capitalize()} slice at {view.plane.position}, {words}"
    if layer == "structures":
        return text
    if layer == "prediction" or view.reference_gy is None:
        return f"{text}; up to {number(view.prediction_gy.max())} Gy in this slice"
    if layer == "reference":
        return f"{text}; up to {number(view.reference_gy.max())} Gy in this slice"
    difference = view.prediction_gy - view.reference_gy
    low, high = signed(difference.min()), signed(difference.max())
    return f"{text}; from {low} to {high} Gy in this slice"


def _bars(report: ReportInput, scales: Scales) -> list[_Bar]:
    high = scales.dose_high_gy
    step = 10 if high > 25 else 5 if high > 10 else 1
    while high / step > _MOST_TICKS:
        step *= 10
    ticks = tuple((100 * gy / high, f"{gy:g}") for gy in range(0, int(high) + 1, step))
    marks = tuple((100 * gy / high, f"{percent:g}") for percent, gy in scales.isodoses)
    of = "highest prescription" if report.highest_gy else "highest dose shown"
    title = f"Dose (Gy) and isodose lines (% of the {of})"
    bars = [_Bar(title, _gradient(bar_map(DOSE_MAP, WASH_OPACITY)), ticks, marks, True)]
    if report.reference is not None:
        end = scales.difference_gy
        places = ((0, -end), (25, -end / 2), (50, 0.0), (75, end / 2), (100, end))
        ticks = tuple((float(place), signed(gy, int(gy % 1 > 0))) for place, gy in places)
        bars.append(_Bar("Prediction − plan (Gy)", _gradient(DIFFERENCE_MAP), ticks, (), False))
    return bars


def _gradient(colors: Colormap) -> str:
    stops = (to_hex(colors(i / 24)) for i in range(25))
    return f"linear-gradient(to right, {', '.join(stops)})"


def _charts(report: ReportInput, curves: Sequence) -> list[tuple[str, str, Markup]]:
    """Title, description and SVG of each DVH chart."""
    charts = []
    for role, title in (("target", "Targets"), ("organ", "Organs at risk")):
        svg = dvh_svg(report, curves, role)
        if svg is not None:
            names = ", ".join(clean(c.structure.label) for c in curves if c.structure.role == role)
            # The drawing library has escaped every name on its way into the SVG.
            charts.append((title, f"Dose-volume histograms of {names}", Markup(svg)))
    return charts


def _tally(severities: Sequence[str]) -> str:
    """How many findings there are of each severity, in words."""
    parts = []
    for severity, (_, word) in _SEVERITIES.items():
        count = severities.count(severity)
        if count:
            noun = f"{word.lower()} finding" if severity == "blocking" else word.lower()
            parts.append(f"{count} {noun}{'s' if count > 1 else ''}")
    return ", ".join(parts)
