"""Widgets bound to parameters whose choices are known at run time only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import qt
from slicer.parameterNodeWrapper import GuiConnector

from .i18n import _

__all__ = [
    "ComboDataConnector",
    "HoverWatch",
    "ResizeWatch",
    "WheelGuard",
    "bring_into_view",
    "draw_progress",
    "fill_combo",
    "guard_wheel",
    "later",
    "lay_out_again",
]


_SETTLING_MS = (0, 100, 400)


class ComboDataConnector(GuiConnector):
    """A combo box whose items carry the parameter's text as their data.

    A value that is not among the items (a model that has been removed since the scene was saved)
    leaves the box without a choice, and the parameter as it is.
    """

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        """Never found automatically: these are bound by hand."""
        return False

    @staticmethod
    def create(widget: Any, datatype: Any) -> ComboDataConnector | None:
        """See `canRepresent`."""
        return None

    def __init__(self, widget: qt.QComboBox) -> None:
        super().__init__()
        self._widget = widget

    def _connect(self) -> None:
        self._widget.connect("activated(int)", self._activated)

    def _disconnect(self) -> None:
        self._widget.disconnect("activated(int)", self._activated)

    def _activated(self, _index: int) -> None:
        self.changed()

    def widget(self) -> qt.QComboBox:
        """The combo box."""
        return self._widget

    def read(self) -> str:
        """Data of the chosen item."""
        value = self._widget.itemData(self._widget.currentIndex)
        return "" if value is None else str(value)

    def write(self, value: str) -> None:
        """Choose the item with this data."""
        self._widget.currentIndex = self._widget.findData(value)


class _UnderWay(Protocol):
    """A view of long work: `share` 0…1, below 0 unknown, None: nothing is under way."""

    @property
    def share(self) -> float | None: ...

    @property
    def stage(self) -> str: ...

    @property
    def is_cancelling(self) -> bool: ...


def draw_progress(ui: Any, name: str, view: _UnderWay) -> None:
    """Bar, stage and cancel button of long work: `<name>ProgressBar` and so on; hidden without."""
    bar, label, button = (
        getattr(ui, f"{name}{part}") for part in ("ProgressBar", "StageLabel", "CancelButton")
    )
    for widget in (bar, label, button):
        widget.visible = view.share is not None
    if view.share is None:
        return
    bar.maximum = 1000 if view.share >= 0 else 0
    bar.value = round(1000 * max(view.share, 0.0))
    label.text = view.stage
    button.enabled = not view.is_cancelling
    button.text = _("Cancelling…") if view.is_cancelling else _("Cancel")


def fill_combo(combo: qt.QComboBox, items: dict[str, str], chosen: str | None) -> None:
    """Replace the items (data → text) without telling anybody, and choose one."""
    blocked = combo.blockSignals(True)
    combo.clear()
    for data, text in items.items():
        combo.addItem(text, data)
    combo.currentIndex = -1 if chosen is None else combo.findData(chosen)
    combo.blockSignals(blocked)


class ResizeWatch(qt.QObject):
    """Calls back, a turn of the event loop later, when a widget has another width."""

    def __init__(self, on_width: Callable[[], None]) -> None:
        qt.QObject.__init__(self)
        self._on_width = on_width
        self._width = -1

    def eventFilter(self, watched: qt.QObject, event: qt.QEvent) -> bool:
        """Look at resize events; handle none."""
        if event.type() == qt.QEvent.Resize and watched.width != self._width:
            self._width = watched.width
            later(self._on_width)
        return False


class WheelGuard(qt.QObject):
    """Keeps the mouse wheel from changing a box that the panel is being scrolled past."""

    def guard(self, widgets: list[qt.QWidget]) -> None:
        """Install on these widgets."""
        for widget in widgets:
            widget.focusPolicy = qt.Qt.StrongFocus
            widget.installEventFilter(self)

    def eventFilter(self, _watched: qt.QObject, event: qt.QEvent) -> bool:
        """Leave wheel events to the panel's scroll area."""
        if event.type() != qt.QEvent.Wheel:
            return False
        event.ignore()
        return True


def guard_wheel(*widgets: qt.QWidget) -> WheelGuard:
    """A guard on these widgets, to be kept as long as they."""
    guard = WheelGuard()
    guard.guard(list(widgets))
    return guard


def lay_out_again(widget: qt.QWidget) -> None:
    """Have a widget and what it lies in take up other heights at once, up to the scroll area."""
    while widget is not None and not widget.inherits("QScrollArea"):
        layout = widget.layout()
        if layout is not None:
            layout.invalidate()
            layout.activate()
        widget.updateGeometry()
        widget = widget.parent()


def bring_into_view(widget: qt.QWidget) -> None:
    """Scroll the panel so that a widget is on top, once folding sections have settled."""

    def scroll() -> None:
        area = widget.parent()
        while area is not None and not area.inherits("QScrollArea"):
            area = area.parent()
        if area is not None:
            place = widget.mapTo(area.widget(), qt.QPoint(0, 0))
            area.verticalScrollBar().value = place.y()

    for milliseconds in _SETTLING_MS:
        later(scroll, milliseconds)


def later(call: Callable[[], None], milliseconds: int = 0) -> None:
    """Call from the event loop; of no effect once the widgets that it works with have gone."""

    def guarded() -> None:
        try:
            call()
        except ValueError as error:  # PythonQt: "Trying to call … on a destroyed … object"
            if "destroyed" not in str(error):
                raise

    qt.QTimer.singleShot(milliseconds, guarded)


class HoverWatch(qt.QObject):
    """Calls back with the row of a table that the mouse is over, and with -1 when it leaves."""

    def __init__(self, table: qt.QTableWidget, on_row: Callable[[int], None]) -> None:
        qt.QObject.__init__(self)
        self._on_row, self._row = on_row, -1
        table.setMouseTracking(True)
        table.connect("cellEntered(int,int)", self._entered)
        table.installEventFilter(self)

    def _entered(self, row: int, _column: int) -> None:
        if row != self._row:
            self._row = row
            self._on_row(row)

    def eventFilter(self, _watched: qt.QObject, event: qt.QEvent) -> bool:
        """Look at the mouse leaving; handle nothing."""
        if event.type() == qt.QEvent.Leave and self._row >= 0:
            self._row = -1
            self._on_row(-1)
        return False
