"""The plan: whether beams could give the shown dose, and a plan that does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt

from ..connectors import WheelGuard, draw_progress, fill_combo, guard_wheel, later
from ..flow.events import DeliverablePressed, Event, ExportPressed
from ..flow.plan_messages import (
    InstallPlannerPressed,
    MakePlanPressed,
    PlanCancelPressed,
    PrioritySet,
)
from ..flow.state import PanelState
from ..i18n import _
from ..making_view import MakingView, WishRow, making_view, priority_name
from ..plan_view import PlanView, plan_view
from ..table_widget import STATUS_COLORS, fit_columns, fit_height, show_table

__all__ = ["PlanSection"]

_HIGHEST_PRIORITY = 4
_SLIDER_WIDTH = 60
_PADDING = 6  # above and below the two lines of a goal


class PlanSection:
    """The combo box is bound to the parameters; the rest is drawn."""

    def __init__(self, ui: Any, dispatch: Callable[[Event], None]) -> None:
        self.ui, self._dispatch = ui, dispatch
        self._shown: PlanView | None = None
        self._made: MakingView | None = None
        events = {
            "deliverableButton": DeliverablePressed(),
            "makePlanButton": MakePlanPressed(),
            "planCancelButton": PlanCancelPressed(),
            "installPlannerButton": InstallPlannerPressed(),
            "savePlanButton": ExportPressed("plan"),
        }
        for name, event in events.items():
            getattr(ui, name).connect("clicked()", self._telling(event))
        self._wheel, self._sliders = guard_wheel(ui.planBeamsSelector), WheelGuard()
        table = ui.planGoalsTable
        font = table.font
        font.setPointSizeF(font.pointSizeF() - 1)  # goals at 330 px
        table.font = font
        table.verticalHeader().hide()
        two_lines = 2 * qt.QFontMetrics(font).lineSpacing() + _PADDING
        table.verticalHeader().setDefaultSectionSize(two_lines)
        table.setTextElideMode(qt.Qt.ElideMiddle)

    def draw(self, state: PanelState) -> None:
        """Choices of beams, the buttons, the answer, and the plan."""
        view, before = plan_view(state), self._shown
        if view != before:
            self._shown = view
            self._draw_question(view, before)
        made, earlier = making_view(state), self._made
        if made != earlier:
            self._made = made
            self._draw_making(made, earlier)

    def _draw_question(self, view: PlanView, before: PlanView | None) -> None:
        ui = self.ui
        if before is None or (view.items, view.chosen) != (before.items, before.chosen):
            fill_combo(ui.planBeamsSelector, dict(view.items), view.chosen)
        ui.deliverableButton.enabled, ui.deliverableButton.toolTip = view.can_check, view.tip
        ui.deliverableLabel.text = view.answer
        ui.deliverableLabel.visible = bool(view.answer)

    def _draw_making(self, view: MakingView, before: MakingView | None) -> None:
        ui = self.ui
        ui.makePlanButton.enabled, ui.makePlanButton.toolTip = view.can_make, view.tip
        ui.installPlannerButton.visible = ui.plannerLabel.visible = view.is_absent
        ui.installPlannerButton.enabled = view.share is None
        ui.planSummaryLabel.text = view.summary
        ui.planSummaryLabel.visible = bool(view.summary)
        ui.savePlanButton.visible = bool(view.summary)
        ui.savePlanButton.enabled = view.can_save
        draw_progress(ui, "plan", view)
        if before is None or view.picture != before.picture:
            self._draw_picture(view.picture)
        if before is None or view.limits != before.limits:
            ui.planLimitsTable.visible = bool(view.limits.rows)
            show_table(ui.planLimitsTable, view.limits)
            fit_columns(ui.planLimitsTable)
            fit_height(ui.planLimitsTable, most=200)
        if before is None or view.wishes != before.wishes:
            self._draw_wishes(view.wishes, before)

    def _draw_picture(self, path: str) -> None:
        label = self.ui.planPictureLabel
        label.visible = bool(path) and Path(path).is_file()
        if label.visible:
            picture = qt.QPixmap(path)
            width = max(300, self.ui.planSection.width - 24)
            label.setPixmap(picture.scaledToWidth(width, qt.Qt.SmoothTransformation))

    def _draw_wishes(self, rows: tuple[WishRow, ...], before: MakingView | None) -> None:
        """Sliders stay where only values are others: one may just be moved."""
        table = self.ui.planGoalsTable
        table.visible = self.ui.planGoalsLabel.visible = bool(rows)
        known = before.wishes if before is not None else ()
        if [row.goal for row in rows] != [row.goal for row in known]:
            self._make_rows(rows)
        for number, row in enumerate(rows):
            for column, cell in ((1, row.predicted), (2, row.replanned)):
                item = qt.QTableWidgetItem(cell.text)
                item.setToolTip(cell.tool_tip or cell.text)
                if cell.status in STATUS_COLORS:
                    item.setForeground(qt.QBrush(qt.QColor(STATUS_COLORS[cell.status])))
                table.setItem(number, column, item)
            slider = table.cellWidget(number, 3)
            slider.toolTip = _("Priority: {name}").format(name=priority_name(row.priority))
            if slider.value != row.priority:
                blocked = slider.blockSignals(True)
                slider.value = row.priority
                slider.blockSignals(blocked)
        fit_height(table)

    def _make_rows(self, rows: tuple[WishRow, ...]) -> None:
        table = self.ui.planGoalsTable
        table.setRowCount(0)
        table.setColumnCount(4)
        table.setHorizontalHeaderLabels([_("Goal"), _("Predicted"), _("Replanned"), _("Priority")])
        header = table.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(3, qt.QHeaderView.Fixed)
        table.setColumnWidth(3, _SLIDER_WIDTH)
        table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            item = qt.QTableWidgetItem(row.label)
            item.setToolTip(row.label.replace("\n", " "))
            table.setItem(number, 0, item)
            table.setCellWidget(number, 3, self._slider(row))

    def _slider(self, row: WishRow) -> Any:
        slider = qt.QSlider(qt.Qt.Horizontal)
        slider.minimum, slider.maximum = 0, _HIGHEST_PRIORITY
        slider.pageStep, slider.minimumWidth = 1, 48
        slider.value = row.priority
        self._sliders.guard([slider])
        goal = row.goal

        def moved(value: int) -> None:
            # In a turn of its own: drawing looks at this very slider.
            later(lambda: self._dispatch(PrioritySet(goal, value)))

        slider.connect("valueChanged(int)", moved)
        return slider

    def _telling(self, event: Event) -> Callable[[], None]:
        def state() -> None:
            self._dispatch(event)

        return state
