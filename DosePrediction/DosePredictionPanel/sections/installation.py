"""What is missing, a button that installs it, and a report to copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..flow.events import CheckInstallationPressed, Event, InstallPressed
from ..flow.state import PanelState
from ..i18n import _
from ..table_widget import copy_text
from ..views import InstallationView, installation_view

__all__ = ["InstallationSection"]


class InstallationSection:
    """The installation as the person sees it."""

    def __init__(self, ui: Any, dispatch: Callable[[Event], None]) -> None:
        self.ui, self._dispatch = ui, dispatch
        self._shown: InstallationView | None = None
        ui.installButton.connect("clicked()", self._install)
        ui.checkInstallationButton.connect("clicked()", self._check)
        ui.copyReportButton.connect("clicked()", self._copy)
        font = ui.installationText.font
        font.setFamily("monospace")
        ui.installationText.font = font

    def draw(self, state: PanelState) -> None:
        """Title, text, button and report."""
        view, before = installation_view(state), self._shown
        if view == before:
            return
        self._shown = view
        ui = self.ui
        ui.installationSection.text = view.title
        ui.installationLabel.text = view.text
        ui.installButton.visible = view.is_missing
        if view.is_missing and (before is None or not before.is_missing):
            ui.installationSection.collapsed = False
        if before is None or view.report != before.report:
            ui.installationText.setPlainText(view.report)
            ui.copyReportButton.text = _("Copy report")

    def _install(self) -> None:
        self._dispatch(InstallPressed())

    def _check(self) -> None:
        self._dispatch(CheckInstallationPressed())

    def _copy(self) -> None:
        copy_text(self.ui.installationText.plainText)
        self.ui.copyReportButton.text = _("Copied")
