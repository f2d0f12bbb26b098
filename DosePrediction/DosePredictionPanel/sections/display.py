"""How the dose is drawn: bound to the parameters, but for the isodose levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..connectors import guard_wheel
from ..flow.events import Event, LevelsTyped
from ..flow.state import PanelState
from ..views import result_view

__all__ = ["DisplaySection"]

_CONTROLS = (
    "opacitySlider",
    "rangeWidget",
    "unitSelector",
    "levelsEdit",
    "isodosesCheckBox",
    "surfacesCheckBox",
    "legendCheckBox",
)


class DisplaySection:
    """The levels that the person types."""

    def __init__(self, ui: Any, dispatch: Callable[[Event], None]) -> None:
        self.ui, self._dispatch = ui, dispatch
        self._shown: tuple[str, bool, str] | None = None
        self._tips = {name: getattr(ui, name).toolTip for name in _CONTROLS}
        ui.levelsEdit.connect("editingFinished()", self._typed)
        self._wheel = guard_wheel(ui.unitSelector)

    def draw(self, state: PanelState) -> None:
        """Levels; what cannot be drawn is disabled and says why."""
        view = result_view(state)
        shown = (view.levels, view.can_display, view.why_not)
        if shown == self._shown:
            return
        self._shown = shown
        self.ui.levelsEdit.text = view.levels
        for name in _CONTROLS:
            widget = getattr(self.ui, name)
            widget.enabled = view.can_display
            widget.toolTip = view.why_not or self._tips[name]

    def _typed(self) -> None:
        text = str(self.ui.levelsEdit.text)
        if self._shown is None or text != self._shown[0]:
            self._dispatch(LevelsTyped(text))
