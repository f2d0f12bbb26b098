"""The list of findings; a click shows the place in the slices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt

from ..connectors import ResizeWatch
from ..flow.events import Event, FindingClicked
from ..flow.state import PanelState
from ..views import ChecksView, checks_view

__all__ = ["ChecksSection"]

_HIGHEST = 190


class ChecksSection:
    """The preflight's findings, worst first."""

    def __init__(self, ui: Any, dispatch: Callable[[Event], None]) -> None:
        self.ui, self._dispatch = ui, dispatch
        self._shown: ChecksView | None = None
        ui.checksList.connect("itemClicked(QListWidgetItem*)", self._clicked)
        self._resizing = ResizeWatch(self._fit_height)
        ui.checksList.installEventFilter(self._resizing)

    def draw(self, state: PanelState) -> None:
        """Title, rows and hint."""
        view, before = checks_view(state), self._shown
        if view == before:
            return
        self._shown = view
        ui = self.ui
        ui.checksSection.text = view.title
        ui.checksHintLabel.text = view.hint
        ui.checksHintLabel.visible = bool(view.hint)
        if before is None or view.rows != before.rows:
            self._draw_rows(view)

    def _draw_rows(self, view: ChecksView) -> None:
        widget = self.ui.checksList
        widget.clear()
        for number, row in enumerate(view.rows):
            widget.addItem(row.text)
            widget.item(number).setToolTip(row.tool_tip)
        widget.visible = bool(view.rows)
        self._fit_height()

    def _fit_height(self) -> None:
        """As high as the wrapped lines need at this width."""
        widget = self.ui.checksList
        widget.doItemsLayout()
        count = len(self._shown.rows) if self._shown is not None else 0
        items = [widget.item(number) for number in range(count)]
        height = sum(widget.visualItemRect(item).height() for item in items)
        widget.setFixedHeight(min(_HIGHEST, height + 2 * widget.frameWidth + 4))

    def _clicked(self, item: qt.QListWidgetItem) -> None:
        rows = self._shown.rows if self._shown is not None else ()
        position_mm = rows[self.ui.checksList.row(item)].position_mm
        if position_mm is not None:
            self._dispatch(FindingClicked(position_mm))
