"""The DVH charts of the window: legends beside the curves, and the curve under the mouse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import slicer
from vtk.util.numpy_support import vtk_to_numpy

__all__ = ["Charts"]

_LEFT, _BOTTOM = 0, 1  # as vtkAxis counts
_NEAR_PERCENT = 4.0  # of the volume between the mouse and a curve


class Charts:
    """All plot views of the window. A chart node knows nothing of either: VTK's chart does.

    Args:
        hovered: called with the name of the structure whose curve is under the mouse, or "".
    """

    def __init__(self, hovered: Callable[[str], None]) -> None:
        self._hovered, self._name = hovered, ""
        self._watched: list[Any] = []

    def arrange(self) -> None:
        """Put the legends beside the curves, one entry a structure."""
        manager = slicer.app.layoutManager()
        for number in range(manager.plotViewCount if manager is not None else 0):
            view = manager.plotWidget(number).plotView()
            self._watch(view)
            chart = view.chart()
            chart.GetLegend().SetInline(False)
            for plot in _plots(chart):
                # Dashed and dotted curves have the color of the solid one, which is named.
                plot.SetLegendVisibility(bool(_structure_of(plot)))
            chart.GetLegend().Update()
            chart.RecalculateBounds()
            view.renderWindow().Render()

    def _watch(self, view: Any) -> None:
        interactor = view.renderWindow().GetInteractor()
        if interactor is None or interactor in self._watched:
            return
        self._watched.append(interactor)

        def moved(caller: Any, event: str) -> None:
            place = caller.GetEventPosition() if event == "MouseMoveEvent" else None
            name = "" if place is None else curve_at(view.chart(), place)
            if name != self._name:
                self._name = name
                self._hovered(name)

        for event in ("MouseMoveEvent", "LeaveEvent"):
            interactor.AddObserver(event, moved)


def curve_at(chart: Any, place: tuple[int, int]) -> str:
    """Name of the solid curve nearest to a place in pixels; "" where none is near."""
    dose_gy = _value(chart.GetAxis(_BOTTOM), place[0], 0)
    percent = _value(chart.GetAxis(_LEFT), place[1], 1)
    nearest, name = _NEAR_PERCENT, ""
    for plot in _plots(chart):
        table, label = plot.GetInput(), _structure_of(plot)
        if table is None or not label:
            continue
        columns = [table.GetColumnByName(each) for each in ("Dose", "Volume")]
        if None in columns:
            continue
        dose, volume = map(vtk_to_numpy, columns)
        distance = abs(float(np.interp(dose_gy, dose, volume)) - percent)
        if distance < nearest:
            nearest, name = distance, label
    return name


def _value(axis: Any, pixel: float, along: int) -> float:
    """What an axis says at a pixel; `along`: 0 for x, 1 for y."""
    low, high = axis.GetPoint1()[along], axis.GetPoint2()[along]
    share = (pixel - low) / (high - low) if high != low else 0.0
    return float(axis.GetMinimum() + share * (axis.GetMaximum() - axis.GetMinimum()))


def _plots(chart: Any) -> list[Any]:
    return [chart.GetPlot(index) for index in range(chart.GetNumberOfPlots())]


def _structure_of(plot: Any) -> str:
    """The structure of a solid curve; "" for other curves and the cursor."""
    from DosePredictionLib.scene.tables import UNNAMED_SERIES

    label = str(plot.GetLabel() or "")
    return "" if label.endswith(UNNAMED_SERIES) else label
