"""The result: verdict, A and B, tables, places, export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt

from ..connectors import (
    HoverWatch,
    ResizeWatch,
    bring_into_view,
    fill_combo,
    guard_wheel,
    later,
    lay_out_again,
)
from ..flow.events import (
    Event,
    ExportPressed,
    LayoutPressed,
    OtherChosen,
    PlaceAsked,
    RemovePressed,
    ResultChosen,
    StructureHovered,
    StructureToggled,
    TabChosen,
)
from ..flow.state import PanelState
from ..i18n import _
from ..result_tables import Table
from ..table_widget import copy_text, fit_columns, fit_height, show_table
from ..views import ResultView, result_view

__all__ = ["ResultSection"]

_TABLES = ("goals", "dvh", "scores", "change")
_NEED_NUMBERS = (
    "otherSelector",
    "liveCheckBox",
    "shownSelector",
    "layoutButton",
    "goalsSelector",
    "hottestButton",
    "marksCheckBox",
    "copyButton",
    "reportButton",
    "tablesButton",
)
_FOLDED = (
    "inputsSection",
    "beamsSection",
    "wishesSection",
    "structuresSection",
    "contoursSection",
    "checksSection",
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
        ui.verdictLabel.connect("linkActivated(QString)", self._goal_followed)
        ui.resultSelector.connect("activated(int)", self._result_chosen)
        ui.otherSelector.connect("activated(int)", self._other_chosen)
        events = {
            "reportButton": ExportPressed("report"),
            "doseButton": ExportPressed("dose"),
            "tablesButton": ExportPressed("tables"),
            "removeButton": RemovePressed(),
            "layoutButton": LayoutPressed(),
            "hottestButton": PlaceAsked("", "hot"),
        }
        for name, event in events.items():
            getattr(ui, name).connect("clicked()", self._telling(event))
        self._hovers = [self._watch_table(name) for name in _TABLES]
        ui.dvhTable.connect("itemChanged(QTableWidgetItem*)", self._ticked)
        # It may wrap as the mouse moves: what stands below must not jump.
        ui.probeLabel.setMinimumHeight(2 * ui.probeLabel.fontMetrics().lineSpacing() + 2)
        self._resizing = ResizeWatch(self._fit_tabs)
        ui.resultTabs.installEventFilter(self._resizing)
        self._wheel = guard_wheel(
            ui.resultSelector, ui.otherSelector, ui.shownSelector, ui.goalsSelector
        )

    def draw(self, state: PanelState) -> None:
        """Verdict, tables, and what can be done with it."""
        view, before = result_view(state), self._shown
        if view == before:
            return
        self._shown, self._is_drawing = view, True
        try:
            self.ui.probeLabel.text = view.probe or _("Move the mouse over the slices.")
            if before is None or view.run != before.run:
                self._draw_presence(view)
            self._draw_words(view)
            self._draw_choices(view, before)
            if before is None or (view.tables, view.hidden) != (before.tables, before.hidden):
                self._draw_tables(view)
            self._draw_controls(view)
            self.ui.resultTabs.currentIndex = _TABLES.index(view.tab)
            self._fit_tabs()
        finally:
            self._is_drawing = False
        if view.arrived and (before is None or view.arrived != before.arrived):
            self._bring_into_view()

    def _draw_presence(self, view: ResultView) -> None:
        ui = self.ui
        is_there = bool(view.run)
        ui.resultSection.enabled = is_there
        if ui.resultSection.collapsed == is_there:
            ui.resultSection.collapsed = not is_there
        ui.displaySection.enabled = is_there
        if not is_there and ui.inputsSection.collapsed:
            ui.inputsSection.collapsed = False
            bring_into_view(ui.inputsSection)

    def _bring_into_view(self) -> None:
        """A result has come: what led to it folds, its headings go on telling how they stand."""
        for name in _FOLDED:
            getattr(self.ui, name).collapsed = True
        bring_into_view(self.ui.resultSection)

    def _draw_words(self, view: ResultView) -> None:
        ui = self.ui
        ui.resultLabel.text = view.summary
        ui.verdictLabel.text = view.verdict
        ui.verdictLabel.visible = bool(view.verdict)

    def _draw_choices(self, view: ResultView, before: ResultView | None) -> None:
        ui = self.ui
        if before is None or (view.results, view.dose) != (before.results, before.dose):
            fill_combo(ui.resultSelector, dict(view.results), view.dose)
        if before is None or (view.others, view.other) != (before.others, before.other):
            fill_combo(ui.otherSelector, dict(view.others), view.other)
        if before is None or (view.templates, view.goals) != (before.templates, before.goals):
            fill_combo(ui.goalsSelector, dict(view.templates), view.goals)
        if before is None or (view.layers, view.layer) != (before.layers, before.layer):
            fill_combo(ui.shownSelector, dict(view.layers), view.layer)

    def _draw_tables(self, view: ResultView) -> None:
        """A tab without rows cannot be chosen."""
        for number, name in enumerate(_TABLES):
            table = view.tables.get(name, Table((), ()))
            ticks = _ticks(table, view) if name == "dvh" else {}
            show_table(self._table(name), table, ticks)
            self.ui.resultTabs.setTabEnabled(number, bool(table.rows))

    def _fit_tabs(self) -> None:
        """As high as the table in front, so that the panel scrolls and not the table in it."""
        tabs, table = self.ui.resultTabs, self._table(_TABLES[self.ui.resultTabs.currentIndex])
        fit_columns(table)
        height = fit_height(table, most=10_000)
        height += tabs.tabBar().sizeHint.height() + 10
        if tabs.height != height:
            tabs.setFixedHeight(height)
            # Else what stands below lies over the table until something else changes.
            later(lambda: lay_out_again(self.ui.resultSection))

    def _draw_controls(self, view: ResultView) -> None:
        """What needs the numbers is disabled without them, and says why."""
        for name in _NEED_NUMBERS:
            widget = getattr(self.ui, name)
            widget.enabled = view.can_display
            widget.toolTip = view.why_not or self._tips[name]
        self.ui.bandsCheckBox.enabled = view.has_bands
        self.ui.bandsLabel.text = view.bands
        self.ui.bandsLabel.visible = bool(view.bands)

    def _table(self, name: str) -> Any:
        return getattr(self.ui, f"{name}Table")

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

    def _result_chosen(self, _index: int) -> None:
        self._chosen(self.ui.resultSelector, ResultChosen)

    def _other_chosen(self, _index: int) -> None:
        self._chosen(self.ui.otherSelector, OtherChosen)

    def _chosen(self, combo: Any, kind: Callable[[str], Event]) -> None:
        """In a turn of its own: drawing refills this very box."""
        event = kind(str(combo.itemData(combo.currentIndex) or ""))
        later(lambda: self._dispatch(event))

    def _goal_followed(self, link: str) -> None:
        row = int(str(link).removeprefix("goal:"))
        self._follow("goals", row)
        self._dispatch(TabChosen("goals"))
        self._table("goals").selectRow(row)

    def _watch_table(self, name: str) -> HoverWatch:
        """Clicks lead to places; the structure of the row under the mouse stands out."""
        table = self._table(name)
        table.connect("cellClicked(int,int)", lambda row, _column: self._follow(name, row))
        return HoverWatch(table, lambda row: self._hovered(name, row))

    def _follow(self, name: str, row: int) -> None:
        structure, sense = self._place(name, row)
        if structure:
            self._dispatch(PlaceAsked(structure, sense))

    def _hovered(self, name: str, row: int) -> None:
        self._dispatch(StructureHovered(self._place(name, row)[0]))

    def _place(self, name: str, row: int) -> tuple[str, str]:
        tables: Mapping[str, Table] = self._shown.tables if self._shown is not None else {}
        places = tables[name].places if name in tables else ()
        return places[row] if 0 <= row < len(places) else ("", "")

    def _ticked(self, item: Any) -> None:
        if self._is_drawing or item.column() != 0:
            return
        structure = self._place("dvh", item.row())[0]
        if structure:
            is_shown = item.checkState() == qt.Qt.Checked
            event = StructureToggled(structure, is_shown)
            later(lambda: self._dispatch(event))


def _ticks(table: Table, view: ResultView) -> dict[int, bool]:
    """Row → whether its structure is shown; one a structure, in its first row."""
    ticks: dict[int, bool] = {}
    seen: set[str] = set()
    for row, (structure, _sense) in enumerate(table.places):
        if structure not in seen:
            ticks[row] = structure not in view.hidden
            seen.add(structure)
    return ticks
