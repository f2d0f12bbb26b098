"""The result: display controls, tables, export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .connectors import fill_combo
from .i18n import _
from .result_tables import Table
from .table_widget import copy_text, show_table

__all__ = ["GOALS_FROM_FILE", "ResultActions", "ResultSection"]

GOALS_FROM_FILE = "…"
"""Data of the selector's item that asks for a file of goals."""

_TABLES = ("goals", "dvh", "scores", "change")


@dataclass(frozen=True)
class ResultActions:
    """What the section's buttons do."""

    report: Callable[[], None]
    dose: Callable[[], None]
    tables: Callable[[], None]
    remove: Callable[[], None]
    layout: Callable[[], None]


class ResultSection:
    """Shows what a prediction gave; empty without one."""

    def __init__(self, ui: Any, actions: ResultActions) -> None:
        self.ui = ui
        self.tables: dict[str, Table] = {}
        ui.copyButton.connect("clicked()", self._copy)
        ui.resultTabs.connect("currentChanged(int)", self._tab_changed)
        ui.reportButton.connect("clicked()", actions.report)
        ui.doseButton.connect("clicked()", actions.dose)
        ui.tablesButton.connect("clicked()", actions.tables)
        ui.removeButton.connect("clicked()", actions.remove)
        ui.layoutButton.connect("clicked()", actions.layout)
        self.clear()

    def fill_goals(self, titles: Mapping[str, str], chosen: str) -> None:
        """The goal templates to choose from (id → title) and a file of one's own."""
        items = dict(titles)
        if chosen and chosen not in items:
            items[chosen] = Path(chosen).stem
        items[GOALS_FROM_FILE] = _("From a file…")
        fill_combo(self.ui.goalsSelector, items, chosen)

    def clear(self) -> None:
        """No result."""
        self.tables = {}
        self.ui.resultSection.text = _("Result")
        self.ui.resultSection.collapsed = True
        self.ui.resultSection.enabled = False
        self.ui.resultLabel.text = ""

    def show(self, summary: str, tables: Mapping[str, Table]) -> None:
        """A result: a line or two on how it came about, and its tables by tab."""
        is_new = not self.tables
        self.ui.resultSection.enabled = True
        if is_new:
            self.ui.resultSection.collapsed = False
            # Their headings go on telling how they stand; the result would lie below the window.
            self.ui.structuresSection.collapsed = self.ui.checksSection.collapsed = True
        self.ui.resultLabel.text = summary
        self.show_tables(tables)

    def show_tables(self, tables: Mapping[str, Table]) -> None:
        """Replace the tables; a tab without rows cannot be chosen."""
        self.tables = dict(tables)
        for number, name in enumerate(_TABLES):
            table = self.tables.get(name, Table((), ()))
            show_table(getattr(self.ui, f"{name}Table"), table)
            self.ui.resultTabs.setTabEnabled(number, bool(table.rows))
        if not self.ui.resultTabs.isTabEnabled(self.ui.resultTabs.currentIndex):
            names = [name for name in _TABLES if self.tables.get(name, Table((), ())).rows]
            if names:
                self.choose_tab(names[0])

    def choose_tab(self, name: str) -> None:
        """Bring one table to the front: `goals`, `dvh`, `scores` or `change`."""
        self.ui.resultTabs.currentIndex = _TABLES.index(name)

    def _copy(self) -> None:
        table = self.tables.get(_TABLES[self.ui.resultTabs.currentIndex])
        if table is not None:
            copy_text(table.as_text())
            self.ui.copyButton.text = _("Copied")

    def _tab_changed(self, _index: int) -> None:
        self.ui.copyButton.text = _("Copy")
