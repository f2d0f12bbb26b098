"""Contours: organs that are missing, and what a contour costs in dose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..connectors import draw_progress, fill_combo, guard_wheel
from ..contours_view import ContoursView, contours_view
from ..flow.events import (
    CostPressed,
    Event,
    FillPressed,
    OrgansCancelPressed,
    OrganSourceChosen,
)
from ..flow.state import PanelState
from ..table_widget import fit_height, show_table

__all__ = ["ContoursSection"]


class ContoursSection:
    """Where organs come from, two buttons, the progress of what they started, and a table."""

    def __init__(self, ui: Any, dispatch: Callable[[Event], None]) -> None:
        self.ui, self._dispatch = ui, dispatch
        self._shown: ContoursView | None = None
        ui.fillButton.connect("clicked()", self._fill)
        ui.costButton.connect("clicked()", self._cost)
        ui.organsCancelButton.connect("clicked()", self._cancel)
        ui.organSourceCombo.connect("activated(int)", self._choose)
        self._guard = guard_wheel(ui.organSourceCombo)

    def draw(self, state: PanelState) -> None:
        """What is missing, what can be done, and how far it is."""
        view, before = contours_view(state), self._shown
        if view == before:
            return
        self._shown = view
        ui = self.ui
        ui.contoursSection.text = view.title
        ui.contoursLabel.text = view.sentence
        ui.contoursLabel.visible = bool(view.sentence)
        ui.organSourcesLabel.text = view.sources
        ui.organSourcesLabel.visible = bool(view.sources)
        ui.fillButton.enabled, ui.fillButton.toolTip = view.can_fill, view.fill_tip
        ui.costButton.enabled, ui.costButton.toolTip = view.can_cost, view.cost_tip
        ui.organSourceCombo.visible = len(view.choices) > 1
        if before is None or view.choices != before.choices:
            fill_combo(ui.organSourceCombo, dict(view.choices), None)
        ui.organSourceCombo.currentIndex = view.chosen
        draw_progress(ui, "organs", view)
        if before is None or view.costs != before.costs:
            ui.costsTable.visible = bool(view.costs.rows)
            show_table(ui.costsTable, view.costs)
            fit_height(ui.costsTable)

    def _choose(self, index: int) -> None:
        if self._shown is not None and 0 <= index < len(self._shown.choices):
            self._dispatch(OrganSourceChosen(self._shown.choices[index][0]))

    def _fill(self) -> None:
        self._dispatch(FillPressed())

    def _cost(self) -> None:
        self._dispatch(CostPressed())

    def _cancel(self) -> None:
        self._dispatch(OrgansCancelPressed())
