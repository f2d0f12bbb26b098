"""File dialogs and the wait cursor of Slicer's window."""

from __future__ import annotations

from contextlib import AbstractContextManager

import qt
import slicer

from .charts import Charts
from .connectors import later
from .flow.state import ExportKind
from .i18n import _

__all__ = ["QtDialogs"]


class QtDialogs:
    """See `executor.context.Dialogs`.

    Args:
        charts: of the window.
    """

    def __init__(self, charts: Charts) -> None:
        self._charts = charts

    def path_for(self, kind: ExportKind) -> str:
        """Where to write; empty when the person does not want to."""
        window = slicer.util.mainWindow()
        if kind in ("tables", "plan"):
            title = _("Folder for the tables") if kind == "tables" else _("Folder for the plan")
            return str(qt.QFileDialog.getExistingDirectory(window, title) or "")
        title, name, kinds = {
            "report": (_("Write the report"), "report.html", _("HTML (*.html)")),
            "dose": (
                _("Write the dose"),
                "dose.nii.gz",
                _("NIfTI (*.nii.gz);;NRRD (*.nrrd);;DICOM RTDOSE (*.dcm)"),
            ),
        }[kind]
        return str(qt.QFileDialog.getSaveFileName(window, title, name, kinds) or "")

    def goals_file(self) -> str:
        """A file of goals; empty when the person does not want one."""
        title, kinds = _("Goal template"), _("Goal templates (*.json)")
        window = slicer.util.mainWindow()
        return str(qt.QFileDialog.getOpenFileName(window, title, "", kinds) or "")

    def plan_file(self) -> str:
        """An RTPLAN; empty when the person does not want one."""
        title, kinds = _("Beams of a plan"), _("RTPLAN (*.dcm);;All files (*)")
        window = slicer.util.mainWindow()
        return str(qt.QFileDialog.getOpenFileName(window, title, "", kinds) or "")

    def open_file(self, path: str) -> None:
        """Open a file with the system's program."""
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(path))

    def arrange_charts(self) -> None:
        """Put the legends of the plots beside the curves, one entry a structure.

        Views take up what is shown within some turns of the event loop; a new layout makes its
        views then.
        """
        for milliseconds in (0, 300):
            later(self._charts.arrange, milliseconds)

    def busy(self) -> AbstractContextManager[None]:
        """The wait cursor."""
        cursor: AbstractContextManager[None] = slicer.util.WaitCursor()
        return cursor
