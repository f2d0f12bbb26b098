"""A result as files: dose, tables, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..prediction import Prediction
from ..tables import write_table
from ..volume import Volume
from .geometry import LPS_FROM_RAS, Frame, array_of_image, grid_in, image_size, index_to_ras
from .results import SceneResult

__all__ = ["write_dose", "write_result_report", "write_tables"]

_TABLES = ("metrics", "goals", "review", "scores", "change-metrics", "change-goals")


def write_dose(dose: Any, path: Path) -> Path:
    """A dose node as NIfTI (needs nibabel) or NRRD by suffix, Gy, where it lies in the world.

    Raises:
        GeometryError: it lies under a transform that warps or shears it.
    """
    from ..app.summary import STATEMENT
    from ..io.volumes import write_volume

    image = dose.GetImageData()
    grid = grid_in(Frame(LPS_FROM_RAS), dose, index_to_ras(dose), image_size(image))
    write_volume(path, Volume(array_of_image(image), grid), STATEMENT)
    return path


def write_tables(result: SceneResult, folder: Path) -> list[Path]:
    """Metrics, goals, review, scores, changes as CSV, and the curves of all DVHs in `dvh.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for role in _TABLES:
        if role in result.nodes:
            paths.append(folder / f"{role}.csv")
            _write_rows(paths[-1], _rows(result.nodes[role].GetTable()))
    curves: list[list[Any]] = [["Structure", "Dose volume", "Dose (Gy)", "Volume (%)"]]
    for role, node in result.nodes.items():
        which, _, key = role.partition(":")
        if which in ("dvh", "dvh-plan"):
            label = "prediction" if which == "dvh" else "plan"
            values = _rows(node.GetTable())[1:]
            curves += [[result.segments[key].name, label, *row] for row in values]
    paths.append(folder / "dvh.csv")
    _write_rows(paths[-1], curves)
    return paths


def write_result_report(result: SceneResult, prediction: Prediction, path: Path) -> Path:
    """The HTML report with the result's goals; needs matplotlib and Jinja2, and takes seconds."""
    from ..app.bands import prediction_calibration, with_widths
    from ..app.summary import prediction_summary, report_input
    from ..evaluation.goal_probability import with_probabilities
    from ..report import write_report

    summary = prediction_summary(prediction, goals=None)
    known, _ = prediction_calibration(prediction)
    widths = with_widths(prediction, result.measures).widths
    structures = None if known is None else known.for_case(widths)
    summary["goals"] = with_probabilities(result.measures.goal_records, structures)
    write_report(report_input(prediction, summary), path)
    return path


def _rows(table: Any) -> list[list[Any]]:
    """A vtkTable's header and rows; numbers stay numbers, what is undefined is empty."""
    columns = [table.GetColumn(index) for index in range(table.GetNumberOfColumns())]
    rows: list[list[Any]] = [[column.GetName() for column in columns]]
    for index in range(table.GetNumberOfRows()):
        values = [column.GetVariantValue(index) for column in columns]
        rows.append([v.ToString() if v.IsString() else _number(v.ToDouble()) for v in values])
    return rows


def _number(value: float) -> str:
    return "" if value != value else f"{value:.6g}"


def _write_rows(path: Path, rows: list[list[Any]]) -> None:
    write_table(path, rows, encoding="utf-8-sig")  # spreadsheets need the mark
