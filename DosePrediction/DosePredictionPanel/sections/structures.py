"""The table of structures: which segment fills which channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt

from ..connectors import ResizeWatch, WheelGuard, fill_combo, later
from ..flow.events import CorrectionChosen, Event, MatchAgainPressed
from ..flow.state import PanelState
from ..i18n import _
from ..structure_rows import StructureRow, structures_title
from ..table_widget import STATUS_COLORS, fit_height
from ..views import StructuresView, structures_view

__all__ = ["StructuresSection"]

_SWATCH, _ROW_HEIGHT = 12, 24
_BESIDE_CHANNEL = 32  # swatch and margins
_CHANNELS_SHARE = 0.36


class StructuresSection:
    """A row per channel with a selector of segments."""

    def __init__(self, ui: Any, dispatch: Callable[[Event], None]) -> None:
        self.ui, self._dispatch = ui, dispatch
        self._guard = WheelGuard()
        self._shown: StructuresView | None = None
        ui.matchButton.connect("clicked()", self._match_again)
        table = ui.structuresTable
        table.setColumnCount(4)
        table.setHorizontalHeaderLabels([_("Channel"), _("Segment"), "cc", ""])
        table.verticalHeader().hide()
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.Fixed)
        table.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        header = table.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(0, qt.QHeaderView.Fixed)
        header.setSectionResizeMode(1, qt.QHeaderView.Stretch)
        table.setTextElideMode(qt.Qt.ElideMiddle)
        self._resizing = ResizeWatch(self._fit_channels)
        table.installEventFilter(self._resizing)

    def draw(self, state: PanelState) -> None:
        """Rows by channel, or a hint why there are none."""
        view = structures_view(state)
        if view == self._shown:
            return
        self._shown = view
        ui, rows = self.ui, view.rows
        ui.structuresHintLabel.text = view.hint
        ui.structuresHintLabel.visible = bool(view.hint)
        ui.structuresSection.text = structures_title(rows) if rows else _("Structures")
        ui.matchButton.visible = any(row.status == "by_hand" for row in rows)
        table = ui.structuresTable
        table.visible = bool(rows)
        if rows:
            table.setRowCount(len(rows))
            for number, row in enumerate(rows):
                self._show_row(number, row, view.segments)
            fit_height(table)
            self._fit_channels()

    def _fit_channels(self) -> None:
        """Channels leave the segments room: these tell left from right in their last letters."""
        table = self.ui.structuresTable
        labels = [row.label for row in self._shown.rows] if self._shown is not None else []
        wanted = max((table.fontMetrics().boundingRect(text).width() for text in labels), default=0)
        most = int(_CHANNELS_SHARE * table.viewport().width)
        table.horizontalHeader().resizeSection(0, min(wanted + _BESIDE_CHANNEL, most))

    def _match_again(self) -> None:
        self._dispatch(MatchAgainPressed())

    def _show_row(self, number: int, row: StructureRow, segments: Sequence[str]) -> None:
        table = self.ui.structuresTable
        channel = qt.QTableWidgetItem(row.label)
        swatch = qt.QPixmap(_SWATCH, _SWATCH)
        swatch.fill(qt.QColor(row.color))
        channel.setIcon(qt.QIcon(swatch))
        volume = qt.QTableWidgetItem(row.volume)
        volume.setTextAlignment(int(qt.Qt.AlignRight | qt.Qt.AlignVCenter))
        status = qt.QTableWidgetItem(row.status_text)
        if row.status in STATUS_COLORS:
            status.setForeground(qt.QBrush(qt.QColor(STATUS_COLORS[row.status])))
        for column, item in ((0, channel), (2, volume), (3, status)):
            item.setToolTip(row.tool_tip)
            table.setItem(number, column, item)
        table.setCellWidget(number, 1, self._selector(row, segments))

    def _selector(self, row: StructureRow, segments: Sequence[str]) -> qt.QComboBox:
        combo = qt.QComboBox()
        combo.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
        combo.toolTip = row.tool_tip
        items = {"": _("(none)"), **{name: name for name in segments}}
        fill_combo(combo, items, row.structure or "")
        self._guard.guard([combo])
        channel = row.channel

        def chosen(_index: int) -> None:
            # In a turn of its own: drawing replaces this very box.
            segment = combo.itemData(combo.currentIndex) or None
            event = CorrectionChosen(channel, segment)
            later(lambda: self._dispatch(event))

        combo.connect("activated(int)", chosen)
        return combo
