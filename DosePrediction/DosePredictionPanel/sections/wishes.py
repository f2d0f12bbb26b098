"""Goals as wishes: a slider for each organ that the model takes wishes of, and the goals' text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt

from ..connectors import WheelGuard
from ..flow.events import Event, WishesTyped, WishSet
from ..flow.state import PanelState
from ..i18n import _
from ..wishes_view import NOT_STATED, WishesView, WishRow, wish_words, wishes_view

__all__ = ["WishesSection"]

_PAGE_PERCENT = 5
_LEAST_WIDTH = 48  # pixels: the longest organ's row fits a narrow panel


class WishesSection:
    """The rows are made anew when the organs are others; a slider speaks when it is let go."""

    def __init__(self, ui: Any, dispatch: Callable[[Event], None]) -> None:
        self.ui, self._dispatch = ui, dispatch
        self._shown: WishesView | None = None
        self._guard = WheelGuard()
        self._rows: dict[tuple[str, float], tuple[Any, Any, Any]] = {}
        self._is_drawing = False
        ui.wishesEdit.connect("editingFinished()", self._typed)
        ui.noWishesButton.connect("clicked()", self._none_pressed)

    def draw(self, state: PanelState) -> None:
        """Sliders and text; hidden with the reason for a model that takes no wishes."""
        view = wishes_view(state)
        if view == self._shown:
            return
        self._shown = view
        ui = self.ui
        ui.wishesSection.text = view.title
        ui.wishesLabel.text = view.sentence
        ui.wishesFrame.visible = bool(view.rows)
        if list(self._rows) != [(row.organ, row.dose_gy) for row in view.rows]:
            self._make_rows(view)
        self._is_drawing = True
        for row in view.rows:
            self._draw_row(row)
        self._is_drawing = False
        ui.wishesEdit.text = view.text
        ui.wishesEdit.setCursorPosition(0)
        ui.noWishesButton.enabled = bool(view.text)

    def _make_rows(self, view: WishesView) -> None:
        layout = self.ui.wishesRows.layout()
        for widgets in self._rows.values():
            for widget in widgets:
                layout.removeWidget(widget)
                widget.deleteLater()
        self._rows = {}
        for number, row in enumerate(view.rows):
            label, slider, words = qt.QLabel(), qt.QSlider(qt.Qt.Horizontal), qt.QLabel()
            slider.minimum, slider.maximum, slider.pageStep = 0, NOT_STATED, _PAGE_PERCENT
            slider.tracking, slider.minimumWidth = False, _LEAST_WIDTH
            slider.accessibleName = row.label
            words.setMinimumWidth(words.fontMetrics().boundingRect(_("not stated")).width() + 4)
            slider.connect("valueChanged(int)", self._setter(row))
            slider.connect("sliderMoved(int)", self._teller(words))
            self._guard.guard([slider])
            for column, widget in enumerate((label, slider, words)):
                layout.addWidget(widget, number, column)
            self._rows[row.organ, row.dose_gy] = (label, slider, words)
        layout.setColumnStretch(1, 1)

    def _draw_row(self, row: WishRow) -> None:
        label, slider, words = self._rows[row.organ, row.dose_gy]
        label.text, slider.value, words.text = row.label, row.percent, row.words
        for widget in (label, slider, words):
            widget.enabled, widget.toolTip = row.can_choose, row.tip

    def _setter(self, row: WishRow) -> Callable[[int], None]:
        def changed(percent: int) -> None:
            if not self._is_drawing:
                self._dispatch(WishSet(row.organ, row.dose_gy, float(percent)))

        return changed

    def _teller(self, words: Any) -> Callable[[int], None]:
        def moved(percent: int) -> None:
            words.text = wish_words(percent)

        return moved

    def _typed(self) -> None:
        text = str(self.ui.wishesEdit.text)
        if self._shown is not None and text != self._shown.text:
            self._dispatch(WishesTyped(text))

    def _none_pressed(self) -> None:
        self._dispatch(WishesTyped(""))
