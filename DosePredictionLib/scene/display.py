"""How a dose lies over the CT: colors, range, isodose lines, legend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import slicer

from ..errors import CaseError
from .colors import DEFAULT_LEVELS, LEVELS, IsodoseLevels, fill_level_table
from .comparing import compare_steps, compared_run, end_comparison, is_of_comparison
from .hierarchy import place_below
from .images import follows_dose
from .isodoses import level_steps, set_up_isodose_model
from .restore import borrow_display, hide_fill
from .results import SceneResult
from .runs import Draft, enter_scene, inputs_of, result_nodes
from .steps import Step, Steps, finish

__all__ = [
    "DisplaySettings",
    "Layer",
    "Unit",
    "apply_display",
    "default_range",
    "display_steps",
]

Layer = str
"""What lies over the CT: prediction, other, plan, difference, change, nothing, or the role of a
further output, such as `spread:spread`."""
Unit = Literal["Gy", "%"]

_OF_TWO = ("other", "change")
_LEGEND_TITLES = {"difference": "Prediction − plan (Gy)", "change": "A − B (Gy)"}


@dataclass(frozen=True)
class DisplaySettings:
    """How a result is shown.

    Args:
        layer: what lies over the CT.
        opacity: of the overlay, 0…1.
        low, high: range of the dose's colors in `unit`; below `low` nothing is drawn. None: the
            default. Differences have a range of their own.
        unit: Gy, or percent of the highest prescription.
        isodoses: whether isodose lines of the shown dose are drawn (of the predicted one over a
            difference).
        legend: whether the color legend is shown.
        levels: of the isodoses.
        surfaces: whether the isodoses are drawn in the 3D view, too.
        other: a result to compare with: its dose is the layer "other", the difference "change".
    """

    layer: Layer = "prediction"
    opacity: float = 0.5
    low: float | None = None
    high: float | None = None
    unit: Unit = "Gy"
    isodoses: bool = False
    legend: bool = True
    levels: IsodoseLevels = DEFAULT_LEVELS
    surfaces: bool = False
    other: SceneResult | None = None


def default_range(result: SceneResult, unit: Unit = "Gy") -> tuple[float, float]:
    """First and last isodose level, in `unit`."""
    factor = 1.0 if unit == "%" else result.prescription_gy / 100
    return LEVELS[0][0] * factor, LEVELS[-1][0] * factor


def apply_display(result: SceneResult, settings: DisplaySettings) -> None:
    """Show a result in all slice views; quick enough to follow a slider.

    The first time that isodose lines are asked for, they are computed.

    Raises:
        CaseError: the result has been removed, or has no such layer.
    """
    finish(display_steps(result, settings))


def display_steps(result: SceneResult, settings: DisplaySettings) -> Steps[None]:
    """As `apply_display`, for the first time: what takes the views a while, one by one.

    Raises:
        CaseError: the result has been removed, or has no such layer.
    """
    yield from _comparison_steps(result, settings.other)
    nodes = _nodes(result)
    volume = _volume(result, nodes, settings)
    low_gy, high_gy = _range_gy(result, settings)
    plan = result.plan if settings.layer == "plan" else None
    displays = [nodes["dose-display"], *(node for node in nodes.values() if follows_dose(node))]
    if plan is not None:
        displays.append(borrow_display(nodes["dose"], plan))
    if settings.layer == "other":
        displays.append(volume.GetScalarVolumeDisplayNode())
    for display in displays:
        _set_dose_display(display, nodes["colors"], low_gy, high_gy)
    _color_levels(result, nodes["level-colors"], settings, (low_gy, high_gy))
    _show_layers(nodes, _others(result, settings), volume, settings.opacity)
    yield Step("Showing the dose", 1, 4)
    if volume is not None or settings.isodoses:
        hide_fill(_nodes(result)["dose"])
        yield Step("Showing the contours", 2, 4)
    for _ in _isodose_steps(result, _nodes(result), plan, settings):
        yield Step("Computing the isodoses", 2, 4)
        _nodes(result)
    yield Step("Showing the isodoses", 3, 4)
    _show_legend(result, _nodes(result), volume, settings)
    yield Step("Showing the legend", 4, 4)


def _nodes(result: SceneResult) -> dict[str, Any]:
    """The result's nodes, which may have gone since the last step."""
    nodes = result_nodes(result.run)
    if "dose" not in nodes:
        raise CaseError("This result has been removed from the scene. Predict again.")
    return nodes


def _comparison_steps(result: SceneResult, other: SceneResult | None) -> Steps[None]:
    """Make the comparison that is asked for, if it is not there, and none beside it."""
    nodes = _nodes(result)
    if other is None:
        if compared_run(result) or any(map(is_of_comparison, nodes)):
            end_comparison(result)
    elif compared_run(result) != other.run or "change-metrics" not in nodes:
        yield from compare_steps(result, other)


def _others(result: SceneResult, settings: DisplaySettings) -> list[Any]:
    """Volumes of a layer that are not the result's own nodes."""
    other = None if settings.other is None else settings.other.dose
    return [volume for volume in (result.plan, other) if volume is not None]


def _volume(result: SceneResult, nodes: Mapping[str, Any], settings: DisplaySettings) -> Any:
    """The volume of a layer; None for "nothing"."""
    layer = settings.layer
    if layer == "nothing":
        return None
    volume = {
        "prediction": nodes["dose"],
        "other": None if settings.other is None else settings.other.dose,
        "plan": result.plan,
        "difference": nodes.get("difference"),
        "change": nodes.get("change"),
    }.get(layer, nodes.get(layer))
    if volume is None or volume.GetScene() is None:
        needs = "another result to compare with" if layer in _OF_TWO else "a plan dose"
        if ":" in layer:
            needs = "a prediction that was asked to keep it"
        raise CaseError(f"There is no {layer} to show: it needs {needs}.")
    return volume


def _range_gy(result: SceneResult, settings: DisplaySettings) -> tuple[float, float]:
    low, high = default_range(result, settings.unit)
    low = low if settings.low is None else settings.low
    high = high if settings.high is None else settings.high
    factor = result.prescription_gy / 100 if settings.unit == "%" else 1.0
    return low * factor, max(high * factor, low * factor + 1e-3)


def _set_dose_display(display: Any, colors: Any, low_gy: float, high_gy: float) -> None:
    was = display.StartModify()
    display.SetAutoWindowLevel(False)
    display.SetAndObserveColorNodeID(colors.GetID())
    display.SetWindowLevelMinMax(low_gy, high_gy)
    display.SetAutoThreshold(False)
    display.SetThreshold(low_gy, float(np.finfo(np.float32).max))
    display.SetApplyThreshold(True)
    display.EndModify(was)


def _show_layers(nodes: Mapping[str, Any], others: list[Any], volume: Any, opacity: float) -> None:
    """Background and foreground of every slice view; a foreground of the user's own stays."""
    dose = nodes["dose"]
    ct, _ = inputs_of(dose)
    own = {node.GetID() for node in (*nodes.values(), *others)}
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        was = composite.StartModify()
        if ct is not None:
            composite.SetBackgroundVolumeID(ct.GetID())
        if volume is not None:
            composite.SetForegroundVolumeID(volume.GetID())
            composite.SetForegroundOpacity(opacity)
        elif composite.GetForegroundVolumeID() in own:
            composite.SetForegroundVolumeID(None)
        composite.EndModify(was)


def _color_levels(
    result: SceneResult, table: Any, settings: DisplaySettings, range_gy: tuple[float, float]
) -> None:
    """Name the levels in the unit, in the colors that the dose is drawn with."""
    levels_gy = np.array(settings.levels.in_gy(result.prescription_gy))
    shares = (levels_gy - range_gy[0]) / (range_gy[1] - range_gy[0])
    if settings.unit == "%":
        names = [f"{100 * level_gy / result.prescription_gy:.4g}" for level_gy in levels_gy]
    else:
        names = [f"{level_gy:.1f}" for level_gy in levels_gy]
    fill_level_table(table, names, list(shares))


def _isodose_steps(
    result: SceneResult, nodes: Mapping[str, Any], plan: Any, settings: DisplaySettings
) -> Iterator[None]:
    """Isodoses of the predicted dose, or of the plan's where that is shown."""
    wanted = "isodoses" if plan is None else "isodoses-plan"
    dose = nodes["dose"] if plan is None else plan
    if wanted not in nodes:
        nodes = {**nodes, **_add_isodoses(result, nodes, wanted, dose)}
    for role in ("isodoses", "isodoses-plan"):
        if role in nodes:
            display, is_shown = nodes[f"{role}-display"], role == wanted
            is_drawn = settings.isodoses and is_shown
            was = display.StartModify()
            display.SetSliceIntersectionOpacity(1.0 if is_drawn else 0.0)
            display.SetVisibility3D(settings.surfaces and is_shown)
            display.EndModify(was)
    if settings.isodoses or settings.surfaces:
        levels_gy = settings.levels.in_gy(result.prescription_gy)
        yield from level_steps(nodes[wanted], nodes[f"{wanted}-display"], dose, levels_gy)


def _add_isodoses(
    result: SceneResult, nodes: Mapping[str, Any], role: str, dose: Any
) -> dict[str, Any]:
    def fill(model: Any, made: Mapping[str, Any]) -> None:
        set_up_isodose_model(model, made[f"{role}-display"], dose, nodes["level-colors"])

    name = f"{dose.GetName()}_IsodoseLevels"
    drafts = [
        Draft(f"{role}-display", "vtkMRMLModelDisplayNode", name, lambda node, _: None),
        Draft(role, "vtkMRMLModelNode", name, fill),
    ]
    made = enter_scene(dose.GetScene(), drafts, result.run, {})
    place_below(dose.GetScene(), nodes["dose"], made[role])
    return made


def _show_legend(
    result: SceneResult, nodes: Mapping[str, Any], volume: Any, settings: DisplaySettings
) -> None:
    """One legend a layer, of which the shown layer's is visible.

    Doses have a legend of their levels (the isodose model's colors), which can be in either unit;
    a difference has the legend of its volume, Gy.
    """
    wanted = f"{settings.layer}-legend"
    carriers = {"prediction": "isodoses", "other": "isodoses", "plan": "isodoses-plan"}
    carrier = nodes.get(carriers.get(settings.layer, settings.layer))
    if settings.legend and carrier is not None and wanted not in nodes:
        of_levels = settings.layer in carriers
        nodes = {**nodes, **_add_legend(result, wanted, carrier, of_levels)}
    for role, legend in nodes.items():
        if role.endswith("-legend"):
            visible = settings.legend and volume is not None and role == wanted
            legend.SetVisibility(visible)
            if visible and role.removesuffix("-legend") in carriers:
                legend.SetMaxNumberOfColors(len(settings.levels.values))
            if visible and settings.layer in carriers:
                unit = f"% of {result.prescription_gy:g} Gy" if settings.unit == "%" else "Gy"
                legend.SetTitleText(f"Dose ({unit})")


def _add_legend(result: SceneResult, role: str, carrier: Any, of_levels: bool) -> dict[str, Any]:
    def fill(legend: Any, made: Mapping[str, Any]) -> None:
        legend.SetAndObservePrimaryDisplayNode(carrier.GetDisplayNode())
        legend.SetOrientation(legend.Vertical)
        legend.SetPosition(0.99, 0.5)  # beside the patient, if the view is wider than the CT
        legend.SetSize(0.1, 0.55)
        legend.SetVisibility3D(False)
        for view in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            if view.GetOrientation() == "Axial":  # one legend is enough; it covers the picture
                legend.AddViewNodeID(view.GetID())
        if of_levels:
            legend.SetUseColorNamesForLabels(True)
            legend.SetLabelFormat(legend.GetDefaultTextLabelFormat())
        else:
            legend.SetTitleText(_LEGEND_TITLES.get(role.removesuffix("-legend"), ""))
            legend.SetNumberOfLabels(5)
            is_signed = role.removesuffix("-legend") in _LEGEND_TITLES
            legend.SetLabelFormat("%+.1f" if is_signed else "%.1f")
        carrier.AddAndObserveDisplayNodeID(legend.GetID())
        legend.Modified()  # adding it to the carrier alone does not draw it

    draft = Draft(role, "vtkMRMLColorLegendDisplayNode", f"{carrier.GetName()} legend", fill)
    return enter_scene(carrier.GetScene(), [draft], result.run, {})
