"""Apply, why it is disabled, progress, and what there is to say about the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..flow.events import ApplyPressed, Event
from ..flow.state import PanelState
from ..i18n import _
from ..table_widget import copy_text
from ..views import RunView, run_view

__all__ = ["RunSection"]

# Translucent, so that they suit light and dark themes alike.
_BACKGROUNDS = {
    "error": "rgba(214, 69, 65, 50)",
    "warning": "rgba(230, 160, 0, 50)",
    "info": "rgba(46, 134, 193, 40)",
}


class RunSection:
    """The button that starts and cancels, the progress bar, and the notices above it."""

    def __init__(self, ui: Any, dispatch: Callable[[Event], None]) -> None:
        self.ui, self._dispatch = ui, dispatch
        self._shown: RunView | None = None
        ui.applyButton.connect("clicked()", self._apply)
        ui.noticeDetailsButton.connect("clicked()", self._copy_details)
        font = ui.applyButton.font
        font.setBold(True)
        ui.applyButton.font = font

    def draw(self, state: PanelState) -> None:
        """Button, reason, progress and notices."""
        view, before = run_view(state), self._shown
        if view == before:
            return
        self._shown = view
        ui, button = self.ui, self.ui.applyButton
        state_of = view.button
        button.text, button.enabled, button.toolTip = (
            state_of.text,
            state_of.enabled,
            state_of.tool_tip,
        )
        ui.reasonLabel.text = view.reason
        ui.reasonLabel.visible = bool(view.reason)
        self._draw_progress(view)
        if before is None or view.notices != before.notices:
            self._draw_notices(view)

    def _draw_progress(self, view: RunView) -> None:
        bar, label = self.ui.progressBar, self.ui.stageLabel
        bar.visible = label.visible = view.share is not None
        if view.share is not None:
            bar.maximum = 1000 if view.share >= 0 else 0
            bar.value = round(1000 * max(view.share, 0.0))
            label.text = view.stage

    def _draw_notices(self, view: RunView) -> None:
        """All in one frame, in the color of the first, which is the worst."""
        ui = self.ui
        ui.noticeFrame.visible = bool(view.notices)
        if not view.notices:
            return
        ui.noticeLabel.text = "\n".join(notice.text for notice in view.notices)
        color = _BACKGROUNDS[view.notices[0].kind]
        ui.noticeFrame.setStyleSheet(
            f"#noticeFrame {{ background-color: {color}; border-radius: 3px; }}"
        )
        details = self._details()
        ui.noticeDetailsButton.visible = bool(details)
        ui.noticeDetailsButton.text = _("Copy details")
        ui.noticeDetailsButton.toolTip = details[-2000:]

    def _details(self) -> str:
        notices = self._shown.notices if self._shown is not None else ()
        return "\n".join(notice.details for notice in notices if notice.details)

    def _apply(self) -> None:
        self._dispatch(ApplyPressed(time.monotonic()))

    def _copy_details(self) -> None:
        copy_text(self._details())
        self.ui.noticeDetailsButton.text = _("Copied")
