"""3D Slicer's scene: nodes become a `Case`, a `Prediction` becomes nodes. Knows no Qt.

The only package that imports `slicer` or `vtk`. Whatever takes long is a generator of steps, one
node or one segment per `next()`, so that a window can draw in between; `finish` runs one to its
end.

| file | holds |
|---|---|
| `steps.py` | steps of long work, and running them to the end |
| `reading.py` | nodes → `SceneCase`; what is wrong with the inputs |
| `results.py` | a prediction → nodes, in one batch; updating and removing them |
| `display.py` | overlay, isodose lines, legend |
| `views.py` | layouts, and centering the slices on a place |
| `changes.py` | whether an input changed since a run |
| `export.py` | dose, tables and report as files |
| `dicom_export.py` | the dose as RTDOSE |

>>> from DosePredictionLib import scene  # doctest: +SKIP
>>> source = scene.case_from_nodes(ct, segmentation)  # doctest: +SKIP
>>> result = scene.finish(scene.result_steps(prediction, source))  # doctest: +SKIP
>>> scene.apply_display(result, scene.DisplaySettings(isodoses=True))  # doctest: +SKIP
"""

from ..evaluation.result import Evaluation
from .changes import Fingerprint, fingerprint, what_changed
from .dicom_export import dicom_origin, write_result_rtdose
from .display import (
    DisplaySettings,
    Layer,
    Unit,
    apply_display,
    default_range,
    display_steps,
)
from .evaluation import evaluate_nodes
from .export import write_dose, write_result_report, write_tables
from .reading import (
    SceneCase,
    SegmentInfo,
    case_from_nodes,
    case_steps,
    input_findings,
    list_segments,
)
from .results import SceneResult, add_result, remove_result, result_steps, set_goals
from .runs import result_nodes, result_runs
from .steps import Step, finish
from .views import jump_to, show_result_layout

Measures = Evaluation
"""The numbers of a result, by the name that they had."""

__all__ = [
    "DisplaySettings",
    "Evaluation",
    "Fingerprint",
    "Layer",
    "Measures",
    "SceneCase",
    "SceneResult",
    "SegmentInfo",
    "Step",
    "Unit",
    "add_result",
    "apply_display",
    "case_from_nodes",
    "case_steps",
    "default_range",
    "dicom_origin",
    "display_steps",
    "evaluate_nodes",
    "fingerprint",
    "finish",
    "input_findings",
    "jump_to",
    "list_segments",
    "remove_result",
    "result_nodes",
    "result_runs",
    "result_steps",
    "set_goals",
    "show_result_layout",
    "what_changed",
    "write_dose",
    "write_result_report",
    "write_result_rtdose",
    "write_tables",
]
