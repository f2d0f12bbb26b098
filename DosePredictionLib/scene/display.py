"""How a dose lies over the CT: colors, range, isodose lines, legend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import slicer

from ..errors import CaseError
from .colors import LEVELS
from .hierarchy import place_below
from .isodoses import isodose_surfaces, set_up_isodose_model
from .restore import borrow_display, hide_fill
from .results import SceneResult
from .runs import Draft, enter_scene, inputs_of, result_nodes

__all__ = ["DisplaySettings", "Layer", "Unit", "apply_display", "default_range"]

Layer = Literal["prediction", "plan", "difference", "change", "nothing"]
Unit = Literal["Gy", "%"]

_LABELS = 10  # 20, 30 … 110 %
_LEGEND_TITLES = {"difference": "Prediction − plan", "change": "New − old"}


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
    """

    layer: Layer = "prediction"
    opacity: float = 0.5
    low: float | None = None
    high: float | None = None
    unit: Unit = "Gy"
    isodoses: bool = False
    legend: bool = True


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
    nodes = result_nodes(result.run)
    if "dose" not in nodes:
        raise CaseError("This result has been removed from the scene. Predict again.")
    volume = _volume(result, nodes, settings.layer)
    low_gy, high_gy = _range_gy(result, settings)
    plan = result.plan if settings.layer == "plan" else None
    displays = [nodes["dose-display"]]
    if "coarse-display" in nodes:
        displays.append(nodes["coarse-display"])
    if plan is not None:
        displays.append(borrow_display(nodes["dose"], plan))
    for display in displays:
        _set_dose_display(display, nodes["colors"], low_gy, high_gy)
    _show_isodoses(result, nodes, plan, settings.isodoses, (low_gy, high_gy))
    _show_legend(result, nodes, volume, settings, (low_gy, high_gy))
    _show_layers(nodes, result.plan, volume, settings.opacity)
    if volume is not None:
        hide_fill(nodes["dose"])


def _volume(result: SceneResult, nodes: Mapping[str, Any], layer: Layer) -> Any:
    """The volume of a layer; None for "nothing"."""
    if layer == "nothing":
        return None
    volume = {
        "prediction": nodes["dose"],
        "plan": result.plan,
        "difference": nodes.get("difference"),
        "change": nodes.get("change"),
    }[layer]
    if volume is None or volume.GetScene() is None:
        needs = "an earlier result" if layer == "change" else "a plan dose"
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


def _show_layers(nodes: Mapping[str, Any], plan: Any, volume: Any, opacity: float) -> None:
    """Background and foreground of every slice view; a foreground of the user's own stays."""
    dose = nodes["dose"]
    ct, _ = inputs_of(dose)
    own = {node.GetID() for node in nodes.values()} | ({plan.GetID()} if plan else set())
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


def _show_isodoses(
    result: SceneResult,
    nodes: Mapping[str, Any],
    plan: Any,
    visible: bool,
    range_gy: tuple[float, float],
) -> None:
    wanted = "isodoses" if plan is None else "isodoses-plan"
    if visible and wanted not in nodes:
        nodes = {**nodes, **_add_isodoses(result, nodes, wanted, plan or nodes["dose"])}
    for role in ("isodoses", "isodoses-plan"):
        display = nodes.get(f"{role}-display")
        if display is not None:
            was = display.StartModify()
            display.SetScalarRange(*range_gy)
            display.SetVisibility(visible and role == wanted)
            display.EndModify(was)


def _add_isodoses(
    result: SceneResult, nodes: Mapping[str, Any], role: str, dose: Any
) -> dict[str, Any]:
    surfaces = isodose_surfaces(dose, result.prescription_gy)

    def fill(model: Any, made: Mapping[str, Any]) -> None:
        set_up_isodose_model(model, made[f"{role}-display"], surfaces, dose, nodes["colors"])

    name = f"{dose.GetName()}_IsodoseLevels"
    display = Draft(f"{role}-display", "vtkMRMLModelDisplayNode", name, lambda node, _: None)
    scene = dose.GetScene()
    made = enter_scene(
        scene, [display, Draft(role, "vtkMRMLModelNode", name, fill)], result.run, {}
    )
    place_below(scene, nodes["dose"], made[role])
    return made


def _show_legend(
    result: SceneResult,
    nodes: Mapping[str, Any],
    volume: Any,
    settings: DisplaySettings,
    range_gy: tuple[float, float],
) -> None:
    """One legend a layer, of which the shown layer's is visible."""
    wanted = f"{settings.layer}-legend"
    if settings.legend and volume is not None and wanted not in nodes:
        nodes = {**nodes, **_add_legend(result, wanted, volume)}
    for role, legend in nodes.items():
        if not role.endswith("-legend"):
            continue
        was = legend.StartModify()
        legend.SetVisibility(settings.legend and volume is not None and role == wanted)
        if role == wanted:
            _set_legend(result, legend, settings, nodes["colors"], range_gy)
        legend.EndModify(was)


def _add_legend(result: SceneResult, role: str, volume: Any) -> dict[str, Any]:
    def fill(legend: Any, made: Mapping[str, Any]) -> None:
        legend.SetAndObservePrimaryDisplayNode(volume.GetScalarVolumeDisplayNode())
        legend.SetOrientationToVertical()
        legend.SetPosition(0.98, 0.5)
        legend.SetSize(0.14, 0.62)
        legend.GetLabelTextProperty().SetFontSize(12)
        legend.GetTitleTextProperty().SetFontSize(12)
        volume.AddAndObserveDisplayNodeID(legend.GetID())

    name = f"{volume.GetName()} legend"
    draft = Draft(role, "vtkMRMLColorLegendDisplayNode", name, fill)
    return enter_scene(volume.GetScene(), [draft], result.run, {})


def _set_legend(
    result: SceneResult,
    legend: Any,
    settings: DisplaySettings,
    colors: Any,
    range_gy: tuple[float, float],
) -> None:
    in_percent = settings.unit == "%" and settings.layer in ("prediction", "plan")
    title = _LEGEND_TITLES.get(settings.layer, "Dose")
    unit = f"% of {result.prescription_gy:g} Gy" if in_percent else "Gy"
    legend.SetTitleText(f"{title}\n({unit})")
    legend.SetNumberOfLabels(_LABELS if settings.layer in ("prediction", "plan") else 5)
    legend.SetUseColorNamesForLabels(in_percent)
    legend.SetLabelFormat("%s" if in_percent else "%.0f" if range_gy[1] > 10 else "%.1f")
    if in_percent:  # the legend writes values of the volume, which are Gy, or names of colors
        was = colors.StartModify()
        percent = np.linspace(*range_gy, colors.GetNumberOfColors()) * 100 / result.prescription_gy
        for index, value in enumerate(percent):
            colors.SetColorName(index, f"{value:.0f}")
        colors.EndModify(was)
