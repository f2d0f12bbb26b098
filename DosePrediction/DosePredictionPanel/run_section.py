"""Apply, progress, and what there is to say about the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .apply_state import ButtonState
from .i18n import _
from .table_widget import copy_text

__all__ = ["RunSection"]

# Translucent, so that they suit light and dark themes alike.
_BACKGROUNDS = {
    "error": "rgba(214, 69, 65, 50)",
    "warning": "rgba(230, 160, 0, 50)",
    "info": "rgba(46, 134, 193, 40)",
}


class RunSection:
    """The button that starts and cancels, the progress bar, and one notice."""

    def __init__(self, ui: Any, on_apply: Callable[[], None]) -> None:
        self.ui = ui
        self._details = ""
        ui.applyButton.connect("clicked()", on_apply)
        ui.noticeDetailsButton.connect("clicked()", self._copy_details)
        font = ui.applyButton.font
        font.setBold(True)
        ui.applyButton.font = font
        self.hide_progress()
        self.hide_notice()

    def show_button(self, state: ButtonState) -> None:
        """Text, whether it can be pressed, and why not."""
        button = self.ui.applyButton
        button.text, button.enabled, button.toolTip = state.text, state.enabled, state.tool_tip

    def show_progress(self, share: float, stage: str) -> None:
        """Share done (below 0: unknown) and the stage in words."""
        bar = self.ui.progressBar
        bar.visible = self.ui.stageLabel.visible = True
        bar.maximum = 1000 if share >= 0 else 0
        bar.value = round(1000 * max(share, 0.0))
        self.ui.stageLabel.text = stage

    def hide_progress(self) -> None:
        """No run in progress."""
        self.ui.progressBar.visible = False
        self.ui.stageLabel.visible = False

    def show_notice(self, text: str, kind: str = "info", details: str = "") -> None:
        """One message above the button.

        Args:
            kind: `info`, `warning` or `error`.
            details: more to copy.
        """
        ui = self.ui
        self._details = details
        ui.noticeLabel.text = text
        ui.noticeFrame.setStyleSheet(
            f"#noticeFrame {{ background-color: {_BACKGROUNDS[kind]}; border-radius: 3px; }}"
        )
        ui.noticeDetailsButton.visible = bool(details)
        ui.noticeDetailsButton.text = _("Copy details")
        ui.noticeDetailsButton.toolTip = details[-2000:]
        ui.noticeFrame.visible = True

    def hide_notice(self) -> None:
        """Nothing to say."""
        self.ui.noticeFrame.visible = False

    def _copy_details(self) -> None:
        copy_text(self._details)
        self.ui.noticeDetailsButton.text = _("Copied")
