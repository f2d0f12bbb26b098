"""The inputs: node selectors, models, the card of the chosen one, prescription."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..connectors import fill_combo, guard_wheel
from ..flow.events import Event
from ..flow.state import PanelState
from ..i18n import _
from ..views import InputsView, inputs_view

__all__ = ["InputsSection"]


class InputsSection:
    """What the parameters are bound to needs no code; the rest is drawn."""

    def __init__(self, ui: Any, _dispatch: Callable[[Event], None]) -> None:
        self.ui = ui
        self._shown: InputsView | None = None
        self._selectors = {
            "ct": ui.ctSelector,
            "segmentation": ui.segmentationSelector,
            "plan_dose": ui.planDoseSelector,
        }
        ui.modelCardLabel.visible = False
        ui.modelCardButton.connect("toggled(bool)", ui.modelCardLabel.setVisible)
        self._wheel = guard_wheel(ui.modelSelector, ui.prescriptionSpinBox)

    def draw(self, state: PanelState) -> None:
        """Models and card; what a selector must not offer is hidden from it."""
        view, before = inputs_view(state), self._shown
        if view == before:
            return
        self._shown = view
        if before is None or view.hidden != before.hidden:
            for choice, selector in self._selectors.items():
                selector.sortFilterProxyModel().hiddenNodeIDs = list(view.hidden[choice])
        if before is None or view.models != before.models or view.model != before.model:
            fill_combo(self.ui.modelSelector, dict(view.models), view.model)
        self._draw_card(view)

    def _draw_card(self, view: InputsView) -> None:
        ui = self.ui
        ui.modelCardLabel.text = view.card
        ui.modelCardLabel.toolTip = view.card_details
        ui.prescriptionSpinBox.enabled = view.is_scalable
        if view.doses:
            ui.modelSelector.toolTip = view.card_details
            # Without the fractions, which the card states: a narrow panel cuts the beginning off.
            own = _("{doses} (the model's)").format(doses=view.doses)
            ui.prescriptionSpinBox.specialValueText = own
            ui.prescriptionSpinBox.toolTip = view.prescription_tip
