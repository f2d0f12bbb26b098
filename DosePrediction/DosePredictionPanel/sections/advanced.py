"""Device and precision, what is kept, samples: bound to the parameters; devices are listed here."""

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
        self._samples = (ui.samplesSpinBox, ui.sampleSeedSpinBox)
        self._wheel = guard_wheel(
            ui.deviceSelector, ui.precisionSelector, ui.stripMarginSpinBox, *self._samples
        )

    def draw(self, state: PanelState) -> None:
        """Devices; samples, disabled with the reason for a model that draws none."""
        view = advanced_view(state)
        if view != self._shown:
            self._shown = view
            fill_combo(self.ui.deviceSelector, dict(view.devices), view.device)
            for widget in self._samples:
                widget.enabled = view.can_sample
                widget.toolTip = view.samples_tip
