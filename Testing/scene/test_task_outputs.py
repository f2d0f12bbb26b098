"""What tasks give, as nodes: two dummy tasks, with progress and cancel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel (Linux, x86-64)")
import dummy_tasks
import numpy as np
from support import pelvis_case

from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.prediction import Prediction
from DosePredictionLib.scene import (
    DisplaySettings,
    add_result,
    apply_display,
    case_from_nodes,
    remove_result,
    result_steps,
)

from .nodes import nodes_of


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    dummy_tasks.register()
    yield
    dummy_tasks.unregister()


@pytest.fixture
def source(scene: Any) -> Any:
    return case_from_nodes(*nodes_of(pelvis_case((48, 48, 32), (8.0, 8.0, 8.0))))


def predicted(source: Any, task: str, like: DoseModel, folder: Path, **options: Any) -> Prediction:
    model = dummy_tasks.dummy_model(folder, task, like)
    return Predictor(model, "cpu", "fp32").predict(source.case, **options)


def ids() -> list[str]:
    scene = slicer.mrmlScene
    return [scene.GetNthNode(i).GetID() for i in range(scene.GetNumberOfNodes())]


def test_every_output_becomes_a_node_by_its_role(
    source: Any, pelvis_model: DoseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dummy_tasks, "STEPS", 1)
    before = ids()
    prediction = predicted(source, "bands", pelvis_model, tmp_path, keep=("sample",))
    result = add_result(prediction, source)
    by_key = {output.key: output for output in prediction.outputs}
    named = {
        "dose": ("mean", "predicted dose", "Gy"),
        "lower:low": ("low", "lower bound (90 %)", "Gy"),
        "upper:high": ("high", "upper bound (90 %)", "Gy"),
        "probability:chance": ("chance", "probability Bladder", None),
        "sample:drawn": ("drawn", "sample 1", "Gy"),
    }
    for role, (key, label, unit) in named.items():
        node = result.nodes[role]
        assert np.array_equal(slicer.util.arrayFromVolume(node), by_key[key].volume.array)
        assert node.GetName() == f"CT 1: {label}"
        units = node.GetVoxelValueUnits()
        assert (None if units is None else units.GetCodeValue()) == unit
        is_dose = node.GetAttribute("DicomRtImport.DoseVolume")
        assert is_dose == ("1" if role == "dose" else None)
    segments = result.nodes["segments"].GetSegmentation()
    assert [segments.GetSegment(i).GetName() for i in segments.GetSegmentIDs()] == ["Bladder"]
    mask = slicer.util.arrayFromSegmentInternalBinaryLabelmap(result.nodes["segments"], "bladder")
    assert (mask > 0).sum() == by_key["bladder"].volume.array.sum()

    # The range of the dose's colors is that of every dose, and of nothing else.
    apply_display(result, DisplaySettings(low=10, high=40))
    ranges = {
        role: (node.GetWindowLevelMin(), node.GetWindowLevelMax())
        for role, node in result.nodes.items()
        if role.endswith("-display") and node.IsA("vtkMRMLScalarVolumeDisplayNode")
    }
    assert ranges["upper:high-display"] == ranges["dose-display"] == (10, 40)
    assert ranges["probability:chance-display"] == (0, 1)
    remove_result(result.run)
    assert ids() == before


def test_a_task_of_slices_updates_the_result_of_another_in_place(
    source: Any, pelvis_model: DoseModel, tmp_path: Path
) -> None:
    several = add_result(predicted(source, "bands", pelvis_model, tmp_path), source)
    dose = several.dose.GetID()
    plain = add_result(predicted(source, "slice_dose", pelvis_model, tmp_path), source)
    assert plain.dose.GetID() == dose
    assert not any(
        ":" in role and "dvh" not in role and "series" not in role for role in plain.nodes
    )
    assert several.nodes["upper:high"].GetScene() is None
    assert several.nodes["segments"].GetScene() is None


@pytest.mark.parametrize("task", ["slice_dose", "bands"])
def test_steps_say_what_they_do_and_can_be_given_up_at_any_of_them(
    source: Any, pelvis_model: DoseModel, tmp_path: Path, task: str
) -> None:
    prediction = predicted(source, task, pelvis_model, tmp_path)
    before = ids()
    labels = [step.label for step in result_steps(prediction, source)]
    wanted = {"Preparing dose"}
    if task == "bands":
        wanted |= {"Preparing lower:low", "Preparing segment Bladder"}
    assert wanted <= set(labels)
    assert ids() != before
    (run,) = {str(n.GetAttribute("DosePrediction.Run")) for n in nodes_of_a_run()}
    remove_result(run)
    assert ids() == before
    for stop in sorted(wanted):
        steps = result_steps(prediction, source)
        while next(steps).label != stop:
            pass
        steps.close()
        assert ids() == before


def nodes_of_a_run() -> list[Any]:
    scene = slicer.mrmlScene
    nodes = (scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes()))
    return [node for node in nodes if node.GetAttribute("DosePrediction.Run")]
