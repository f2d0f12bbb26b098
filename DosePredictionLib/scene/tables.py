"""DVHs, goals and scores as tables, and the DVH chart, as SlicerRT's users know them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import numpy_to_vtk

from ..evaluation.dvh import Dvh
from ..evaluation.goal_probability import probability_words
from ..evaluation.plan_review import VERDICTS
from ..evaluation.result import Evaluation, GoalResults
from ..report.wording import endpoint_label, number, reviewed_label, signed, status_words
from .reading import SegmentInfo
from .runs import Draft

__all__ = [
    "UNNAMED_SERIES",
    "change_drafts",
    "curve_drafts",
    "goal_draft",
    "other_series_drafts",
    "review_draft",
    "score_draft",
    "set_table",
]

UNNAMED_SERIES = (" (plan)", " (B)", " band)", "dose here")
"""How the names of series end that need none in a legend."""

_PREFIX = "DoseVolumeHistogram."
_STEP_GY = 0.1  # between the rows of a curve; values are exact there
_LEGEND_ROOM = 1.35  # the dose axis goes on beyond the curves: the legend would cover the targets'
_POINTS = {"Title": 14, "AxisTitle": 12, "AxisLabel": 10, "Legend": 10}
_METRICS = {
    "Mean dose (GY)": "Dmean_gy",
    "Min dose (GY)": "Dmin_gy",
    "Max dose (GY)": "Dmax_gy",
    "V20 (%)": "V20Gy_percent",
    "V40 (%)": "V40Gy_percent",
    "D98% (GY)": "D98_gy",
    "D95% (GY)": "D95_gy",
    "D50% (GY)": "D50_gy",
    "D2% (GY)": "D2_gy",
    "D0.03cc (GY)": "D0.03cc_gy",
}
"""Columns of the metrics table, with SlicerRT's own for mean, lowest and highest dose first."""

_CHANGES = ("Dmean_gy", "D98_gy", "D95_gy", "D50_gy", "D2_gy", "D0.03cc_gy")
_SCORES = {
    "mae_body_gy": "Mean absolute error in the body",
    "bias_body_gy": "Mean difference in the body",
    "mae_above_5gy_gy": "Mean absolute error above 5 Gy",
    "dose_score_gy": "OpenKBP dose score",
    "dvh_score_gy": "OpenKBP DVH score",
}

Column = Sequence[Any] | NDArray


def curve_drafts(
    name: str,
    measures: Evaluation,
    segments: Mapping[str, SegmentInfo],
    segmentation: Any,
    plan: Any,
    below: Sequence[str] = (),
) -> list[Draft]:
    """Metrics table, a table per curve, a series per curve, and the chart.

    Args:
        segments: by the structure's key.
        plan: the plan's dose node, if there is a plan.
        below: roles of further series, which the chart draws first.
    """
    curves = [(key, "", curve) for key, curve in measures.predicted.items()]
    curves += [(key, "-plan", curve) for key, curve in (measures.planned or {}).items()]
    curves = [(key, which, c) for key, which, c in curves if c.curve is not None]
    shown = [key for key in measures.predicted if key != measures.external]
    plotted = [(key, which) for key, which, _ in curves if key in shown]
    series = [*below, *(f"series{which}:{key}" for key, which in plotted)]
    highest_gy = max((c.max_gy or 0.0 for key, _, c in curves if key in shown), default=0.0)

    endpoints = {
        label: [curve.endpoint(endpoint) for _, _, curve in curves]
        for label, endpoint in _METRICS.items()
    }

    def fill_metrics(node: Any, nodes: Mapping[str, Any]) -> None:
        doses = {"": nodes["dose"], "-plan": plan}
        columns: dict[str, Column] = {
            "Show": np.array([key in shown for key, _, _ in curves]),
            "Structure": [segments[key].name for key, _, _ in curves],
            "Volume name": [doses[which].GetName() for _, which, _ in curves],
            "Volume (cc)": [curve.volume_cc for _, _, curve in curves],
            **endpoints,
        }
        set_table(node, columns)

    drafts = [Draft("metrics", "vtkMRMLTableNode", f"{name}: DVH metrics", fill_metrics)]
    for row, (key, which, curve) in enumerate(curves):
        draft = _curve_draft(key, which, curve, row, segments[key], segmentation, plan)
        drafts.append(replace(draft, name=f"{name}: {draft.name}"))
    drafts += [_series_draft(key, which, segments[key]) for key, which in plotted]

    return [*drafts, _chart_draft(name, series, highest_gy)]


def _chart_draft(name: str, roles: Sequence[str], highest_gy: float) -> Draft:
    """The chart of series, in their order."""

    def fill_chart(node: Any, nodes: Mapping[str, Any]) -> None:
        node.SetTitle("Dose Volume Histogram")
        node.SetXAxisTitle("Dose [GY]")
        node.SetYAxisTitle("Fractional volume [%]")
        node.SetLegendVisibility(True)
        for what, points in _POINTS.items():
            getattr(node, f"Set{what}FontSize")(points)
        node.SetXAxisRangeAuto(highest_gy <= 0)
        node.SetXAxisRange(0, highest_gy * _LEGEND_ROOM)
        node.SetYAxisRangeAuto(False)
        node.SetYAxisRange(0, 105)
        node.RemoveAllPlotSeriesNodeIDs()
        node.RemoveNodeReferenceIDs(f"{_PREFIX}dvhPlotSeries")
        for role in roles:
            series = nodes[role].GetID()
            node.AddAndObservePlotSeriesNodeID(series)
            node.AddNodeReferenceID(f"{_PREFIX}dvhPlotSeries", series)

    return Draft("chart", "vtkMRMLPlotChartNode", f"{name}: DVH", fill_chart)


def _curve_draft(
    key: str,
    which: str,
    curve: Dvh,
    row: int,
    segment: SegmentInfo,
    segmentation: Any,
    plan: Any,
) -> Draft:
    assert curve.max_gy is not None
    dose_gy = np.append(np.arange(0, curve.max_gy, _STEP_GY), curve.max_gy)
    columns: dict[str, Column] = {
        "Dose": np.append(dose_gy, curve.max_gy + 1e-3),
        "Volume": np.append(curve.cumulative(dose_gy), 0.0),
    }

    def fill(node: Any, nodes: Mapping[str, Any]) -> None:
        dose, metrics = plan if which else nodes["dose"], nodes["metrics"]
        set_table(node, columns)
        node.SetAttribute(f"{_PREFIX}DVH", "1")
        node.SetAttribute(f"{_PREFIX}SegmentID", segment.id)
        node.SetAttribute(f"{_PREFIX}TableRow", str(row))
        node.SetAttribute(f"{_PREFIX}Volume (cc)", f"{curve.volume_cc:g}")
        node.SetNodeReferenceID("doseVolumeRef", dose.GetID())
        node.SetNodeReferenceID("segmentationRef", segmentation.GetID())
        node.SetNodeReferenceID("dvhMetricsTableRef", metrics.GetID())
        role = f"{_PREFIX}{dose.GetID()}_{segmentation.GetID()}_{segment.id}"
        metrics.SetNodeReferenceID(role, node.GetID())

    name = f"DVH of {segment.name}" + (" (plan)" if which else "")
    return Draft(f"dvh{which}:{key}", "vtkMRMLTableNode", name, fill)


def other_series_drafts(
    measures: Evaluation, segments: Mapping[str, SegmentInfo], nodes: Mapping[str, Any]
) -> list[Draft]:
    """A dotted series for each curve of another result, from the tables of its own.

    Args:
        nodes: of the other result.
    """
    drafts = []
    for key in measures.predicted:
        table = nodes.get(f"dvh:{key}")
        if table is not None and key != measures.external:
            drafts.append(_series_draft(key, "-other", segments[key], table))
    return drafts


def _series_draft(key: str, which: str, segment: SegmentInfo, table: Any = None) -> Draft:
    """Prediction solid, plan dashed, another result dotted."""
    styles = slicer.vtkMRMLPlotSeriesNode
    suffix, style = {
        "": ("", styles.LineStyleSolid),
        "-plan": (" (plan)", styles.LineStyleDash),
        "-other": (" (B)", styles.LineStyleDot),
    }[which]

    def fill(node: Any, nodes: Mapping[str, Any]) -> None:
        node.SetName(segment.name + suffix)  # what the legend shows
        node.SetAttribute(f"{_PREFIX}DVH", "1")
        source = nodes[f"dvh{which}:{key}"] if table is None else table
        node.SetAndObserveTableNodeID(source.GetID())
        node.SetXColumnName("Dose")
        node.SetYColumnName("Volume")
        node.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        node.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
        node.SetLineStyle(style)
        node.SetLineWidth(3 if which == "-other" else 2)  # thin dots are lost
        node.SetColor(*(int(segment.color[i : i + 2], 16) / 255 for i in (1, 3, 5)))

    return Draft(f"series{which}:{key}", "vtkMRMLPlotSeriesNode", segment.name, fill)


def goal_draft(name: str, predicted: GoalResults, planned: GoalResults | None) -> Draft:
    """Goals of the prediction beside those of the plan, in the template's order; how likely a plan
    meets them, where the records say it."""
    columns: dict[str, Column] = {
        "Structure": [goal["structure"] for goal in predicted],
        "Goal": [goal["goal"] for goal in predicted],
        "Unit": [goal["unit"] for goal in predicted],
        "Predicted": [goal["value"] for goal in predicted],
        "Status": [status_words(goal["status"])[1] for goal in predicted],
        "Margin": [goal["margin"] for goal in predicted],
    }
    if planned is not None:
        columns["Plan"] = [goal["value"] for goal in planned]
        columns["Plan status"] = [status_words(goal["status"])[1] for goal in planned]
    likely = [probability_words(goal) for goal in predicted]
    if any(likely):
        columns["Likely to be met"] = likely
    columns["Note"] = [goal["reason"] or "" for goal in predicted]
    columns["Source"] = [goal["source"] or "" for goal in predicted]
    return _table_draft("goals", f"{name}: clinical goals", columns)


def review_draft(
    name: str, review: Mapping[str, Any], segments: Mapping[str, SegmentInfo]
) -> Draft:
    """Where the plan lies outside its bands, in the order of the review."""
    rows = review["rows"]
    columns: dict[str, Column] = {
        "Structure": [
            segments[row["structure"]].name if row["structure"] in segments else row["structure"]
            for row in rows
        ],
        "Endpoint": [reviewed_label(row) for row in rows],
        "Unit": [row["unit"] for row in rows],
        "Plan": [row["plan"] for row in rows],
        "Predicted": [row["predicted"] for row in rows],
        "Low": [row["low"] for row in rows],
        "High": [row["high"] for row in rows],
        "Outside": [row["outside"] for row in rows],
        "Verdict": [VERDICTS[row["verdict"]] for row in rows],
    }
    return _table_draft("review", f"{name}: plan outside its bands", columns)


def score_draft(name: str, evaluation: Mapping[str, Any]) -> Draft:
    """How far the prediction is from the plan; the dose score with the region that it is over."""
    known = {label: evaluation[key] for key, label in _SCORES.items() if key in evaluation}
    region = str(evaluation.get("dose_score_region", "")).replace("_", " ")
    known = {
        f"{label} (over {region})" if label == _SCORES["dose_score_gy"] and region else label: value
        for label, value in known.items()
    }
    columns: dict[str, Column] = {
        "Score": list(known),
        "Value (Gy)": list(known.values()),
    }
    return _table_draft("scores", f"{name}: scores against the plan", columns)


def change_drafts(
    name: str,
    before: Mapping[str, Dvh],
    after: Mapping[str, Dvh],
    segments: Mapping[str, SegmentInfo],
    goals_before: GoalResults | None,
    goals_after: GoalResults | None,
) -> list[Draft]:
    """New − old of the DVH metrics, and goals before and after."""
    both = [key for key in after if key in before]
    columns: dict[str, Column] = {
        "Structure": [segments[key].name for key in both],
        "Δ volume (cc)": [after[key].volume_cc - before[key].volume_cc for key in both],
    }
    for endpoint in _CHANGES:
        pairs = [(before[key].endpoint(endpoint), after[key].endpoint(endpoint)) for key in both]
        columns[f"Δ {endpoint_label(endpoint)} (GY)"] = [
            None if old is None or new is None else new - old for old, new in pairs
        ]
    drafts = [_table_draft("change-metrics", f"{name}: change of DVH metrics", columns)]
    if goals_before is None or goals_after is None:
        return drafts
    known = {(goal["structure"], goal["goal"]): goal for goal in goals_before}
    rows = [(known.get((g["structure"], g["goal"])), g) for g in goals_after]
    pairs_of_goals = [(old, new) for old, new in rows if old is not None]
    columns = {
        "Structure": [new["structure"] for _, new in pairs_of_goals],
        "Goal": [new["goal"] for _, new in pairs_of_goals],
        "Before": [_judged(old) for old, _ in pairs_of_goals],
        "After": [_judged(new) for _, new in pairs_of_goals],
        "Change": [_change(old, new) for old, new in pairs_of_goals],
    }
    return [*drafts, _table_draft("change-goals", f"{name}: change of goals", columns)]


def _judged(goal: Mapping[str, Any]) -> str:
    return f"{number(goal['value'])} {goal['unit']}, {status_words(goal['status'])[1]}".strip()


def _change(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if old["value"] is None or new["value"] is None:
        return ""
    return f"{signed(new['value'] - old['value'], 2)} {new['unit']}".strip()


def _table_draft(role: str, name: str, columns: Mapping[str, Column]) -> Draft:
    return Draft(role, "vtkMRMLTableNode", name, lambda node, nodes: set_table(node, columns))


def set_table(node: Any, columns: Mapping[str, Column]) -> None:
    """Replace a table node's columns: text, numbers (None is not a number) or yes and no."""
    table = vtk.vtkTable()
    for name, values in columns.items():
        array = _vtk_column(values)
        array.SetName(name)
        table.AddColumn(array)
    node.SetAndObserveTable(table)
    if hasattr(node, "SetUseColumnTitleAsColumnHeader"):
        node.SetUseColumnTitleAsColumnHeader(True)
    else:  # its name until Slicer 5.10
        node.SetUseColumnNameAsColumnHeader(True)
    node.SetLocked(True)


def _vtk_column(values: Column) -> Any:
    if isinstance(values, np.ndarray) and values.dtype == bool:
        bits = vtk.vtkBitArray()
        for value in values:
            bits.InsertNextValue(int(value))
        return bits
    if isinstance(values, np.ndarray):
        return numpy_to_vtk(values.astype(np.float64), deep=True)
    if any(isinstance(value, str) for value in values):
        texts = vtk.vtkStringArray()
        for value in values:
            texts.InsertNextValue(str(value))
        return texts
    numbers = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    return numpy_to_vtk(numbers, deep=True)
