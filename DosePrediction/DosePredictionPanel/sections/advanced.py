"""Device and precision, what is kept: bound to the parameters, but for the devices there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..connectors import fill_combo, guard_wheel
from ..flow.events import Event
from ..flow.state import PanelState
from ..views import AdvancedView, advanced_view

__all__ = ["AdvancedSection"]


class AdvancedSection:
    """The devices to choose from."""

    def __init__(self, ui: Any, _dispatch: Callable[[Event], None]) -> None:
        self.ui = ui
        self._shown: AdvancedView | None = None
        self._wheel = guard_wheel(ui.deviceSelector, ui.precisionSelector, ui.stripMarginSpinBox)

    def draw(self, state: PanelState) -> None:
        """Devices."""
        view = advanced_view(state)
        if view != self._shown:
            self._shown = view
            fill_combo(self.ui.deviceSelector, dict(view.devices), view.device)
