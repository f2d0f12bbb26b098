"""The beams: a choice, angles to type, and a rose of where they come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import qt

from ..beams_view import BeamsView, Direction, beams_view
from ..connectors import fill_combo, guard_wheel
from ..flow.events import BeamsTyped, Event, PlanBeamsPressed
from ..flow.state import PanelState
from ..i18n import _

__all__ = ["BeamsSection"]

_SIZE = 104  # of the rose, pixels
_RIM, _PATIENT = 0.36, 0.2  # radius of the gantry's circle, half the patient's width, of the size
_FLAT = 0.7  # the patient's depth over the width
_LETTER_PX = 9
_MOST_ARROWS = 16


class BeamsSection:
    """The combo box is bound to the parameters; the rest is drawn."""

    def __init__(self, ui: Any, dispatch: Callable[[Event], None]) -> None:
        self.ui, self._dispatch = ui, dispatch
        self._shown: BeamsView | None = None
        ui.beamsEdit.connect("editingFinished()", self._typed)
        ui.planBeamsButton.connect("clicked()", self._plan_pressed)
        self._wheel = guard_wheel(ui.beamsSelector)

    def draw(self, state: PanelState) -> None:
        """Choices, angles, rose; disabled with the reason for a model that knows no beams."""
        view, before = beams_view(state), self._shown
        if view == before:
            return
        self._shown = view
        ui = self.ui
        ui.beamsSection.text = view.title
        ui.beamsLabel.text = view.sentence
        if before is None or (view.items, view.chosen) != (before.items, before.chosen):
            fill_combo(ui.beamsSelector, dict(view.items), view.chosen)
        if before is None or view.angles != before.angles:
            ui.beamsEdit.text = view.angles
            ui.beamsEdit.setCursorPosition(0)
        for widget in (ui.beamsSelector, ui.beamsEdit, ui.planBeamsButton, ui.showBeamsCheckBox):
            widget.enabled = view.can_choose
        ui.beamsRoseLabel.visible = view.can_choose
        ui.beamsRoseLabel.setPixmap(_rose(view.directions, ui.beamsRoseLabel.palette))

    def _typed(self) -> None:
        text = str(self.ui.beamsEdit.text)
        if self._shown is not None and text != self._shown.angles:
            self._dispatch(BeamsTyped(text))

    def _plan_pressed(self) -> None:
        self._dispatch(PlanBeamsPressed())


def _rose(directions: Sequence[Direction], palette: Any) -> Any:
    """The gantry's circle, the patient in it, and a mark for each beam."""
    text = palette.color(qt.QPalette.WindowText)
    beam = palette.color(qt.QPalette.Highlight)
    middle, rim, width = _SIZE / 2, _SIZE * _RIM, _SIZE * _PATIENT
    picture = qt.QPixmap(_SIZE, _SIZE)
    picture.fill(qt.QColor(0, 0, 0, 0))
    painter = qt.QPainter()
    painter.begin(picture)
    painter.setRenderHint(qt.QPainter.Antialiasing)
    painter.setPen(qt.QPen(text, 1))
    painter.drawEllipse(qt.QRectF(middle - rim, middle - rim, 2 * rim, 2 * rim))
    painter.drawEllipse(
        qt.QRectF(middle - width, middle - width * _FLAT, 2 * width, 2 * width * _FLAT)
    )
    font = painter.font()
    font.setPixelSize(_LETTER_PX)
    painter.setFont(font)
    places = {_("A"): (0, -1), _("L"): (1, 0), _("P"): (0, 1), _("R"): (-1, 0)}
    beside = rim + _LETTER_PX * 0.8
    for letter, (right, down) in places.items():
        box = qt.QRectF(middle + beside * right - 10, middle + beside * down - 10, 20, 20)
        painter.drawText(box, int(qt.Qt.AlignCenter), letter)
    painter.setPen(qt.QPen(beam, 2))
    for x, y in directions:
        _mark(painter, middle, rim, math.atan2(y, x), len(directions) <= _MOST_ARROWS)
    painter.end()
    return picture


def _mark(painter: Any, middle: float, rim: float, angle: float, is_arrow: bool) -> None:
    """An arrow from the gantry's circle to the middle, or a stroke on the circle, as of an arc."""

    def place(radius: float, turn: float = 0.0) -> Any:
        return qt.QPointF(
            middle + radius * math.cos(angle + turn), middle + radius * math.sin(angle + turn)
        )

    if not is_arrow:
        painter.drawLine(place(rim), place(rim * 0.75))
        return
    tip = place(rim * 0.62)
    painter.drawLine(place(rim), place(0.0))
    for turn in (-0.13, 0.13):
        painter.drawLine(tip, place(rim * 0.82, turn))
