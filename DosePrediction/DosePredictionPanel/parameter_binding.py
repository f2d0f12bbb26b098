"""The scene's parameter node: bound to the widgets, given to the store as plain values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from slicer.parameterNodeWrapper import FloatRange
from slicer.util import VTKObservationMixin

from .connectors import ComboDataConnector
from .flow.state import Choices
from .parameters import DosePredictionParameterNode, DoseUnit, Precision

__all__ = ["ParameterBinding"]

_NODES = {
    "ct": "ctVolume",
    "segmentation": "segmentation",
    "plan_dose": "planDose",
    "result_dose": "resultDose",
    "compared_dose": "comparedDose",
}
_VALUES = {
    "model": "modelName",
    "prescription_gy": "prescriptionGy",
    "beams": "beams",
    "wishes": "wishes",
    "show_beams": "showBeams",
    "plan_beams": "planBeams",
    "shown": "shown",
    "opacity": "opacity",
    "isodoses": "showIsodoses",
    "surfaces": "showSurfaces",
    "marks": "leaveMarks",
    "bands": "showBands",
    "live": "live",
    "legend": "showLegend",
    "goals": "goalTemplate",
    "device": "device",
    "strip_margin_mm": "stripMarginMm",
    "keep_strips": "keepStrips",
    "keep_coarse": "keepCoarse",
    "samples": "samples",
    "seed": "sampleSeed",
    "keep_warm": "keepWarm",
}
_ENUMS = {"unit": DoseUnit, "precision": Precision}


class ParameterBinding(VTKObservationMixin):
    """See `executor.context.ParameterStore`.

    Args:
        ui: all widgets of the panel by name.
        node: returns the scene's parameter node.
        changed: called with the choices when somebody else than `write` has changed them.

    Attributes:
        parameters: the scene's; None while there are none.
    """

    def __init__(
        self,
        ui: Any,
        node: Callable[[], DosePredictionParameterNode],
        changed: Callable[[Choices], None],
    ) -> None:
        VTKObservationMixin.__init__(self)
        self.parameters: DosePredictionParameterNode | None = None
        self._ui, self._node, self._changed = ui, node, changed
        self._gui_tags: tuple[Any, ...] = ()
        self._is_writing = False

    def take(self) -> Choices:
        """Bind the scene's parameters; what they are."""
        self.drop()
        parameters: Any = self._node()
        bound = {
            "modelName": ComboDataConnector(self._ui.modelSelector),
            "beams": ComboDataConnector(self._ui.beamsSelector),
            "planBeams": ComboDataConnector(self._ui.planBeamsSelector),
            "shown": ComboDataConnector(self._ui.shownSelector),
            "goalTemplate": ComboDataConnector(self._ui.goalsSelector),
            "device": ComboDataConnector(self._ui.deviceSelector),
        }
        self._gui_tags = (
            parameters.connectGui(self._ui),
            parameters.connectParametersToGui(bound),
        )
        self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self._modified)
        self.parameters = parameters
        return choices_of(parameters)

    def drop(self) -> None:
        """Let go of them."""
        parameters: Any = self.parameters
        if parameters is None:
            return
        for tag in self._gui_tags:
            parameters.disconnectGui(tag)
        self.removeObserver(parameters, vtk.vtkCommand.ModifiedEvent, self._modified)
        self.parameters = None

    def write(self, changes: dict[str, Any]) -> None:
        """Change some, all at once; the widgets follow."""
        parameters: Any = self.parameters
        if parameters is None:
            return
        self._is_writing = True
        try:
            with slicer.util.NodeModify(parameters):
                for name, value in changes.items():
                    _write(parameters, name, value)
        finally:
            self._is_writing = False

    def _modified(self, _caller: Any = None, _event: Any = None) -> None:
        if self._is_writing or self.parameters is None or slicer.mrmlScene.IsBatchProcessing():
            return  # a scene is being loaded: everything is taken up at its end
        self._changed(choices_of(self.parameters))


def choices_of(parameters: Any) -> Choices:
    """The parameters as plain values."""
    nodes = {name: getattr(parameters, own) for name, own in _NODES.items()}
    plain: dict[str, Any] = {
        **{name: node.GetID() if node is not None else "" for name, node in nodes.items()},
        **{name: getattr(parameters, own) for name, own in _VALUES.items()},
        **{name: getattr(parameters, name).value for name in _ENUMS},
    }
    return Choices(
        **plain,
        corrections=tuple(sorted(parameters.corrections.items())),
        range_low=parameters.doseRange.minimum,
        range_high=parameters.doseRange.maximum,
    )


def _write(parameters: Any, name: str, value: Any) -> None:
    if name in _NODES:
        node = slicer.mrmlScene.GetNodeByID(value) if value else None
        setattr(parameters, _NODES[name], node)
    elif name in _ENUMS:
        setattr(parameters, name, _ENUMS[name](value))
    elif name == "corrections":
        parameters.corrections = dict(value)
    elif name in ("range_low", "range_high"):
        old = parameters.doseRange
        low, high = (value, old.maximum) if name == "range_low" else (old.minimum, value)
        parameters.doseRange = FloatRange(min(low, high), max(low, high))
    else:
        setattr(parameters, _VALUES[name], value)
