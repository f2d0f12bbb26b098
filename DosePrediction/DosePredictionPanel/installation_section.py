"""What is missing, a button that installs it, and a report to copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .i18n import _
from .table_widget import copy_text

__all__ = ["InstallationSection"]


class InstallationSection:
    """The installation as the person sees it.

    Args:
        on_install: installs what is missing.
        on_check: looks again, and calls `show`.
    """

    def __init__(
        self, ui: Any, on_install: Callable[[], None], on_check: Callable[[], None]
    ) -> None:
        self.ui = ui
        ui.installButton.connect("clicked()", on_install)
        ui.checkInstallationButton.connect("clicked()", on_check)
        ui.copyReportButton.connect("clicked()", self._copy)
        font = ui.installationText.font
        font.setFamily("monospace")
        ui.installationText.font = font

    def show(self, missing: str, report: str) -> None:
        """What is missing, in words (empty: nothing), and the report."""
        ui = self.ui
        ui.installationText.setPlainText(report)
        ui.installButton.visible = bool(missing)
        if missing:
            ui.installationSection.text = _("Installation – something is missing")
            ui.installationSection.collapsed = False
            text = _("Missing: {packages}. One press installs it into Slicer's Python.")
            ui.installationLabel.text = text.format(packages=missing)
        else:
            ui.installationSection.text = _("Installation – complete")
            ui.installationLabel.text = _("Everything that a prediction needs is there.")

    def show_report(self, report: str) -> None:
        """The report, once it has been written."""
        self.ui.installationText.setPlainText(report)
        self.ui.copyReportButton.text = _("Copy report")

    def _copy(self) -> None:
        copy_text(self.ui.installationText.plainText)
        self.ui.copyReportButton.text = _("Copied")
