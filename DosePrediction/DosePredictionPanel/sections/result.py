"""The result: display controls, tables, export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..connectors import fill_combo, guard_wheel
from ..flow.events import Event, ExportPressed, LayoutPressed, RemovePressed, TabChosen
from ..flow.state import PanelState
from ..i18n import _
from ..result_tables import Table
from ..table_widget import copy_text, show_table
from ..views import ResultView, result_view

__all__ = ["ResultSection"]

_TABLES = ("goals", "dvh", "scores", "change")
_NEED_NUMBERS = (
    "shownSelector",
    "layoutButton",
    "opacitySlider",
    "rangeWidget",
    "unitSelector",
    "isodosesCheckBox",
    "legendCheckBox",
    "goalsSelector",
    "copyButton",
    "reportButton",
    "tablesButton",
)


class ResultSection:
    """Shows what a prediction gave; disabled and empty without one."""

    def __init__(self, ui: Any, dispatch: Callable[[Event], None]) -> None:
        self.ui, self._dispatch = ui, dispatch
        self._shown: ResultView | None = None
        self._is_drawing = False
        self._tips = {name: getattr(ui, name).toolTip for name in _NEED_NUMBERS}
        ui.copyButton.connect("clicked()", self._copy)
        ui.resultTabs.connect("currentChanged(int)", self._tab_changed)
        events = {
            "reportButton": ExportPressed("report"),
            "doseButton": ExportPressed("dose"),
            "tablesButton": ExportPressed("tables"),
            "removeButton": RemovePressed(),
            "layoutButton": LayoutPressed(),
        }
        for name, event in events.items():
            getattr(ui, name).connect("clicked()", self._telling(event))
        self._wheel = guard_wheel(ui.shownSelector, ui.unitSelector, ui.goalsSelector)

    def draw(self, state: PanelState) -> None:
        """Summary, tables, and what can be done with it."""
        view, before = result_view(state), self._shown
        if view == before:
            return
        self._shown, self._is_drawing = view, True
        try:
            if before is None or view.run != before.run:
                self._draw_presence(view, before)
            self.ui.resultLabel.text = view.summary
            if before is None or (view.templates, view.goals) != (before.templates, before.goals):
                fill_combo(self.ui.goalsSelector, dict(view.templates), view.goals)
            if before is None or view.tables != before.tables:
                self._draw_tables(view.tables)
            self._draw_controls(view)
            self.ui.resultTabs.currentIndex = _TABLES.index(view.tab)
        finally:
            self._is_drawing = False

    def _draw_presence(self, view: ResultView, before: ResultView | None) -> None:
        ui = self.ui
        ui.resultSection.enabled = bool(view.run)
        if not view.run:
            ui.resultSection.collapsed = True
        elif before is None or not before.run:
            ui.resultSection.collapsed = False
            # Their headings go on telling how they stand; the result would lie below the window.
            ui.structuresSection.collapsed = ui.checksSection.collapsed = True

    def _draw_tables(self, tables: Mapping[str, Table]) -> None:
        """A tab without rows cannot be chosen."""
        for number, name in enumerate(_TABLES):
            table = tables.get(name, Table((), ()))
            show_table(getattr(self.ui, f"{name}Table"), table)
            self.ui.resultTabs.setTabEnabled(number, bool(table.rows))

    def _draw_controls(self, view: ResultView) -> None:
        """What needs the numbers is disabled without them, and says why."""
        for name in _NEED_NUMBERS:
            widget = getattr(self.ui, name)
            widget.enabled = view.can_display
            widget.toolTip = view.why_not or self._tips[name]

    def _telling(self, event: Event) -> Callable[[], None]:
        def state() -> None:
            self._dispatch(event)

        return state

    def _copy(self) -> None:
        tables = self._shown.tables if self._shown is not None else {}
        table = tables.get(_TABLES[self.ui.resultTabs.currentIndex])
        if table is not None:
            copy_text(table.as_text())
            self.ui.copyButton.text = _("Copied")

    def _tab_changed(self, index: int) -> None:
        self.ui.copyButton.text = _("Copy")
        if not self._is_drawing and index >= 0:
            self._dispatch(TabChosen(_TABLES[index]))
