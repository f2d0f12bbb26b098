"""A prediction → nodes, on the real MRML."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel (Linux, x86-64)")
import vtk
from support import OBLIQUE, pelvis_case

from DosePredictionLib.errors import CaseError
from DosePredictionLib.evaluation.dvh import dvh
from DosePredictionLib.evaluation.goals import GoalSet
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.prediction import Output
from DosePredictionLib.scene import (
    DisplaySettings,
    add_result,
    apply_display,
    case_from_nodes,
    default_range,
    remove_result,
    result_nodes,
    result_runs,
    result_steps,
    set_goals,
    write_dose,
    write_result_report,
    write_tables,
)

from .nodes import nodes_of, rotation, transform_node
from .predictions import prediction_of

pytestmark = pytest.mark.usefixtures("scene")


@pytest.fixture
def inputs() -> tuple[Any, Any, Any]:
    case = pelvis_case((40, 32, 24), (9.0, 9.0, 9.0))
    return nodes_of(case)


def tree() -> Any:
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def tree_text() -> list[tuple]:
    ids = vtk.vtkIdList()
    tree().GetItemChildren(tree().GetSceneItemID(), ids, True)
    items = [ids.GetId(index) for index in range(ids.GetNumberOfIds())]
    return [
        (item, tree().GetItemName(item), tree().GetItemParent(item), attributes(item))
        for item in items
    ]


def attributes(item: int) -> tuple:
    names = tree().GetItemAttributeNames(item)
    return tuple((name, tree().GetItemAttribute(item, name)) for name in names)


def scene_text() -> list[tuple]:
    """Every node with its class, name, attributes and display state."""
    scene = slicer.mrmlScene
    text = []
    for index in range(scene.GetNumberOfNodes()):
        node = scene.GetNthNode(index)
        names = sorted(node.GetAttributeNames())
        state: tuple = ()
        if node.IsA("vtkMRMLScalarVolumeDisplayNode"):
            state = (node.GetColorNodeID(), node.GetWindow(), node.GetLevel())
            state += (node.GetApplyThreshold(), node.GetLowerThreshold())
        elif node.IsA("vtkMRMLSegmentationDisplayNode"):
            state = (node.GetVisibility2DFill(),)
        values = [(name, node.GetAttribute(name)) for name in names]
        text.append(
            (
                node.GetID(),
                node.GetName(),
                node.GetTransformNodeID() if node.IsA("vtkMRMLTransformableNode") else None,
                values,
                state,
            )
        )
    return text


def result_of(inputs: tuple, model: DoseModel, factor: float = 1.04, **options: Any) -> Any:
    source = case_from_nodes(*inputs)
    return add_result(prediction_of(source.case, model, factor), source, **options)


def column(node: Any, name: str) -> list:
    array = node.GetTable().GetColumnByName(name)
    return [array.GetValue(index) for index in range(array.GetNumberOfTuples())]


@pytest.mark.parametrize("direction", [None, OBLIQUE], ids=["straight", "oblique"])
def test_the_dose_lies_on_the_ct_wherever_that_lies(
    pelvis_model: DoseModel, direction: Any
) -> None:
    inputs = nodes_of(pelvis_case((40, 32, 24), (9.0, 9.0, 9.0), direction))
    transform = transform_node(rotation(9, shift=(1, 2, 3)), *inputs)
    expected = slicer.util.arrayFromVolume(inputs[2]) * np.float32(1.04)

    result = result_of(inputs, pelvis_model)

    dose = result.dose
    matrices = [vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()]
    dose.GetIJKToRASMatrix(matrices[0])
    inputs[0].GetIJKToRASMatrix(matrices[1])
    assert all(
        matrices[0].GetElement(i, j) == matrices[1].GetElement(i, j)
        for i in range(4)
        for j in range(4)
    )
    assert dose.GetTransformNodeID() == transform.GetID()
    array = slicer.util.arrayFromVolume(dose)
    assert array.dtype == np.float32
    assert np.array_equal(array, expected)
    assert dose.GetName() == "CT 1: predicted dose"
    assert dose.GetVoxelValueUnits().GetCodeValue() == "Gy"


def test_slicerrt_takes_the_dose_and_only_the_dose(inputs: Any, pelvis_model: DoseModel) -> None:
    before = tree_text()
    result = result_of(inputs, pelvis_model)

    assert result.dose.GetAttribute("DicomRtImport.DoseVolume") == "1"
    assert result.nodes["difference"].GetAttribute("DicomRtImport.DoseVolume") is None
    item = tree().GetItemByDataNode(result.dose)
    study = tree().GetItemAncestorAtLevel(item, "Study")
    assert tree().GetItemAttribute(study, "DicomRtImport.DoseUnitName") == "GY"
    assert tree().GetItemAttribute(study, "DicomRtImport.DoseUnitValue") == "1.0"
    assert tree().GetItemUID(item, "DICOM")
    assert [line for line in tree_text() if line in before] == before


def test_a_study_of_the_ct_is_used_and_left_as_it_was(inputs: Any, pelvis_model: DoseModel) -> None:
    patient = tree().CreateSubjectItem(tree().GetSceneItemID(), "Doe")
    study = tree().CreateStudyItem(patient, "planning")
    tree().CreateItem(study, inputs[0])
    before = tree_text()

    result = result_of(inputs, pelvis_model)
    folder = tree().GetItemParent(tree().GetItemByDataNode(result.dose))
    assert (tree().GetItemName(folder), tree().GetItemLevel(folder)) == ("CT 1", "Folder")
    assert tree().GetItemParent(folder) == study
    remove_result(result.run)

    assert tree_text() == before


def test_curves_are_those_of_the_library_and_look_like_slicerrts(
    inputs: Any, pelvis_model: DoseModel
) -> None:
    result = result_of(inputs, pelvis_model)
    source = case_from_nodes(*inputs)
    prediction = prediction_of(source.case, pelvis_model)

    metrics, table = result.nodes["metrics"], result.nodes["dvh:Rectum"]
    expected = dvh(prediction.dose, source.case.structures["Rectum"])
    row = column(metrics, "Structure").index("Rectum")
    assert float(column(metrics, "Mean dose (GY)")[row]) == pytest.approx(expected.mean_gy)
    assert float(column(metrics, "D2% (GY)")[row]) == pytest.approx(expected.dose_at_percent(2))
    assert column(metrics, "Volume name")[row] == "CT 1: predicted dose"
    dose_gy = np.array(column(table, "Dose"), dtype=float)
    volume = np.array(column(table, "Volume"), dtype=float)
    assert (dose_gy[0], volume[0], volume[-1]) == (0, 100, 0)
    assert np.allclose(volume[:-1], expected.cumulative(dose_gy[:-1]))
    assert table.GetName() == "CT 1: DVH of Rectum"
    assert table.GetAttribute("DoseVolumeHistogram.SegmentID") == "id_2"
    assert table.GetNodeReference("doseVolumeRef") is result.dose
    assert table.GetNodeReference("segmentationRef") is inputs[1]
    role = f"DoseVolumeHistogram.{result.dose.GetID()}_{inputs[1].GetID()}_id_2"
    assert metrics.GetNodeReference(role) is table

    chart = result.nodes["chart"]
    names = [
        chart.GetNthPlotSeriesNode(i).GetName() for i in range(chart.GetNumberOfPlotSeriesNodes())
    ]
    assert names[:2] == ["PTV", "Bladder"]
    assert "Body" not in names
    assert "PTV (plan)" in names
    assert (chart.GetTitle(), chart.GetXAxisTitle()) == ("Dose Volume Histogram", "Dose [GY]")
    highest_gy = max(
        curve.max_gy for key, curve in result.measures.predicted.items() if key != "Body"
    )
    assert chart.GetXAxisRange()[1] > 1.3 * highest_gy  # room for the legend beside the curves
    dashed, solid = result.nodes["series-plan:PTV"], result.nodes["series:PTV"]
    assert (solid.GetLineStyle(), dashed.GetLineStyle()) == (
        solid.LineStyleSolid,
        solid.LineStyleDash,
    )
    assert solid.GetColor() == dashed.GetColor()


def test_a_large_structure_has_nearly_the_same_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    from DosePredictionLib.evaluation import dvh as module

    case = pelvis_case()
    dose, body = case.plan_dose, case.structures["Body"]
    exact = dvh(dose, body)
    monkeypatch.setattr(module, "LARGE_VOXELS", 1000)
    quick = dvh(dose, body)
    assert len(quick.curve.dose_gy) < 10_000 < len(exact.curve.dose_gy)
    assert (quick.min_gy, quick.max_gy) == pytest.approx((exact.min_gy, exact.max_gy), abs=1e-3)
    assert quick.volume_cc == pytest.approx(exact.volume_cc)
    assert quick.mean_gy == pytest.approx(exact.mean_gy, abs=0.02)
    for level_gy in (2, 10, 20, 40):
        expected = exact.volume_at_gy(level_gy)
        assert quick.volume_at_gy(level_gy) == pytest.approx(expected, abs=0.15)


def test_an_update_keeps_the_nodes_and_counts(inputs: Any, pelvis_model: DoseModel) -> None:
    first = result_of(inputs, pelvis_model, goals=GoalSet.load("pelvis_nodal_45_50"))
    count = slicer.mrmlScene.GetNumberOfNodes()
    ids = {role: node.GetID() for role, node in first.nodes.items()}
    items = tree().GetNumberOfItems()

    second = result_of(inputs, pelvis_model, 1.1, goals=GoalSet.load("pelvis_nodal_45_50"))

    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert {role: node.GetID() for role, node in second.nodes.items()} == ids
    assert tree().GetNumberOfItems() == items
    assert result_runs() == [second.run]
    assert second.run != first.run
    assert slicer.util.arrayFromVolume(second.dose).max() == pytest.approx(
        1.1 * slicer.util.arrayFromVolume(inputs[2]).max()
    )


def test_removal_leaves_the_scene_as_it_was(inputs: Any, pelvis_model: DoseModel) -> None:
    for name in ("Red", "Green"):
        node = slicer.vtkMRMLSliceCompositeNode()
        node.SetSingletonTag(name)
        slicer.mrmlScene.AddNode(node)
        node.SetBackgroundVolumeID(inputs[0].GetID())
    inputs[2].CreateDefaultDisplayNodes()
    nodes, items = scene_text(), tree_text()

    source = case_from_nodes(*inputs)
    strips = {angle: source.case.structures["PTV"] for angle in (0, 45, 90, 135)}
    dose = source.case.plan_dose
    further = (
        Output("coarse", dose, "coarse dose", "Gy"),
        Output("spread", dose, "spread", "Gy"),
        Output("hot", dose.with_array(dose.array > 40), "segment", "none", structure="hot spot"),
    )
    prediction = prediction_of(source.case, pelvis_model, further=further, strips=strips)
    result = add_result(prediction, source, goals=GoalSet.load("pelvis_nodal_45_50"))
    for layer in ("prediction", "plan", "difference"):
        apply_display(result, DisplaySettings(layer=layer, isodoses=True, unit="%"))
    assert scene_text() != nodes
    remove_result(result.run)

    assert scene_text() == nodes
    assert tree_text() == items
    assert result_runs() == []


def test_nothing_enters_the_scene_before_the_last_step(
    inputs: Any, pelvis_model: DoseModel
) -> None:
    source = case_from_nodes(*inputs)
    before = scene_text()
    steps = result_steps(prediction_of(source.case, pelvis_model), source)
    for step in steps:
        if step.label == "Preparing difference":
            break
    assert scene_text() == before
    steps.close()
    assert scene_text() == before


def test_a_removed_ct_is_told_and_the_earlier_result_stays(
    inputs: Any, pelvis_model: DoseModel
) -> None:
    first = result_of(inputs, pelvis_model)
    source = case_from_nodes(*inputs)
    steps = result_steps(prediction_of(source.case, pelvis_model), source)
    next(steps)
    slicer.mrmlScene.RemoveNode(inputs[0])
    count = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(CaseError, match="has been removed from the scene"):
        list(steps)
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert result_runs() == [first.run]


def test_another_template_comes_from_the_curves_at_hand(
    inputs: Any, pelvis_model: DoseModel
) -> None:
    result = result_of(inputs, pelvis_model)
    assert "goals" not in result.nodes

    with_goals = set_goals(result, GoalSet.load("pelvis_nodal_45_50"))
    node = with_goals.nodes["goals"]
    assert len(column(node, "Goal")) == len(with_goals.goals)
    assert {"met", "not met", "not evaluable"} >= set(column(node, "Status"))
    assert column(node, "Plan status")
    count = slicer.mrmlScene.GetNumberOfNodes()
    other = set_goals(with_goals, GoalSet.load("prostate_60_20"))
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert other.nodes["goals"] is node
    none = set_goals(other, None)
    assert "goals" not in none.nodes
    assert node.GetScene() is None


def test_a_what_if_shows_what_changed(inputs: Any, pelvis_model: DoseModel) -> None:
    goals = GoalSet.load("pelvis_nodal_45_50")
    before = result_of(inputs, pelvis_model, 1.0, goals=goals)
    after = result_of(inputs, pelvis_model, 1.1, goals=goals, before=before)

    plan = slicer.util.arrayFromVolume(inputs[2])
    change = slicer.util.arrayFromVolume(after.nodes["change"])
    assert np.allclose(change, 0.1 * plan, atol=1e-4)
    table = after.nodes["change-metrics"]
    row = column(table, "Structure").index("PTV")
    expected = after.measures.predicted["PTV"].mean_gy - before.measures.predicted["PTV"].mean_gy
    assert float(column(table, "Δ Dmean (GY)")[row]) == pytest.approx(expected)
    assert len(column(after.nodes["change-goals"], "Goal")) == len(goals.goals)


def test_a_case_without_a_plan_has_no_scores(inputs: Any, pelvis_model: DoseModel) -> None:
    result = result_of((*inputs[:2], None), pelvis_model)
    assert result.measures.evaluation is None
    assert not {"difference", "scores", "dvh-plan:PTV"} & set(result.nodes)
    with pytest.raises(CaseError, match="needs a plan dose"):
        apply_display(result, DisplaySettings(layer="difference"))


@pytest.mark.parametrize("factor", [100.0, 1 / 25, 0.0])
def test_nothing_is_drawn_against_a_plan_that_does_not_belong(
    inputs: Any, pelvis_model: DoseModel, factor: float
) -> None:
    prediction = prediction_of(case_from_nodes(*inputs).case, pelvis_model)
    slicer.util.arrayFromVolume(inputs[2])[:] *= factor
    inputs[2].Modified()
    source = case_from_nodes(*inputs)
    prediction = replace(prediction, case=source.case)
    gamma = prediction.dose.with_array(np.ones_like(prediction.dose.array))
    result = add_result(prediction, source, gamma=gamma)
    assert result.measures.planned is None
    assert not {"difference", "gamma", "scores", "dvh-plan:PTV"} & set(result.nodes)
    with pytest.raises(CaseError, match="plan dose"):
        apply_display(result, DisplaySettings(layer="difference"))


def test_scores_are_those_of_the_evaluation(inputs: Any, pelvis_model: DoseModel) -> None:
    from DosePredictionLib.app.summary import prediction_summary

    result = result_of(inputs, pelvis_model)
    source = case_from_nodes(*inputs)
    expected = prediction_summary(prediction_of(source.case, pelvis_model))["evaluation"]
    for name, value in result.measures.evaluation.items():
        assert value == pytest.approx(expected[name], rel=1e-5), name


def test_a_saved_scene_keeps_its_result(
    inputs: Any, pelvis_model: DoseModel, tmp_path: Path
) -> None:
    result = result_of(inputs, pelvis_model, goals=GoalSet.load("pelvis_nodal_45_50"))
    apply_display(result, DisplaySettings(isodoses=True))
    roles, dose = set(result_nodes(result.run)), slicer.util.arrayFromVolume(result.dose).copy()
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "case.mrb"))
    slicer.mrmlScene.Clear(False)
    assert result_runs() == []

    # As ReadFromMRB does, which asks for a cache folder that only the application has.
    bundle = str(tmp_path / "case.mrb")
    slicer.mrmlScene.SetURL(slicer.mrmlScene.UnpackSlicerDataBundle(bundle, str(tmp_path)))
    assert slicer.mrmlScene.Connect()

    (run,) = result_runs()
    assert run == result.run
    nodes = result_nodes(run)
    assert set(nodes) == roles
    assert np.array_equal(slicer.util.arrayFromVolume(nodes["dose"]), dose)
    assert nodes["dose"].GetNodeReference("ctRef").GetName() == "CT 1"
    assert nodes["chart"].GetNumberOfPlotSeriesNodes() == 16
    remove_result(run)
    assert result_runs() == []


def test_the_range_follows_the_prescription(inputs: Any, pelvis_model: DoseModel) -> None:
    result = result_of(inputs, pelvis_model)
    assert default_range(result, "%") == (20, 110)
    assert default_range(result) == pytest.approx((9.0, 49.5))
    apply_display(result, DisplaySettings(low=80, high=100, unit="%"))
    display = result.dose.GetScalarVolumeDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (36, 45)
    assert display.GetLowerThreshold() == 36


def test_files_of_a_result(inputs: Any, pelvis_model: DoseModel, tmp_path: Path) -> None:
    from DosePredictionLib.io.volumes import read_volume

    transform_node(rotation(9, shift=(1, 2, 3)), *inputs)
    source = case_from_nodes(*inputs)
    prediction = prediction_of(source.case, pelvis_model)
    result = add_result(prediction, source, goals=GoalSet.load("pelvis_nodal_45_50"))

    for name in ("dose.nrrd", "dose.nii.gz"):
        stored = read_volume(write_dose(result.dose, tmp_path / name))
        assert np.array_equal(stored.array, prediction.dose.array)
        ras = np.diag([-1, -1, 1]) @ stored.grid.origin
        matrix = vtk.vtkMatrix4x4()
        result.dose.GetIJKToRASMatrix(matrix)
        local = [matrix.GetElement(i, 3) for i in range(3)]
        assert ras == pytest.approx((rotation(9, shift=(1, 2, 3)) @ [*local, 1])[:3], abs=1e-3)
    files = write_tables(result, tmp_path / "tables")
    assert {path.name for path in files} == {"metrics.csv", "goals.csv", "scores.csv", "dvh.csv"}
    text = (tmp_path / "tables" / "metrics.csv").read_text(encoding="utf-8-sig")
    assert text.splitlines()[0].startswith("Show,Structure,Volume name,Volume (cc),Mean dose (GY)")
    page = write_result_report(result, prediction, tmp_path / "report.html").read_text("utf-8")
    assert "not for clinical use" in page
