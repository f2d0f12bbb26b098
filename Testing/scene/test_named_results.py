"""Results beside each other, reopened, compared, probed and swept, on the real MRML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel (Linux, x86-64)")
import vtk
from support import pelvis_case
from vtk.util.numpy_support import vtk_to_numpy

from DosePredictionLib.errors import CaseError
from DosePredictionLib.evaluation.goals import GoalSet
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.scene import (
    DisplaySettings,
    IsodoseLevels,
    Keeping,
    add_result,
    apply_display,
    case_from_nodes,
    compared_run,
    highlight_structure,
    mark_place,
    move_cursor,
    prediction_of_result,
    prepare_cursor,
    probe,
    remove_result,
    require_same_inputs,
    restored_results,
    result_nodes,
    result_runs,
    set_goals,
    show_chart,
    show_structures,
    sweep_orphans,
    target_center,
    worst_place,
    write_result_report,
    write_tables,
)

from .nodes import nodes_of, rotation, transform_node
from .predictions import prediction_of

pytestmark = pytest.mark.usefixtures("scene")

GOALS = "pelvis_nodal_45_50"


@pytest.fixture
def inputs() -> tuple[Any, Any, Any]:
    return nodes_of(pelvis_case((40, 32, 24), (9.0, 9.0, 9.0)))


def add(inputs: tuple, model: DoseModel, factor: float = 1.0, **keeping: Any) -> Any:
    source = case_from_nodes(*inputs)
    keeping = {"replaces": None, **keeping}
    prediction = prediction_of(source.case, model, factor)
    goals = GoalSet.load(GOALS)
    return add_result(prediction, source, goals=goals, keeping=Keeping(**keeping))


def tree() -> Any:
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def names_below(item: int) -> list[str]:
    ids = vtk.vtkIdList()
    tree().GetItemChildren(item, ids, True)
    return [tree().GetItemName(ids.GetId(index)) for index in range(ids.GetNumberOfIds())]


def all_nodes() -> set[str]:
    scene = slicer.mrmlScene
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    return {f"{n.GetID()} {n.GetName()}" for n in nodes if not n.IsA("vtkMRMLStorageNode")}


def test_results_stand_beside_each_other_each_in_a_folder_with_names_to_read(
    inputs: Any, pelvis_model: DoseModel
) -> None:
    one = add(inputs, pelvis_model, label="Pelvis, 45 Gy")
    two = add(inputs, pelvis_model, 1.1, label="Pelvis, 50.4 Gy")
    assert result_runs() == sorted([one.run, two.run])
    folders = [tree().GetItemParent(tree().GetItemByDataNode(each.dose)) for each in (one, two)]
    assert [tree().GetItemName(folder) for folder in folders] == [
        "CT 1 (Pelvis, 45 Gy)",
        "CT 1 (Pelvis, 50.4 Gy)",
    ]
    study = tree().GetItemParent(folders[0])
    assert tree().GetItemParent(folders[1]) == study
    assert tree().GetItemLevel(study) == "Study"
    names = names_below(folders[1])
    assert "CT 1 (Pelvis, 50.4 Gy): DVH of Rectum" in names
    assert "CT 1 (Pelvis, 50.4 Gy): DVH" in names
    in_folder = {node.GetName() for role, node in two.nodes.items() if "color" not in role}
    displays = {n.GetName() for n in two.nodes.values() if n.IsA("vtkMRMLDisplayNode")}
    assert in_folder - displays == set(names)
    remove_result(one.run)
    assert result_runs() == [two.run]
    assert tree().GetItemParent(folders[1]) == study
    remove_result(two.run)
    assert names_below(tree().GetSceneItemID()) == []


def test_a_run_that_is_named_is_updated_in_place_and_the_other_one_stays(
    inputs: Any, pelvis_model: DoseModel
) -> None:
    one, two = add(inputs, pelvis_model), add(inputs, pelvis_model, 1.1)
    nodes = all_nodes()
    again = add(inputs, pelvis_model, 1.2, replaces=one.run)
    assert again.dose is one.dose
    assert all_nodes() == nodes
    assert result_runs() == sorted([two.run, again.run])


def test_twenty_predictions_of_the_same_leave_what_one_leaves(
    inputs: Any, pelvis_model: DoseModel
) -> None:
    result = add(inputs, pelvis_model)
    apply_display(result, DisplaySettings(isodoses=True))
    nodes = all_nodes()
    for _ in range(4):
        result = add(inputs, pelvis_model, replaces=result.run)
        apply_display(result, DisplaySettings(isodoses=True))
    assert len(all_nodes()) == len(nodes)


@pytest.mark.parametrize("gone", ["dose", "chart", "metrics", "dvh:PTV", "goals", "record"])
def test_what_is_left_of_a_deleted_result_goes_and_a_deleted_part_comes_back(
    inputs: Any, pelvis_model: DoseModel, gone: str
) -> None:
    before = all_nodes()
    result = add(inputs, pelvis_model)
    whole = all_nodes()
    slicer.mrmlScene.RemoveNode(result.nodes[gone])
    if gone == "dose":
        assert sweep_orphans(slicer.mrmlScene) == [result.run]
        assert all_nodes() - {n for n in all_nodes() if "SubjectHierarchy" in n} <= before
        return
    assert sweep_orphans(slicer.mrmlScene) == []
    show_chart(result)
    set_goals(result, GoalSet.load(GOALS), GOALS)
    add(inputs, pelvis_model, replaces=result.run)
    assert len(all_nodes()) == len(whole)


def reopen(path: Path) -> None:
    assert slicer.mrmlScene.WriteToMRB(str(path / "case.mrb"))
    slicer.mrmlScene.Clear(False)
    bundle = str(path / "case.mrb")
    slicer.mrmlScene.SetURL(slicer.mrmlScene.UnpackSlicerDataBundle(bundle, str(path)))
    assert slicer.mrmlScene.Connect()


def test_a_reopened_scene_shows_judges_and_reports_again(
    inputs: Any,
    pelvis_model: DoseModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOSE_PREDICTION_MODELS", str(pelvis_model.folder.parent))
    options = {"margin": "-1"}
    first = add(inputs, pelvis_model, label="Pelvis", options=options, goals=GOALS)
    numbers = first.measures.structures()
    values = [(goal["goal"], goal["status"], goal["value"]) for goal in first.goals]
    reopen(tmp_path)
    (result,) = restored_results()
    assert (result.run, result.name, result.label) == (first.run, "CT 1", "Pelvis")
    assert (result.record.options, result.record.goals) == (options, GOALS)
    assert result.plan.GetName() == "plan"
    for name, figures in result.measures.structures().items():
        for key, both in figures["endpoints"].items():
            for side, value in both.items():
                expected = numbers[name]["endpoints"][key][side]
                assert value == pytest.approx(expected, abs=0.05, rel=2e-3), (name, key)
    judged = set_goals(result, GoalSet.load("prostate_78_39"), "prostate_78_39")
    assert judged.goals is not None and len(judged.goals) != len(values)
    again = set_goals(judged, GoalSet.load(GOALS), GOALS)
    for (goal, status, value), now in zip(values, again.goals, strict=True):
        assert (now["goal"], now["status"]) == (goal, status)
        assert now["value"] == (None if value is None else pytest.approx(value, abs=0.1))
    apply_display(again, DisplaySettings(layer="difference", isodoses=True))
    assert "metrics.csv" in {path.name for path in write_tables(again, tmp_path / "tables")}
    require_same_inputs(again)
    nodes = [slicer.util.getNode(name) for name in ("CT 1", "structures", "plan")]
    prediction = prediction_of_result(again, case_from_nodes(*nodes).case)
    assert np.array_equal(prediction.dose.array, slicer.util.arrayFromVolume(again.dose))
    page = write_result_report(again, prediction, tmp_path / "report.html").read_text("utf-8")
    assert "Rectum" in page


def test_a_report_of_inputs_that_have_changed_since_is_refused(
    inputs: Any, pelvis_model: DoseModel, tmp_path: Path
) -> None:
    add(inputs, pelvis_model)
    reopen(tmp_path)
    (result,) = restored_results()
    require_same_inputs(result)
    array = slicer.util.arrayFromVolume(slicer.util.getNode("CT 1"))
    array[:2] += 100
    slicer.util.arrayFromVolumeModified(slicer.util.getNode("CT 1"))
    with pytest.raises(CaseError, match="CT"):
        require_same_inputs(result)
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("structures"))
    with pytest.raises(CaseError, match="no longer in the scene"):
        require_same_inputs(result)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99}', '{"version": 1}'])
def test_a_damaged_record_is_none(inputs: Any, pelvis_model: DoseModel, text: str) -> None:
    result = add(inputs, pelvis_model)
    assert len(restored_results()) == 1
    result.nodes["record"].SetText(text)
    assert restored_results() == []


def test_two_results_are_compared_and_the_comparison_goes_again(
    inputs: Any, pelvis_model: DoseModel
) -> None:
    one, two = add(inputs, pelvis_model, label="A"), add(inputs, pelvis_model, 1.1, label="B")
    alone = all_nodes()
    shown = DisplaySettings(layer="change", other=one)
    apply_display(two, shown)
    nodes = result_nodes(two.run)
    assert compared_run(two) == one.run
    plan = slicer.util.arrayFromVolume(inputs[2])
    assert np.allclose(slicer.util.arrayFromVolume(nodes["change"]), 0.1 * plan, atol=1e-4)
    assert nodes["change"].GetName() == "CT 1 (B): minus A"
    chart = nodes["chart"]
    dotted = nodes["series-other:PTV"]
    assert chart.HasPlotSeriesNodeID(dotted.GetID())
    assert dotted.GetTableNode() is one.nodes["dvh:PTV"]
    assert dotted.GetLineStyle() == dotted.LineStyleDot
    apply_display(two, shown)  # again: nothing is made anew
    assert result_nodes(two.run)["change"] is nodes["change"]
    apply_display(two, DisplaySettings(layer="other", other=one, low=10, high=40))
    display = one.dose.GetScalarVolumeDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (10, 40)
    apply_display(two, DisplaySettings())
    assert compared_run(two) == ""
    assert {n for n in all_nodes() if "legend" not in n and "IsodoseLevels" not in n} == alone
    remove_result(one.run)
    with pytest.raises(CaseError, match="has been removed"):
        apply_display(two, shown)


def test_an_update_in_place_keeps_the_nodes_of_a_comparison_and_fills_them_anew(
    inputs: Any, pelvis_model: DoseModel
) -> None:
    """As each stroke does, live: no node is made again."""
    base, live = add(inputs, pelvis_model, label="A"), add(inputs, pelvis_model, 1.1, label="L")
    shown = DisplaySettings(layer="change", other=base, isodoses=True)
    apply_display(live, shown)
    prepare_cursor(live)
    nodes = {role: node.GetID() for role, node in result_nodes(live.run).items()}
    live = add(inputs, pelvis_model, 1.3, label="L", replaces=live.run)
    apply_display(live, shown)
    prepare_cursor(live)
    again = result_nodes(live.run)
    assert {role: node.GetID() for role, node in again.items()} == nodes
    plan = slicer.util.arrayFromVolume(inputs[2])
    change = slicer.util.arrayFromVolume(again["change"])
    assert np.allclose(change, 0.3 * plan, atol=1e-4)
    for role in ("series-other:PTV", "cursor", "series:PTV"):
        assert again["chart"].HasPlotSeriesNodeID(nodes[role]), role
    highest = again["isodoses"].GetPolyData().GetPointData().GetArray("isolevels").GetRange()[1]
    assert highest > 45  # of the new dose
    live = add(inputs, pelvis_model, 1.3, label="L", replaces=live.run)
    apply_display(live, DisplaySettings())
    assert not {role for role in result_nodes(live.run) if role.startswith("series-other")}
    remove_result(live.run)
    remove_result(base.run)
    assert result_runs() == []


def test_results_on_other_voxels_are_compared_by_their_curves_alone(
    inputs: Any, pelvis_model: DoseModel
) -> None:
    one = add(inputs, pelvis_model)
    transform_node(rotation(0, shift=(0, 0, 0)), one.dose)
    matrix = vtk.vtkMatrix4x4()
    one.dose.GetIJKToRASMatrix(matrix)
    matrix.SetElement(0, 3, matrix.GetElement(0, 3) + 5)
    one.dose.SetIJKToRASMatrix(matrix)
    two = add(inputs, pelvis_model, 1.1)
    apply_display(two, DisplaySettings(other=one))
    assert "change" not in result_nodes(two.run)
    assert "change-metrics" in result_nodes(two.run)
    with pytest.raises(CaseError, match="another result"):
        apply_display(two, DisplaySettings(layer="change", other=one))


def test_the_worst_voxels_of_organs_and_targets(inputs: Any, pelvis_model: DoseModel) -> None:
    """Where the nodes lie, transform included."""
    transform_node(rotation(7, shift=(3, 2, 1)), *inputs)
    result = add(inputs, pelvis_model)
    dose = slicer.util.arrayFromVolume(result.dose)
    source = case_from_nodes(*inputs)
    mask = source.case.structures["Rectum"].binary()
    hot = worst_place(result, "Rectum", "hot")
    assert hot.dose_gy == dose[mask].max()
    assert hot.name == "Rectum"
    here = probe(result, hot.ras)
    assert here is not None
    assert here.dose_gy == pytest.approx(hot.dose_gy, abs=0.01)
    assert here.structures["Rectum"] < 15  # few voxels
    cold = worst_place(result, "PTV", "cold")
    assert cold.dose_gy == dose[source.case.structures["PTV"].binary()].min()
    assert probe(result, cold.ras).structures["PTV"] > 90
    highest = worst_place(result, "", "hot")
    assert (highest.dose_gy, highest.name) == (dose.max(), "")
    center = target_center(result)
    assert center is not None and "PTV" in probe(result, center).structures
    assert probe(result, (1e4, 0, 0)) is None
    mark_place(result, hot)
    mark_place(result, hot)
    marks = result_nodes(result.run)["marks"]
    assert marks.GetNumberOfControlPoints() == 1
    assert marks.GetNthControlPointLabel(0) == f"Rectum {hot.dose_gy:.1f} Gy"
    place = [0.0] * 3
    marks.GetNthControlPointPositionWorld(0, place)
    assert place == pytest.approx(hot.ras)
    inputs[1].GetSegmentation().RemoveSegment("id_2")
    with pytest.raises(CaseError, match="Rectum is no longer"):
        worst_place(result, "Rectum", "hot")
    assert "Rectum" not in probe(result, hot.ras).structures


def test_the_cursor_moves_on_the_chart_and_hides(inputs: Any, pelvis_model: DoseModel) -> None:
    result = add(inputs, pelvis_model)
    count = result.nodes["chart"].GetNumberOfPlotSeriesNodes()
    move_cursor(result, None)
    assert result.nodes["chart"].GetNumberOfPlotSeriesNodes() == count
    move_cursor(result, 41.97)
    nodes = result_nodes(result.run)
    assert result.nodes["chart"].GetNumberOfPlotSeriesNodes() == count + 1
    table = nodes["cursor-table"].GetTable()
    assert [table.GetValue(row, 0).ToDouble() for row in range(2)] == [41.97, 41.97]
    move_cursor(result, None)
    assert nodes["cursor-table"].GetTable().GetValue(0, 0).ToDouble() < 0
    remove_result(result.run)
    assert result_runs() == []


def test_own_levels_are_drawn_and_follow_the_prescription(
    inputs: Any, pelvis_model: DoseModel
) -> None:
    result = add(inputs, pelvis_model)

    def levels() -> list[float]:
        array = result_nodes(result.run)["isodoses"].GetPolyData().GetPointData()
        values = vtk_to_numpy(array.GetArray("isolevels"))
        return sorted({round(float(value), 3) for value in values})

    apply_display(result, DisplaySettings(isodoses=True, levels=IsodoseLevels((50, 80))))
    assert levels() == [22.5, 36.0]
    table = result.nodes["level-colors"]
    assert [table.GetColorName(i) for i in range(table.GetNumberOfColors())] == ["22.5", "36.0"]
    own = IsodoseLevels((10.0, 30.0), "Gy")
    apply_display(result, DisplaySettings(surfaces=True, levels=own, unit="%"))
    assert levels() == [10.0, 30.0]
    assert [table.GetColorName(i) for i in range(2)] == ["22.22", "66.67"]
    display = result_nodes(result.run)["isodoses-display"]
    assert display.GetVisibility3D()
    assert display.GetSliceIntersectionOpacity() == 0
    apply_display(result, DisplaySettings(isodoses=True))
    assert not display.GetVisibility3D()
    assert len(levels()) >= 5


def test_an_update_to_another_prescription_draws_its_own_levels(
    inputs: Any, pelvis_model: DoseModel
) -> None:
    from dataclasses import replace

    from DosePredictionLib.case import Prescription

    first = add(inputs, pelvis_model)
    apply_display(first, DisplaySettings(isodoses=True))
    source = case_from_nodes(*inputs)
    prediction = prediction_of(source.case, pelvis_model, 1.12)
    prediction = replace(prediction, prescription=Prescription({"PTV": 50.4}, 28))
    result = add_result(prediction, source, keeping=Keeping(replaces=first.run))
    apply_display(result, DisplaySettings(isodoses=True))
    table = result.nodes["level-colors"]
    names = [table.GetColorName(index) for index in range(table.GetNumberOfColors())]
    assert names[6] == "50.4"
    colors = set()
    for index in range(table.GetNumberOfColors()):
        color = [0.0] * 4
        table.GetColor(index, color)
        colors.add(tuple(color))
    assert len(colors) == 9  # no two levels of one color
    levels = result_nodes(result.run)["isodoses"].GetPolyData().GetPointData()
    assert levels.GetArray("isolevels").GetRange()[0] == pytest.approx(10.08)


def test_structures_go_and_come_everywhere_at_once(inputs: Any, pelvis_model: DoseModel) -> None:
    result = add(inputs, pelvis_model)
    chart, display = result.nodes["chart"], inputs[1].GetDisplayNode()
    series = result.nodes["series:Rectum"].GetID()
    show_structures(result, {"Rectum"})
    assert not display.GetSegmentVisibility("id_2")
    assert not chart.HasPlotSeriesNodeID(series)
    assert display.GetSegmentVisibility("id_1")
    show_structures(result, ())
    assert display.GetSegmentVisibility("id_2")
    assert chart.HasPlotSeriesNodeID(series)
    highlight_structure(result, "Rectum")
    assert display.GetSegmentOpacity2DOutline("id_2") == 1.0
    assert display.GetSegmentOpacity2DOutline("id_1") < 0.5
    assert result.nodes["series:Rectum"].GetLineWidth() > 3
    highlight_structure(result, "")
    assert display.GetSegmentOpacity2DOutline("id_1") == 1.0
