"""3D Slicer's scene: nodes become a `Case`, a `Prediction` becomes nodes. Knows no Qt.

The only package that imports `slicer` or `vtk`. Whatever takes long is a generator of steps, one
node or one segment per `next()`, so that a window can draw in between; `finish` runs one to its
end.

| file | holds |
|---|---|
| `steps.py` | steps of long work, and running them to the end |
| `reading.py` | nodes → `SceneCase`; what is wrong with the inputs |
| `results.py` | a prediction → nodes, in one batch; updating and removing them |
| `records.py`, `reopened.py` | what a saved scene keeps of a result; results that came with one |
| `comparing.py` | two results of one CT against each other |
| `beam_marks.py` | where beams come from, over the axial slices |
| `bands.py` | the bands of the DVHs as series of the chart |
| `found_contours.py` | organs that a model found, beside the user's; what a contour costs |
| `totalsegmentator.py` | organs out of a segmentation of TotalSegmentator |
| `places.py`, `probing.py` | worst voxels, marks; the dose under the mouse, the chart's cursor |
| `structures_shown.py` | structures on and off in slices, 3D and DVH |
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
from .beam_marks import clear_beam_marks, mark_beams
from .changes import Fingerprint, fingerprint, what_changed
from .colors import DEFAULT_LEVELS, IsodoseLevels
from .comparing import compare_steps, compared_run, end_comparison, share_a_grid
from .dicom_export import dicom_origin, placed_origin, write_result_rtdose
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
from .found_contours import (
    ContourCost,
    FoundOrgans,
    cost_steps,
    found_by,
    found_organs,
    found_steps,
)
from .places import Place, clear_marks, mark_place, target_center, worst_place
from .probing import Probed, move_cursor, prepare_cursor, probe
from .reading import (
    SceneCase,
    SegmentInfo,
    case_from_nodes,
    case_steps,
    input_findings,
    list_segments,
)
from .reopened import prediction_of_result, require_same_inputs, restored_results
from .results import (
    Keeping,
    SceneResult,
    add_result,
    remove_result,
    result_steps,
    set_goals,
)
from .roles import is_further_output
from .runs import LATEST, inputs_of, plan_of, result_nodes, result_runs, sweep_orphans
from .steps import Step, finish
from .structures_shown import highlight_structure, show_structures
from .totalsegmentator import organs_of_totalsegmentator, source_of_organs
from .views import (
    jump_to,
    jump_to_world,
    make_room_for_legend,
    show_chart,
    show_result_layout,
)

Measures = Evaluation
"""The numbers of a result, by the name that they had."""

__all__ = [
    "DEFAULT_LEVELS",
    "LATEST",
    "ContourCost",
    "DisplaySettings",
    "Evaluation",
    "Fingerprint",
    "FoundOrgans",
    "IsodoseLevels",
    "Keeping",
    "Layer",
    "Measures",
    "Place",
    "Probed",
    "SceneCase",
    "SceneResult",
    "SegmentInfo",
    "Step",
    "Unit",
    "add_result",
    "apply_display",
    "case_from_nodes",
    "case_steps",
    "clear_beam_marks",
    "clear_marks",
    "compare_steps",
    "compared_run",
    "cost_steps",
    "default_range",
    "dicom_origin",
    "display_steps",
    "end_comparison",
    "evaluate_nodes",
    "fingerprint",
    "finish",
    "found_by",
    "found_organs",
    "found_steps",
    "highlight_structure",
    "input_findings",
    "inputs_of",
    "is_further_output",
    "jump_to",
    "jump_to_world",
    "list_segments",
    "make_room_for_legend",
    "mark_beams",
    "mark_place",
    "move_cursor",
    "organs_of_totalsegmentator",
    "placed_origin",
    "plan_of",
    "prediction_of_result",
    "prepare_cursor",
    "probe",
    "remove_result",
    "require_same_inputs",
    "restored_results",
    "result_nodes",
    "result_runs",
    "result_steps",
    "set_goals",
    "share_a_grid",
    "show_chart",
    "show_result_layout",
    "show_structures",
    "source_of_organs",
    "sweep_orphans",
    "target_center",
    "what_changed",
    "worst_place",
    "write_dose",
    "write_result_report",
    "write_result_rtdose",
    "write_tables",
]
