"""The result section's behavior: tables, display, goals, export, removal."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.parameterNodeWrapper import FloatRange

from .i18n import _
from .parameters import DosePredictionParameterNode, Shown
from .result_section import GOALS_FROM_FILE, ResultActions, ResultSection
from .result_view import goal_titles, result_summary, result_tables
from .run_section import RunSection
from .steps import StepRunner

if TYPE_CHECKING:
    from DosePredictionLib.scene import DisplaySettings, SceneResult

__all__ = ["ResultController"]

_HIGHEST = 150.0  # limit of the range's widget, Gy or %


class ResultController:
    """Shows the result that the parameters name, and does what its buttons say.

    Args:
        ui: the widgets by name.
        logic: a `DosePredictionLogic`.
        run: where messages go.
        on_removed: called when the person has removed the result.

    Attributes:
        parameters: the scene's; None while there is none.
        before: the result that the shown one replaced; None: no change to show.
    """

    def __init__(
        self, ui: Any, logic: Any, run: RunSection, on_removed: Callable[[], None]
    ) -> None:
        self.parameters: DosePredictionParameterNode | None = None
        self.before: SceneResult | None = None
        self._arrival: StepRunner | None = None
        self._logic, self._run, self._on_removed = logic, run, on_removed
        actions = ResultActions(
            report=self._export_report,
            dose=self._export_dose,
            tables=self._export_tables,
            remove=self._remove,
            layout=self.show_layout,
        )
        self._section = ResultSection(ui, actions)
        self._section.fill_goals(goal_titles(), "")

    @property
    def dose(self) -> Any:
        """The dose node shown; None without a result."""
        return self.parameters.resultDose if self.parameters is not None else None

    @property
    def result(self) -> SceneResult | None:
        """Its numbers and nodes; None for one that came with a scene."""
        result: SceneResult | None = self._logic.result(self.dose) if self.dose else None
        return result

    def arrived(self, is_first: bool) -> None:
        """A prediction is complete: show it; the first one with a range and a layout of its own.

        What takes the views a while comes one by one, so that the window stays usable.
        """
        self.stop_arrival()
        steps = self._arrival_steps(is_first)
        self._arrival = StepRunner(
            steps, lambda step: None, lambda result: self.stop_arrival(), self._not_shown
        ).start()

    def _arrival_steps(self, is_first: bool) -> Generator[Any, None, None]:
        from DosePredictionLib.scene import display_steps

        self.show()
        yield _("showing the tables")
        if is_first:
            self.show_layout()
            yield _("showing the layout")
        p, result = self.parameters, self.result
        if p is None or result is None:
            return  # removed meanwhile
        if is_first:
            self._default_range()
        shown = None
        while shown != self._display_settings(p):  # which may be changed meanwhile
            shown = self._display_settings(p)
            yield from display_steps(result, shown)
        if self.before is not None:
            self._section.choose_tab("change")

    @property
    def is_arriving(self) -> bool:
        """Whether a new result is being shown, step by step."""
        return self._arrival is not None

    def stop_arrival(self) -> None:
        """The result goes, or another comes: show no more of it."""
        if self._arrival is not None:
            self._arrival.stop()
            self._arrival = None

    def show(self) -> None:
        """Tables and summary; an empty section without a result."""
        result = self.result
        if result is not None:
            self._section.show(result_summary(result), result_tables(result, self.before))
        elif self.dose is not None:
            text = _("{name} came with the scene. Predict again for tables and reports.")
            self._section.show(text.format(name=self.dose.GetName()), {})
        else:
            self._section.clear()

    def display(self, unit_changed: bool = False) -> None:
        """Overlay, isodoses and legend as chosen."""
        from DosePredictionLib.errors import CaseError
        from DosePredictionLib.scene import apply_display

        p, result = self.parameters, self.result
        if p is None or result is None:
            return
        if unit_changed:
            self._default_range()  # the same limits would mean other doses
        if self.is_arriving:
            return  # its steps go on until what is chosen is shown
        try:
            apply_display(result, self._display_settings(p))
        except CaseError as error:
            self._not_shown(error)

    def _not_shown(self, error: Exception) -> None:
        """There is no plan, or nothing before to compare with: the prediction is shown instead."""
        self.stop_arrival()
        self._run.show_notice(str(error), "info" if isinstance(error, ValueError) else "error")
        if self.parameters is not None:
            self.parameters.shown = Shown.PREDICTION

    def _display_settings(self, p: DosePredictionParameterNode) -> DisplaySettings:
        from DosePredictionLib.scene import DisplaySettings

        return DisplaySettings(
            layer=p.shown.value,
            opacity=p.opacity,
            low=p.doseRange.minimum,
            high=p.doseRange.maximum,
            unit=p.unit.value,
            isodoses=p.showIsodoses,
            legend=p.showLegend,
        )

    def show_layout(self) -> None:
        """Slices and DVH chart together."""
        from DosePredictionLib.scene import show_result_layout

        if self.result is not None:
            show_result_layout(self.result)

    def goals_chosen(self, template: str) -> None:
        """Another goal template: the tables follow at once, nothing is predicted."""
        assert self.parameters is not None
        if template == GOALS_FROM_FILE:
            title, kinds = _("Goal template"), _("Goal templates (*.json)")
            path = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, "", kinds)
            self._section.fill_goals(goal_titles(), path)
            self.parameters.goalTemplate = path
            return
        if self.result is None:
            return
        with slicer.util.tryWithErrorDisplay(_("The goals cannot be evaluated.")):
            self._logic.setGoals(self.dose, template)
            self.show()
            self._section.choose_tab("goals")

    def _default_range(self) -> None:
        from DosePredictionLib.scene import default_range

        assert self.parameters is not None
        assert self.result is not None
        low, high = default_range(self.result, self.parameters.unit.value)
        self.parameters.doseRange = FloatRange(max(0.0, low), min(_HIGHEST, high))

    def _export_dose(self) -> None:
        kinds = _("NIfTI (*.nii.gz);;NRRD (*.nrrd);;DICOM RTDOSE (*.dcm)")
        path = self._ask_for_path(_("Write the dose"), "dose.nii.gz", kinds)
        if path is not None:
            with slicer.util.tryWithErrorDisplay(_("The dose cannot be written."), waitCursor=True):
                self._written(self._logic.exportDose(self.dose, path))
                self._tell_of_patient(path)

    def _tell_of_patient(self, path: Path) -> None:
        """An RTDOSE without a patient looks like any other: say so."""
        from DosePredictionLib.scene import dicom_origin

        result = self.result
        if path.suffix == ".dcm" and result is not None and dicom_origin(result) is None:
            text = _(
                "Written: {path}. The CT does not come from DICOM: its name stands for the "
                "patient, and a planning system will not take this dose for that patient's."
            )
            self._run.show_notice(text.format(path=path), "warning")

    def _export_report(self) -> None:
        path = self._ask_for_path(_("Write the report"), "report.html", _("HTML (*.html)"))
        if path is None:
            return
        self._run.show_progress(-1, _("writing the report"))

        def done(error: str) -> None:
            self._run.hide_progress()
            if error:
                self._run.show_notice(error, "error")
            else:
                self._written(path)
                qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))

        self._logic.exportReportAsync(self.dose, path, done)

    def _export_tables(self) -> None:
        title = _("Folder for the tables")
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title)
        if folder:
            with slicer.util.tryWithErrorDisplay(_("The tables cannot be written.")):
                self._logic.exportTables(self.dose, folder)
                self._written(Path(folder))

    def _remove(self) -> None:
        dose = self.dose
        if dose is None:
            return
        self.stop_arrival()
        with slicer.util.tryWithErrorDisplay(_("The result cannot be removed.")):
            assert self.parameters is not None
            self.parameters.resultDose = None
            self._logic.removeResult(dose)
            self.before = None
            self.show()
            self._on_removed()

    def _ask_for_path(self, title: str, name: str, kinds: str) -> Path | None:
        path = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, name, kinds)
        return Path(path) if path else None

    def _written(self, path: Path) -> None:
        self._run.show_notice(_("Written: {path}").format(path=path), "info")
