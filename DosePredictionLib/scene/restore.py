"""What a result changes of the user's own display, and how it goes back when it is removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .runs import inputs_of, remember

__all__ = ["borrow_display", "hide_fill", "restore_displays"]

_FILL, _PLAN = "fill", "plan"


def hide_fill(dose: Any) -> None:
    """Show the segments as outlines: filled, they would hide the dose."""
    _, segmentation = inputs_of(dose)
    display = None if segmentation is None else segmentation.GetDisplayNode()
    if display is not None and display.GetVisibility2DFill():
        remember(dose, _FILL, True)
        display.SetVisibility2DFill(False)


def borrow_display(dose: Any, plan: Any) -> Any:
    """The display of the user's plan dose, to be shown like the predicted one."""
    display = plan.GetScalarVolumeDisplayNode()
    if display is None:
        plan.CreateDefaultDisplayNodes()
        display = plan.GetScalarVolumeDisplayNode()
    state = {
        "node": plan.GetID(),
        "colors": display.GetColorNodeID(),
        "auto_window": bool(display.GetAutoWindowLevel()),
        "window": [display.GetWindowLevelMin(), display.GetWindowLevelMax()],
        "threshold": [display.GetLowerThreshold(), display.GetUpperThreshold()],
        "auto_threshold": bool(display.GetAutoThreshold()),
        "apply_threshold": bool(display.GetApplyThreshold()),
    }
    remember(dose, _PLAN, state)
    return display


def restore_displays(dose: Any, known: Mapping[str, Any]) -> None:
    """Put back what `hide_fill` and `borrow_display` changed.

    Args:
        known: of `remembered`.
    """
    _, segmentation = inputs_of(dose)
    if known.get(_FILL) and segmentation is not None and segmentation.GetDisplayNode() is not None:
        segmentation.GetDisplayNode().SetVisibility2DFill(True)
    state = known.get(_PLAN)
    plan = None if state is None else dose.GetScene().GetNodeByID(state["node"])
    if state is None or plan is None:
        return
    display = plan.GetScalarVolumeDisplayNode()
    was = display.StartModify()
    display.SetAndObserveColorNodeID(state["colors"])
    display.SetWindowLevelMinMax(*state["window"])
    display.SetAutoWindowLevel(state["auto_window"])
    display.SetThreshold(*state["threshold"])
    display.SetAutoThreshold(state["auto_threshold"])
    display.SetApplyThreshold(state["apply_threshold"])
    display.EndModify(was)
