"""The list of findings; a click shows the place in the slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import qt

from .connectors import ResizeWatch
from .finding_rows import FindingRow, finding_rows, findings_title
from .i18n import _

if TYPE_CHECKING:
    from DosePredictionLib.findings import Finding

__all__ = ["ChecksSection"]

_HIGHEST = 190


class ChecksSection:
    """The preflight's findings, worst first.

    Args:
        on_place: called with a position, LPS mm, when a finding that has one is clicked.
    """

    def __init__(self, ui: Any, on_place: Callable[[tuple[float, float, float]], None]) -> None:
        self.ui, self._on_place = ui, on_place
        self._rows: list[FindingRow] = []
        ui.checksList.connect("itemClicked(QListWidgetItem*)", self._clicked)
        self._resizing = ResizeWatch(self._fit_height)
        ui.checksList.installEventFilter(self._resizing)
        self.clear("")

    def clear(self, hint: str) -> None:
        """Nothing to show, and why."""
        self._show_rows([])
        self.ui.checksSection.text = _("Checks")
        self._hint(hint)

    def show_reading(self, what: str) -> None:
        """The inputs are being read; what was found before stays to be seen."""
        self.ui.checksSection.text = findings_title([], reading=True)
        self._hint(what)

    def show(self, findings: Sequence[Finding]) -> None:
        """Findings of the inputs as they are now."""
        self._show_rows(finding_rows(findings))
        self.ui.checksSection.text = findings_title(findings)
        self._hint("" if findings else _("Nothing speaks against a prediction."))

    def _hint(self, text: str) -> None:
        self.ui.checksHintLabel.text = text
        self.ui.checksHintLabel.visible = bool(text)

    def _show_rows(self, rows: list[FindingRow]) -> None:
        widget = self.ui.checksList
        self._rows = rows
        widget.clear()
        for number, row in enumerate(rows):
            widget.addItem(row.text)
            widget.item(number).setToolTip(row.tool_tip)
        widget.visible = bool(rows)
        self._fit_height()

    def _fit_height(self) -> None:
        """As high as the wrapped lines need at this width."""
        widget = self.ui.checksList
        widget.doItemsLayout()
        items = [widget.item(number) for number in range(len(self._rows))]
        height = sum(widget.visualItemRect(item).height() for item in items)
        widget.setFixedHeight(min(_HIGHEST, height + 2 * widget.frameWidth + 4))

    def _clicked(self, item: qt.QListWidgetItem) -> None:
        position_mm = self._rows[self.ui.checksList.row(item)].position_mm
        if position_mm is not None:
            self._on_place(position_mm)
