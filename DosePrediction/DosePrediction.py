"""The DosePrediction module of 3D Slicer: metadata, panel, logic and self test.

The panel's sections and everything that needs Qt lie in `DosePredictionPanel`, nodes in
`DosePredictionLib.scene`, the process that predicts in `DosePredictionLib.worker`. Nothing of the
library is imported before it is needed: loading the module costs Slicer's start-up next to nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

try:
    import DosePredictionLib  # noqa: F401 - the built or installed extension has it on the path
except ImportError:
    # A plain checkout given as an additional module path: the library lies beside this folder.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
