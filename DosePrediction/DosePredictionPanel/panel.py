"""The panel: between the person's choices, the sections and the logic. It computes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from .apply_state import Situation, apply_button
from .checks_section import ChecksSection
from .connectors import ComboDataConnector, WheelGuard
from .corrections import Corrections
from .finding_rows import blocking_messages
from .freshness import Freshness, RunSettings
from .i18n import _
from .inputs_section import InputsSection
from .installation_section import InstallationSection
from .panel_snapshot import CHECKING, DISPLAY, INPUTS, MATCHING, ParametersSnapshot, changed_fields
from .parameters import DosePredictionParameterNode, DoseUnit, Shown
from .prepared import PreparedInputs, prepare_steps
from .result_section import GOALS_FROM_FILE, ResultActions, ResultSection
from .run_section import RunSection
from .services import services
from .steps import StepRunner
from .structures_section import StructuresSection

if TYPE_CHECKING:
    from DosePredictionLib.findings import Finding
    from DosePredictionLib.mapping import StructureMapping
    from DosePredictionLib.protocol import StructureProtocol
    from DosePredictionLib.scene import SceneResult

__all__ = ["Panel"]
