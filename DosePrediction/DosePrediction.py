"""The DosePrediction module of 3D Slicer."""

from __future__ import annotations

import sys
from pathlib import Path

import qt
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget

try:
    import DosePredictionLib  # noqa: F401 - the built or installed extension has it on the path
except ImportError:
    # A plain checkout given as an additional module path: the library lies beside this folder.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


class DosePrediction(ScriptedLoadableModule):
    """Metadata of the module."""

    def __init__(self, parent: object) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Dose Prediction")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Radiotherapy")]
        self.parent.dependencies = []
        self.parent.contributors = ["The DosePrediction contributors"]
        self.parent.helpText = _(
            "Predicts the dose distribution that a good plan would reach, from a CT and contours. "
            "Research software, not a medical device; not for clinical use."
        )
        self.parent.acknowledgementText = _(
            "The head-and-neck model is trained on OpenKBP (Babier et al. 2021, "
            "doi 10.1002/mp.14845)."
        )


class DosePredictionWidget(ScriptedLoadableModuleWidget):
    """Says how to use the library from Slicer; the panel for Apply is not there yet."""

    def setup(self) -> None:
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        text = qt.QLabel(
            _(
                "Predict from the Python console:\n\n"
                "from DosePredictionLib import predict, read_case\n"
                'prediction = predict(read_case("path/to/case"))\n\n'
                "or from a terminal:\n\n"
                "PythonSlicer -m DosePredictionLib predict CASE --output DIR --report\n\n"
                "Research only; not for clinical use."
            )
        )
        text.wordWrap = True
        text.textInteractionFlags = qt.Qt.TextSelectableByMouse
        self.layout.addWidget(text)
        self.layout.addStretch(1)
