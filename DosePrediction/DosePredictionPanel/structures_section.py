"""The table of structures: which segment fills which channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt

from .connectors import WheelGuard, fill_combo
from .i18n import _
from .structure_rows import StructureRow, structures_title
from .table_widget import STATUS_COLORS, fit_height

__all__ = ["StructuresSection"]

Correct = Callable[[str, "str | None"], None]
_SWATCH, _ROW_HEIGHT = 12, 24


class StructuresSection:
    """A row per channel with a selector of segments.

    Args:
        on_correct: called with channel and segment (None: empty) when the person chooses.
        on_match_again: called when the corrections are to be forgotten.
    """

    def __init__(self, ui: Any, on_correct: Correct, on_match_again: Callable[[], None]) -> None:
        self.ui, self._on_correct = ui, on_correct
        self._guard = WheelGuard()
        self._shown: tuple[tuple[StructureRow, ...], tuple[str, ...]] | None = None
        ui.matchButton.connect("clicked()", on_match_again)
        table = ui.structuresTable
        table.setColumnCount(4)
        table.setHorizontalHeaderLabels([_("Channel"), _("Segment"), "cc", _("Match")])
        table.verticalHeader().hide()
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.Fixed)
        table.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        header = table.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(1, qt.QHeaderView.Stretch)
        self.clear("")

    def clear(self, hint: str) -> None:
        """No rows, and why."""
        self._shown = None
        self.ui.structuresSection.text = _("Structures")
        self.ui.structuresHintLabel.text = hint
        self.ui.structuresHintLabel.visible = bool(hint)
        self.ui.structuresTable.visible = False
        self.ui.matchButton.visible = False

    def show(self, rows: Sequence[StructureRow], segments: Sequence[str]) -> None:
        """Rows by channel; `segments` are the names to choose from."""
        if self._shown == (tuple(rows), tuple(segments)):
            return
        table = self.ui.structuresTable
        self.ui.structuresHintLabel.visible = False
        self.ui.structuresSection.text = structures_title(rows)
        table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            self._show_row(number, row, segments)
        self._shown = (tuple(rows), tuple(segments))
        table.visible = True
        self.ui.matchButton.visible = any(row.status == "by_hand" for row in rows)
        fit_height(table)

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
            self._on_correct(channel, combo.itemData(combo.currentIndex) or None)

        combo.connect("activated(int)", chosen)
        return combo
