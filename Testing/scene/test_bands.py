"""Bands of the DVHs in the scene: drawn as translucent lines, switched, saved."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel (Linux, x86-64)")
import vtk
from calibrations import PATIENTS, calibrate
from support import pelvis_case
from vtk.util.numpy_support import vtk_to_numpy

from DosePredictionLib.app.bands import Bands
from DosePredictionLib.case import Prescription
from DosePredictionLib.evaluation.calibration import LEVELS, curve_doses, read_calibration
from DosePredictionLib.evaluation.goals import GoalSet, parse_goal
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.models.manifest import ModelFolder, read_model_folder
from DosePredictionLib.scene import (
    add_result,
    case_from_nodes,
    highlight_structure,
    restored_results,
    result_nodes,
    set_goals,
    show_structures,
    write_tables,
)

from .nodes import nodes_of
from .predictions import prediction_of

pytestmark = pytest.mark.usefixtures("scene")


@pytest.fixture
def model(pelvis_model: DoseModel, tmp_path: Path) -> ModelFolder:
    """A model that is calibrated in two structures, one of them the body's contour."""
    shutil.copytree(pelvis_model.folder, tmp_path / "model")
    calibrate(read_model_folder(tmp_path / "model"), "Rectum", "Body")
    return read_model_folder(tmp_path / "model")


@pytest.fixture
def inputs() -> tuple[Any, Any, Any]:
    return nodes_of(pelvis_case((40, 32, 24), (9.0, 9.0, 9.0)))


def result_of(
    inputs: tuple, model: Any, prescription_gy: float = 45.0, factor: float = 1.04
) -> Any:
    source = case_from_nodes(*inputs)
    prediction = prediction_of(source.case, model, factor)
    prescription = Prescription({"PTV": prescription_gy}, 25)
    return add_result(replace(prediction, prescription=prescription), source)


def column(node: Any, name: str) -> np.ndarray:
    return np.asarray(vtk_to_numpy(node.GetTable().GetColumnByName(name)))


def column_of_text(node: Any, name: str) -> list[str]:
    values = node.GetTable().GetColumnByName(name)
    return [values.GetValue(row) for row in range(values.GetNumberOfValues())]


def shown(result: Any) -> list[str]:
    """Names of the series in the chart, in the order in which it draws them."""
    chart = result_nodes(result.run)["chart"]
    numbers = range(chart.GetNumberOfPlotSeriesNodes())
    return [chart.GetNthPlotSeriesNode(number).GetName() for number in numbers]


def drawn(result: Any, size: tuple[int, int] = (420, 300)) -> np.ndarray:
    """The chart's pixels, by the plots that Slicer's view makes of its series."""
    view, chart = vtk.vtkContextView(), vtk.vtkChartXY()
    view.GetScene().AddItem(chart)
    view.GetRenderer().SetBackground(1, 1, 1)
    node = result_nodes(result.run)["chart"]
    for number in range(node.GetNumberOfPlotSeriesNodes()):
        series, plot = node.GetNthPlotSeriesNode(number), vtk.vtkPlotLine()
        plot.SetWidth(series.GetLineWidth())
        plot.SetColorF(*series.GetColor())
        plot.GetPen().SetOpacityF(series.GetOpacity())
        plot.SetMarkerStyle(0)
        columns = series.GetXColumnName(), series.GetYColumnName()
        plot.SetInputData(series.GetTableNode().GetTable(), *columns)
        chart.AddPlot(plot)
    for axis, (low, high) in ((0, (0.0, 105.0)), (1, node.GetXAxisRange())):
        chart.GetAxis(axis).SetBehavior(1)
        chart.GetAxis(axis).SetRange(low, high)
    window = view.GetRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(*size)
    window.SetMultiSamples(0)
    window.Render()
    image = vtk.vtkWindowToImageFilter()
    image.SetInput(window)
    image.ReadFrontBufferOff()
    image.Update()
    pixels = vtk_to_numpy(image.GetOutput().GetPointData().GetScalars())
    return np.asarray(pixels.reshape(size[1], size[0], 3)).astype(int)


def test_each_band_is_a_line_between_its_ends(inputs: Any, model: ModelFolder) -> None:
    result = result_of(inputs, model)
    nodes = result_nodes(result.run)
    curve = result.measures.predicted["Rectum"].curve
    known = read_calibration(model.folder / "calibration.json").structures["Rectum"]
    for percent in LEVELS:
        series = nodes[f"series-band-{percent}:Rectum"]
        assert series.GetColor() == nodes["series:Rectum"].GetColor()
        dose_gy = column(series.GetTableNode(), series.GetXColumnName())
        volume = column(series.GetTableNode(), series.GetYColumnName())
        low, high = known.curve(curve_doses(curve), percent)
        for end, expected in ((min, low), (max, high)):
            ends = [end(pair) for pair in dose_gy.reshape(-1, 2)]
            assert ends[::2] == pytest.approx(list(expected), abs=0.01)  # as records are rounded
        assert volume[::4] == pytest.approx(range(1, 100))
        # To and fro: along a volume, and on at the same end to the next one.
        assert np.array_equal(volume[::2], volume[1::2])
        inner = dose_gy[1:-1].reshape(-1, 2)
        assert np.abs(inner[:, 0] - inner[:, 1]).max() <= np.abs(np.diff(dose_gy)).max()
    assert result.bands.content["calibration"]["patients"] == PATIENTS


def test_bands_lie_below_the_curves_and_the_body_has_none(inputs: Any, model: ModelFolder) -> None:
    result = result_of(inputs, model)
    assert shown(result)[:3] == ["Rectum (90 % band)", "Rectum (50 % band)", "PTV"]
    assert not any("Body" in name for name in shown(result))


def test_bands_are_hidden_with_their_structure_or_all_together(
    inputs: Any, model: ModelFolder
) -> None:
    result = result_of(inputs, model)
    every = set(shown(result))
    show_structures(result, (), with_bands=False)
    assert {name for name in every if "band" not in name} == set(shown(result))
    show_structures(result, {"Rectum"})
    assert not any("Rectum" in name for name in shown(result))
    show_structures(result, {"Rectum"}, with_bands=False)
    show_structures(result, ())
    assert set(shown(result)) == every


def test_the_band_of_the_structure_that_stands_out_is_clearer(
    inputs: Any, model: ModelFolder
) -> None:
    result = result_of(inputs, model)
    band = result_nodes(result.run)["series-band-90:Rectum"]
    usual = band.GetOpacity()
    highlight_structure(result, "Rectum")
    clear = band.GetOpacity()
    highlight_structure(result, "Bladder")
    assert band.GetOpacity() < usual < clear
    highlight_structure(result, "")
    assert band.GetOpacity() == usual


def test_a_band_is_an_area_on_the_screen(inputs: Any, model: ModelFolder) -> None:
    """Strokes touch: where a band is, nearly every pixel between its ends is another one."""
    result = result_of(inputs, model)
    show_structures(result, set(result.measures.predicted) - {"Rectum"})
    with_bands = drawn(result)
    show_structures(result, set(result.measures.predicted) - {"Rectum"}, with_bands=False)
    changed = (with_bands != drawn(result)).any(axis=2)
    rows = [row for row in changed if row.sum() > 3]
    assert len(rows) > 200
    filled = [row[np.flatnonzero(row)[0] : np.flatnonzero(row)[-1] + 1].mean() for row in rows]
    assert np.median(filled) > 0.8  # the curve itself is drawn over it


def test_a_saved_scene_keeps_its_bands(inputs: Any, model: ModelFolder, tmp_path: Path) -> None:
    result = result_of(inputs, model)
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "case.mrb"))
    names = shown(result)
    slicer.mrmlScene.Clear(False)
    bundle = str(tmp_path / "case.mrb")
    slicer.mrmlScene.SetURL(slicer.mrmlScene.UnpackSlicerDataBundle(bundle, str(tmp_path)))
    assert slicer.mrmlScene.Connect()
    (again,) = restored_results()
    assert again.bands == result.bands
    assert shown(again) == names
    ours, theirs = (
        column(result_nodes(each.run)["bands"], "Rectum 90 %") for each in (again, result)
    )
    assert np.array_equal(ours, theirs)


def test_goals_of_any_template_have_their_probability_and_a_plan_its_review(
    inputs: Any, model: ModelFolder, tmp_path: Path
) -> None:
    """The Rectum's calibration plans lie up to 0.9 Gy beside their predictions: surely met, surely
    missed; what was not calibrated says so."""
    result = result_of(inputs, model, factor=1.5)
    mean_gy = result.measures.predicted["Rectum"].endpoint("Dmean_gy")
    texts = (f"Dmean < {mean_gy + 1:.2f} Gy", f"Dmean < {mean_gy - 1:.2f} Gy", "D2% < 50 Gy")
    goals = GoalSet("own", "Own", tuple(parse_goal("Rectum", text) for text in texts), {})
    judged = set_goals(result, goals)
    cells = column_of_text(result_nodes(result.run)["goals"], "Likely to be met")
    assert cells[0].startswith("98 % (")
    assert cells[1].startswith("2 % (")
    assert cells[2] == "no probability: D2_gy of Rectum was not calibrated"
    review = judged.bands.review
    assert review["curves_reviewed"] == 2  # of the Rectum and the body
    named = column_of_text(result_nodes(result.run)["review"], "Verdict")
    assert len(named) == len(review["rows"]) > 0
    names = [path.name for path in write_tables(judged, tmp_path)]
    assert {"goals.csv", "review.csv"} <= set(names)
    assert set_goals(judged, None).goals is None


@pytest.mark.parametrize("kept", ["", "x", "eJwDAAAAAAE="])
def test_a_scene_that_keeps_no_calibration_has_goals_without_probability(kept: str) -> None:
    """Saved by an earlier version, or damaged: goals are judged as ever."""
    bands = Bands({"calibration": {}}, calibrated=kept)
    (goal,) = bands.likely([{"value": 1.0, "bound_to": "Rectum"}])
    assert (goal["probability"], goal["probability_missing"]) == (None, "no calibration")


def test_without_a_calibration_there_is_nothing_to_draw(
    inputs: Any, pelvis_model: DoseModel
) -> None:
    result = result_of(inputs, pelvis_model)
    assert (result.bands.content, result.bands.missing) == (None, "")
    assert not any("band" in role for role in result.nodes)


def test_a_calibration_that_does_not_fit_says_why_there_are_no_bands(
    inputs: Any, model: ModelFolder
) -> None:
    result = result_of(inputs, model, prescription_gy=50.4)
    assert result.bands.content is None
    assert "PTV is prescribed 50.4 Gy, the calibration is of PTV 45 Gy" in result.bands.missing
    assert not any("band" in role for role in result.nodes)
