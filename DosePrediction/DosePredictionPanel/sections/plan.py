"""The plan: whether beams could give the shown dose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..connectors import fill_combo, guard_wheel
from ..flow.events import DeliverablePressed, Event
from ..flow.state import PanelState
from ..plan_view import PlanView, plan_view

__all__ = ["PlanSection"]


class PlanSection:
    """The combo box is bound to the parameters; the rest is drawn."""

    def __init__(self, ui: Any, dispatch: Callable[[Event], None]) -> None:
        self.ui, self._dispatch = ui, dispatch
        self._shown: PlanView | None = None
        ui.deliverableButton.connect("clicked()", self._pressed)
        self._wheel = guard_wheel(ui.planBeamsSelector)

    def draw(self, state: PanelState) -> None:
        """Choices of beams, the button, and the answer."""
        view, before = plan_view(state), self._shown
        if view == before:
            return
        self._shown = view
        ui = self.ui
        if before is None or (view.items, view.chosen) != (before.items, before.chosen):
            fill_combo(ui.planBeamsSelector, dict(view.items), view.chosen)
        ui.deliverableButton.enabled, ui.deliverableButton.toolTip = view.can_check, view.tip
        ui.deliverableLabel.text = view.answer
        ui.deliverableLabel.visible = bool(view.answer)

    def _pressed(self) -> None:
        self._dispatch(DeliverablePressed())
