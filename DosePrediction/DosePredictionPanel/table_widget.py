"""A `Table` of text in a QTableWidget."""

from __future__ import annotations

import qt

from .result_tables import Table

__all__ = ["STATUS_COLORS", "copy_text", "fit_height", "show_table"]

# Legible on light and on dark backgrounds; a symbol always stands beside the color.
STATUS_COLORS = {
    "met": "#2e9e5b",
    "ok": "#2e9e5b",
    "by_hand": "#2e86c1",
    "variation": "#c77d00",
    "warning": "#c77d00",
    "not_met": "#d64541",
    "blocking": "#d64541",
}


def show_table(widget: qt.QTableWidget, table: Table) -> None:
    """Replace the content; columns fit their text, and the last one takes what is left."""
    widget.setRowCount(0)
    widget.setColumnCount(len(table.headers))
    widget.setHorizontalHeaderLabels(list(table.headers))
    widget.setRowCount(len(table.rows))
    for row, cells in enumerate(table.rows):
        for column, cell in enumerate(cells):
            item = qt.QTableWidgetItem(cell.text)
            item.setToolTip(cell.tool_tip or cell.text)
            if cell.status in STATUS_COLORS:
                item.setForeground(qt.QBrush(qt.QColor(STATUS_COLORS[cell.status])))
            widget.setItem(row, column, item)
    widget.verticalHeader().hide()
    widget.verticalHeader().setDefaultSectionSize(22)
    header = widget.horizontalHeader()
    header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    header.setStretchLastSection(True)


def fit_height(widget: qt.QTableWidget, most: int = 340) -> None:
    """As high as the rows need, so that the panel scrolls and not the table in it."""
    height = widget.horizontalHeader().height + 2 * widget.frameWidth
    height += sum(widget.rowHeight(row) for row in range(widget.rowCount))
    widget.setFixedHeight(max(48, min(most, height + 2)))


def copy_text(text: str) -> None:
    """Put text on the clipboard."""
    qt.QApplication.clipboard().setText(text)
