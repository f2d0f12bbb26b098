"""File dialogs and the wait cursor of Slicer's window."""

from __future__ import annotations

from contextlib import AbstractContextManager

import qt
import slicer

from DosePredictionLib.scene.tables import UNNAMED_SERIES

from .flow.state import ExportKind
from .i18n import _

__all__ = ["QtDialogs"]


class QtDialogs:
    """See `executor.context.Dialogs`."""

    def path_for(self, kind: ExportKind) -> str:
        """Where to write; empty when the person does not want to."""
        window = slicer.util.mainWindow()
        if kind == "tables":
            title = _("Folder for the tables")
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

    def open_file(self, path: str) -> None:
        """Open a file with the system's program."""
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(path))

    def arrange_charts(self) -> None:
        """Put the legends of the plots beside the curves, one entry a structure.

        The chart node of a scene knows nothing of where a legend lies: VTK's chart does. Views take
        up what is shown within some turns of the event loop; a new layout makes its views then.
        """
        for milliseconds in (0, 300):
            qt.QTimer.singleShot(milliseconds, _legends_beside)

    def busy(self) -> AbstractContextManager[None]:
        """The wait cursor."""
        cursor: AbstractContextManager[None] = slicer.util.WaitCursor()
        return cursor


def _legends_beside() -> None:
    manager = slicer.app.layoutManager()
    for number in range(manager.plotViewCount if manager is not None else 0):
        view = manager.plotWidget(number).plotView()
        chart = view.chart()
        chart.GetLegend().SetInline(False)
        for index in range(chart.GetNumberOfPlots()):
            plot = chart.GetPlot(index)
            label = str(plot.GetLabel())
            # Dashed and dotted curves have the color of the solid one, which is named.
            plot.SetLegendVisibility(not label.endswith(UNNAMED_SERIES))
        chart.GetLegend().Update()
        chart.RecalculateBounds()
        view.renderWindow().Render()
