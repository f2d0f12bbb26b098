"""A `Table` of text in a QTableWidget."""

from __future__ import annotations

from collections.abc import Mapping

import qt

from .result_tables import STATUS_COLORS, Table

__all__ = ["STATUS_COLORS", "copy_text", "fit_height", "show_table"]


_ROW_HEIGHT = 22
_NARROWEST = 56  # of a structure's name: beginning and end tell left from right


def show_table(
    widget: qt.QTableWidget, table: Table, ticks: Mapping[int, bool] | None = None
) -> None:
    """Replace the content; columns fit their text, and the last one takes what is left.

    Args:
        ticks: row → whether the box in its first cell is ticked; other rows have none.
    """
    font = widget.font
    font.setPointSizeF(widget.parent().font.pointSizeF() - 1)  # four columns at 330 px
    widget.font = font
    widget.horizontalHeader().setMinimumSectionSize(16)
    widget.setTextElideMode(qt.Qt.ElideMiddle)
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
            if column == 0 and ticks and row in ticks:
                item.setCheckState(qt.Qt.Checked if ticks[row] else qt.Qt.Unchecked)
            widget.setItem(row, column, item)
    widget.verticalHeader().hide()
    widget.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
    header = widget.horizontalHeader()
    header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    header.setStretchLastSection(True)


def fit_columns(widget: qt.QTableWidget) -> None:
    """Let the structures' names give way where the columns do not fit; hovering shows them."""
    header = widget.horizontalHeader()
    header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    hints = [
        max(widget.sizeHintForColumn(column), header.sectionSizeHint(column))
        for column in range(widget.columnCount)
    ]
    left = widget.viewport().width - sum(hints[1:])
    if hints and _NARROWEST <= left < hints[0]:
        header.setSectionResizeMode(0, qt.QHeaderView.Fixed)
        header.resizeSection(0, left)


def fit_height(widget: qt.QTableWidget, most: int = 340) -> int:
    """Make it as high as the rows need, so that the panel scrolls and not the table in it."""
    height = widget.horizontalHeader().sizeHint.height() + 2 * widget.frameWidth
    height += sum(widget.rowHeight(row) for row in range(widget.rowCount))
    header = widget.horizontalHeader()
    if header.length() > widget.viewport().width:
        height += widget.horizontalScrollBar().sizeHint.height()
    height = max(48, min(most, height + 2))
    widget.setFixedHeight(height)
    return height


def copy_text(text: str) -> None:
    """Put text on the clipboard."""
    qt.QApplication.clipboard().setText(text)
