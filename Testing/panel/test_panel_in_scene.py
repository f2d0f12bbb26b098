"""The panel's executor in a real scene, with the real worker: everything but the widgets."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from beams.beam_phantoms import beam_model
from calibrations import PATIENTS, calibrate
from support import DICOM_SAMPLE, ROOT, pelvis_case

from DosePredictionLib.beams.arrangement import parse_beams
from DosePredictionLib.encoding.encoder import EncodingSettings, GridSettings, network_channels
from DosePredictionLib.encoding.strips import StripSettings
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.models.heads import HEADS
from DosePredictionLib.models.manifest import Architecture, read_model_folder
from DosePredictionLib.networks import build_network
from DosePredictionLib.schema import to_json
from DosePredictionLib.worker.messages import Failure, PredictOptions

slicer = pytest.importorskip("slicer")

import vtk  # noqa: E402
from DosePredictionPanel.blocking import predict_blocking  # noqa: E402
from DosePredictionPanel.charts import curve_at  # noqa: E402
from DosePredictionPanel.data_probe import gray_text, show_doses_in_gray  # noqa: E402
from DosePredictionPanel.executor.context import ACTIONS  # noqa: E402
from DosePredictionPanel.executor.restoring import restored_states  # noqa: E402
from DosePredictionPanel.executor.scene_facts import facts_of  # noqa: E402
from DosePredictionPanel.flow import effects as do  # noqa: E402
from DosePredictionPanel.flow import events as on  # noqa: E402
from DosePredictionPanel.flow import plan_messages  # noqa: E402
from DosePredictionPanel.flow.beams import from_text  # noqa: E402
from DosePredictionPanel.plan_view import plan_view  # noqa: E402
from DosePredictionPanel.prediction_run import RunInputs  # noqa: E402
from DosePredictionPanel.sample_data import (  # noqa: E402
    SAMPLE_SUFFIX,
    SAMPLES,
    load_case_file,
)
from DosePredictionPanel.services import Services  # noqa: E402
from DosePredictionPanel.starting import ready_inputs, start_run  # noqa: E402
from DosePredictionPanel.views import result_view, run_view, structures_view  # noqa: E402
from scene.conftest import scene  # noqa: E402, F401 - a fixture
from scene.nodes import nodes_of, volume_node  # noqa: E402
from scene_bench import Bench, LoopClock, PipeWorker  # noqa: E402
from vtk.util.numpy_support import numpy_to_vtk  # noqa: E402

from DosePredictionLib.scene import restored_results, result_nodes, worst_place  # noqa: E402
from DosePredictionLib.scene.geometry import array_of_image  # noqa: E402
from DosePredictionLib.scene.loading import BEAMS, load_case  # noqa: E402

PANEL = ROOT / "DosePrediction" / "DosePredictionPanel"
RTPLAN = DICOM_SAMPLE / "RP.dcm"

# What a Slicer with a window has and nothing else.
NEEDS_QT = {
    "connectors",
    "installation",
    "panel",
    "parameter_binding",
    "parameters",
    "qt_clock",
    "qt_dialogs",
    "sections.advanced",
    "sections.beams",
    "sections.checks",
    "sections.contours",
    "sections.display",
    "sections.inputs",
    "sections.installation",
    "sections.plan",
    "sections.result",
    "sections.run",
    "sections.structures",
    "sections.wishes",
    "self_test",
    "table_widget",
    "worker_process",
}


def modules() -> set[str]:
    names = set()
    for path in PANEL.rglob("*.py"):
        parts = path.relative_to(PANEL).with_suffix("").parts
        names.add(".".join(part for part in parts if part != "__init__"))
    return names - {""}


def test_every_module_that_needs_no_qt_is_imported_without_torch() -> None:
    code = (
        "import importlib, sys\n"
        "sys.modules['torch'] = None\n"
        f"for name in {sorted(modules() - NEEDS_QT)!r}:\n"
        "    importlib.import_module(f'DosePredictionPanel.{name}')\n"
        "assert 'qt' not in sys.modules\n"
    )
    paths = [str(ROOT), str(ROOT / "DosePrediction")]
    code = f"import sys; sys.path[:0] = {paths!r}\n{code}"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert modules() >= NEEDS_QT


@pytest.mark.parametrize("path", sorted(PANEL.parent.rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_of_the_module_imports_torch(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.add(node.module.split(".")[0])
    assert "torch" not in imported


def test_every_effect_is_carried_out(bench: Bench) -> None:
    every = {getattr(do, name) for name in do.__all__}
    every |= {getattr(plan_messages, name) for name in plan_messages.__all__}
    assert set(ACTIONS) == {each for each in every if issubclass(each, do.Effect)} - {do.Effect}


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    """One worker for all tests of this module."""
    shared = Services(PipeWorker, LoopClock())
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def models(pelvis_model: DoseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random model on a grid of few voxels."""
    folder = tmp_path_factory.mktemp("coarse")
    shutil.copytree(pelvis_model.folder, folder / "random-pelvis")
    path = folder / "random-pelvis" / "model.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    grid = {"kind": "fixed-spacing", "size": None, "spacing_mm": [12.0, 12.0, 8.0]}
    manifest["encoding"]["grid"] |= grid
    path.write_text(json.dumps(manifest), encoding="utf-8")
    settings = EncodingSettings(
        GridSettings("fixed-spacing", spacing_mm=(12.0, 12.0, 12.0)),
        dose_scale_gy=50.0,
        strips=StripSettings(angles=()),
        further={
            "beam": {"arrangement": to_json(parse_beams("20,130,200"))},
            "wish": {"dose_gy": {"Rectum": 40.0}},
        },
    )
    beam_model(folder / "beams", settings, parse_beams("20,130,200"))
    add_heads(folder / "drawing", DoseModel.load(folder / "random-pelvis"))
    return folder


def add_heads(folder: Path, model: DoseModel) -> None:
    """The same model with the smallest heads that draw samples, of random weights."""
    named = replace(model.manifest, name="drawing")
    made = DoseModel.create(folder, named, model.network().state_dict())
    rides_on = made.manifest.checksums
    heads = {"scale": ("half_resolution", {"head_filters": 2}), "flow": ("denoising_unet", {})}
    for earlier, (name, (network, further)) in enumerate(heads.items(), 1):
        arguments = {
            **network_channels(model.protocol, named.encoding),
            **{"filters": 2, "earlier_channels": earlier, **further},
        }
        head = replace(
            named,
            name=name,
            task=HEADS[name],
            architecture=Architecture(network, arguments),
            rides_on=rides_on,
        )
        torch.manual_seed(earlier)
        weights = build_network(network, arguments).state_dict()
        rides_on = (*rides_on, *DoseModel.create(folder / name, head, weights).manifest.checksums)


@pytest.fixture
def bench(
    scene: Any,  # noqa: F811
    services: Services,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Bench]:
    monkeypatch.setenv("DOSE_PREDICTION_MODELS", str(models))
    for view in ("Red", "Green"):
        composite = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
        composite.SetLayoutName(view)
    scene.AddNewNodeByClass("vtkMRMLPlotViewNode")
    bench = Bench(services, tmp_path)
    yield bench
    bench.watch.stop()
    bench.store.dispatch(on.PanelClosed())
    bench.until(lambda: not bench.services.worker.is_busy)  # type: ignore[attr-defined]
    services.forget_scene()


def patient(name: str, size: tuple[int, int, int] = (32, 32, 24)) -> tuple[Any, Any, Any]:
    nodes = nodes_of(pelvis_case(size, (12.0, 12.0, 8.0)))
    for node, what in zip(nodes, ("CT", "structures", "plan"), strict=True):
        node.SetName(f"{what} of {name}")
    return nodes


def choose(bench: Bench, nodes: tuple[Any, Any, Any]) -> None:
    for name, node in zip(("ct", "segmentation", "plan_dose"), nodes, strict=True):
        bench.choose(**{name: node})
    bench.choose(model="random-pelvis", device="cpu")


@pytest.fixture
def patient_a(bench: Bench) -> tuple[Any, Any, Any]:
    nodes = patient("A")
    choose(bench, nodes)
    return nodes


def node_names() -> set[str]:
    nodes = [slicer.mrmlScene.GetNthNode(n) for n in range(slicer.mrmlScene.GetNumberOfNodes())]
    return {f"{node.GetID()} {node.GetName()}" for node in nodes if node.GetSaveWithScene()}


def composite() -> Any:
    return slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]


def test_nodes_are_known_for_what_they_are(bench: Bench, patient_a: tuple[Any, Any, Any]) -> None:
    ct, segmentation, plan = patient_a
    case = pelvis_case((16, 16, 12), (20.0, 20.0, 16.0))
    assert case.plan_dose is not None
    labels = volume_node(case.ct, "labels", "vtkMRMLLabelMapVolumeNode")
    marked = volume_node(case.plan_dose, "marked")
    marked.SetAttribute("DicomRtImport.DoseVolume", "1")
    made = volume_node(case.plan_dose, "difference")
    made.SetAttribute("DosePrediction.Run", "run")
    fits = {
        node.GetName(): tuple(
            facts_of(node).fits(choice) for choice in ("ct", "segmentation", "plan_dose")
        )
        for node in (ct, segmentation, plan, labels, marked, made)
    }
    assert fits == {
        "CT of A": (True, False, False),
        "structures of A": (False, True, False),
        "plan of A": (True, False, True),  # it does not say that it is a dose
        "labels": (False, False, False),
        "marked": (False, False, True),
        "difference": (False, False, False),
    }


def test_two_patients_each_with_their_own_result(
    bench: Bench, patient_a: tuple[Any, Any, Any]
) -> None:
    bench.predict()
    first = bench.state.result
    assert first is not None
    assert bench.notices == []
    assert result_view(bench.state).tables["scores"].rows
    chart_a = slicer.util.getNodesByClass("vtkMRMLPlotViewNode")[0].GetPlotChartNodeID()
    assert composite().GetForegroundVolumeID() == first.dose

    b = patient("B", (28, 24, 20))  # another grid
    choose(bench, b)
    assert bench.state.result is None
    assert composite().GetForegroundVolumeID() is None
    assert composite().GetBackgroundVolumeID() == b[0].GetID()
    bench.predict()
    second = bench.state.result
    assert second is not None
    assert bench.notices == []
    assert second.dose != first.dose
    chart_b = slicer.util.getNodesByClass("vtkMRMLPlotViewNode")[0].GetPlotChartNodeID()
    assert chart_b != chart_a

    bench.choose(ct=patient_a[0])
    bench.until(lambda: bench.is_at_rest)
    assert bench.state.result == first
    assert bench.notices == []
    assert composite().GetForegroundVolumeID() == first.dose
    assert composite().GetBackgroundVolumeID() == patient_a[0].GetID()
    assert slicer.util.getNodesByClass("vtkMRMLPlotViewNode")[0].GetPlotChartNodeID() == chart_a
    legends = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    assert sum(bool(legend.GetVisibility()) for legend in legends) == 1
    p = bench.parameters.choices
    assert (p.segmentation, p.plan_dose) == (patient_a[1].GetID(), patient_a[2].GetID())


def test_an_edited_segment_makes_the_result_out_of_date_and_update_shows_the_change(
    bench: Bench, patient_a: tuple[Any, Any, Any]
) -> None:
    bench.predict()
    _ct, segmentation, _plan = patient_a
    id = segmentation.GetSegmentation().GetSegmentIdBySegmentName("Bladder")
    array = slicer.util.arrayFromSegmentInternalBinaryLabelmap(segmentation, id)
    array[: array.shape[0] // 2] = 0
    segmentation.GetSegmentation().GetSegment(id).GetRepresentation(
        "Binary labelmap"
    ).GetPointData().GetScalars().Modified()
    segmentation.GetSegmentation().GetSegment(id).GetRepresentation("Binary labelmap").Modified()
    segmentation.GetSegmentation().InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified)
    bench.until(lambda: run_view(bench.state).button.text == "Update")
    assert "Bladder" in bench.notices[0]
    bench.predict()
    view = result_view(bench.state)
    assert view.tab == "change"
    assert view.tables["change"].rows
    assert len(bench.state.results) == 2
    first, second = bench.state.results
    assert bench.parameters.choices.compared_dose == first.dose
    assert ", contours 2, " in result_view(bench.state).results[second.dose]
    assert bench.notices == []
    bench.choose(shown="change")
    nodes = result_nodes(second.run)
    assert composite().GetForegroundVolumeID() == nodes["change"].GetID()
    bench.store.dispatch(on.RemovePressed())
    assert bench.state.result == first
    bench.until(lambda: bench.is_at_rest)
    bench.store.dispatch(on.RemovePressed())
    assert not slicer.util.getNodesByClass("vtkMRMLTableNode")


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("stage", ["first", "worker"])
def test_an_input_deleted_while_it_runs_is_a_sentence(
    bench: Bench, patient_a: tuple[Any, Any, Any], which: int, stage: str
) -> None:
    bench.apply()
    if stage == "worker":
        bench.until(lambda: bench.state.run is not None and bench.state.run.share > 0.1)
    name = patient_a[which].GetName()
    before = node_names()
    slicer.mrmlScene.RemoveNode(patient_a[which])
    assert bench.state.run is None
    assert bench.notices[0].startswith(f"{name} was removed from the scene")
    bench.until(lambda: bench.state.reading is None)
    assert bench.notices[0].startswith(f"{name} was removed from the scene")
    assert {each for each in node_names() if "predicted" in each} == set()
    assert node_names() <= before
    chosen = bench.parameters.choices
    assert (chosen.ct, chosen.segmentation, chosen.plan_dose)[which] == ""


def test_a_prediction_goes_on_after_its_deleted_plan_was_replaced_by_none(
    bench: Bench, patient_a: tuple[Any, Any, Any]
) -> None:
    bench.apply()
    slicer.mrmlScene.RemoveNode(patient_a[2])
    bench.predict()
    assert bench.state.result is not None
    assert not result_view(bench.state).tables["scores"].rows


@pytest.mark.parametrize("which", [0, 1, 2])
def test_an_input_deleted_while_it_is_read_or_shown(
    bench: Bench, patient_a: tuple[Any, Any, Any], which: int
) -> None:
    bench.until(lambda: bench.state.reading is not None and bench.state.reading.phase == "reading")
    extra = patient("other")
    slicer.mrmlScene.RemoveNode(extra[which])
    bench.apply()
    bench.until(lambda: bench.state.showing is not None)
    slicer.mrmlScene.RemoveNode(patient_a[which])
    bench.until(lambda: bench.is_at_rest)
    assert not any("NoneType" in text or "Traceback" in text for text in bench.notices)
    assert bench.state.result is not None


def test_the_shown_dose_deleted_by_hand(bench: Bench, patient_a: tuple[Any, Any, Any]) -> None:
    bench.predict()
    assert bench.state.result is not None
    slicer.mrmlScene.RemoveNode(slicer.mrmlScene.GetNodeByID(bench.state.result.dose))
    assert bench.state.result is None
    assert bench.parameters.choices.result_dose == ""
    bench.predict()
    assert bench.state.result is not None
    assert bench.notices == []


def test_cancel_leaves_the_scene(bench: Bench, patient_a: tuple[Any, Any, Any]) -> None:
    before = node_names()
    bench.apply()
    bench.until(lambda: bench.state.run is not None and bench.state.run.share > 0.05)
    bench.press()
    bench.until(lambda: bench.state.run is None)
    assert bench.notices == ["Cancelled. The scene is as it was."]
    assert node_names() == before


def test_a_crashed_worker_is_told_and_the_next_one_predicts(
    bench: Bench, patient_a: tuple[Any, Any, Any]
) -> None:
    bench.apply()
    bench.until(lambda: bench.state.run is not None and bench.state.run.share > 0.05)
    bench.services.worker.kill()
    bench.until(lambda: bench.state.run is None)
    error = run_view(bench.state).notices[0]
    assert error.kind == "error"
    assert "memory" in error.text or "ended" in error.text
    bench.until(lambda: bench.is_ready)
    assert bench.notices[0] == error.text
    bench.predict()
    assert bench.notices == []
    assert bench.state.result is not None


@pytest.mark.parametrize(
    ("kind", "offered"), [("CaseError", False), ("WorkerError", True), ("KeyError", True)]
)
def test_details_are_offered_of_what_nobody_foresaw_while_inputs_are_checked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: str, offered: bool
) -> None:
    def send(request: Any, on_reply: Callable[[Any], None]) -> None:
        on_reply(Failure(request.id, kind, "It cannot be.", details="its last words"))

    monkeypatch.setattr(bench.services.worker, "send", send)
    choose(bench, patient("refused"))
    bench.until(lambda: bool(bench.state.input_error))
    shown = run_view(bench.state)
    assert shown.reason == "It cannot be."
    assert [notice.details for notice in shown.notices] == ["its last words"] * offered


def test_closing_the_scene_while_it_runs(bench: Bench, patient_a: tuple[Any, Any, Any]) -> None:
    bench.apply()
    slicer.mrmlScene.Clear(False)
    assert bench.state.run is None
    assert "The scene was closed" in bench.notices[0]
    assert bench.parameters.choices.ct == ""
    bench.until(lambda: bench.is_at_rest)
    choose(bench, patient("C"))
    bench.predict()
    assert bench.notices == []


def test_a_scene_opened_again_shows_judges_and_reports(
    bench: Bench, patient_a: tuple[Any, Any, Any], services: Services, tmp_path: Path
) -> None:
    """Another session's panel on the same nodes: nothing of the first one is in its memory."""
    bench.predict()
    result = bench.state.result
    assert result is not None
    services.forget_scene()
    bench.watch.stop()
    again = Bench(services, tmp_path)
    nodes = {"ct": patient_a[0], "segmentation": patient_a[1], "plan_dose": patient_a[2]}
    ids = {name: node.GetID() for name, node in nodes.items()}
    again.parameters.write({**ids, "result_dose": result.dose, "model": "random-pelvis"})
    again.store.dispatch(on.SceneLoaded())
    again.until(lambda: again.is_at_rest and again.is_ready)
    view = result_view(again.state)
    assert (view.run, view.can_display) == (result.run, True)
    assert again.notices == []  # nothing has changed, and that is known
    assert [row[0].text for row in view.tables["goals"].rows] == [
        row[0].text for row in result.tables["goals"].rows
    ]
    again.choose(isodoses=False)
    again.choose(goals="prostate_78_39")
    assert again.state.result is not None
    assert again.state.result.goals == "prostate_78_39"
    again.dialogs.path = str(tmp_path / "report.html")
    again.store.dispatch(on.ExportPressed("report"))
    again.until(lambda: bool(again.dialogs.opened) or bool(again.notices))
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8"), again.notices
    again.predict()
    assert len(again.state.results) == 1  # the same again: in its place
    again.store.dispatch(on.RemovePressed())
    assert not [name for name in node_names() if "predicted" in name]
    again.watch.stop()


def test_without_its_record_a_result_of_a_scene_says_what_it_lacks(
    bench: Bench, patient_a: tuple[Any, Any, Any], services: Services, tmp_path: Path
) -> None:
    bench.predict()
    result = bench.state.result
    assert result is not None
    services.forget_scene()
    bench.watch.stop()
    slicer.mrmlScene.RemoveNode(result_nodes(result.run)["record"])
    assert restored_results() == []
    again = Bench(services, tmp_path)
    again.parameters.write({"ct": patient_a[0].GetID(), "result_dose": result.dose})
    again.store.dispatch(on.SceneLoaded())
    view = result_view(again.state)
    assert (view.run, view.can_display) == (result.run, False)
    assert "Predict again" in view.why_not
    again.store.dispatch(on.RemovePressed())
    assert not [name for name in node_names() if "predicted" in name]
    again.watch.stop()


def test_goals_display_and_files_of_a_result(
    bench: Bench, patient_a: tuple[Any, Any, Any], tmp_path: Path
) -> None:
    bench.predict()
    assert bench.parameters.choices.goals == "pelvis_nodal_45_50"
    assert result_view(bench.state).tables["goals"].rows
    bench.choose(goals="prostate_78_39")
    assert bench.state.result is not None
    assert bench.state.result.goals == "prostate_78_39"
    bench.choose(goals="/there/is/none.json")
    assert "none.json" in bench.notices[0]
    bench.choose(shown="plan", isodoses=True)
    assert composite().GetForegroundVolumeID() == patient_a[2].GetID()
    bench.choose(shown="change")
    assert bench.parameters.choices.shown == "prediction"
    assert "none.json" in bench.notices[0]  # an error stays on top
    assert "another result" in bench.notices[1]
    for kind, name in (("dose", "dose.nii.gz"), ("tables", "tables"), ("dose", "dose.dcm")):
        bench.dialogs.path = str(tmp_path / name)
        bench.store.dispatch(on.ExportPressed(kind))  # type: ignore[arg-type]
        bench.until(lambda: bool(bench.notices))
        assert bench.notices[0].startswith("Written"), bench.notices
        assert (tmp_path / name).exists()
    assert "does not come from DICOM" in bench.notices[0]
    bench.dialogs.path = str(tmp_path / "report.html")
    bench.store.dispatch(on.ExportPressed("report"))
    bench.until(lambda: bool(bench.dialogs.opened))
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_finding_is_jumped_to_and_the_layout_is_shown(
    bench: Bench, patient_a: tuple[Any, Any, Any]
) -> None:
    bench.predict()
    red = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    bench.store.dispatch(on.FindingClicked((10.0, 20.0, 30.0)))
    matrix = slicer.util.arrayFromVTKMatrix(red.GetSliceToRAS())
    assert np.allclose(matrix[:3, 3], (-10.0, -20.0, 30.0))
    bench.store.dispatch(on.LayoutPressed())
    assert bench.notices == []


def test_what_was_kept_beside_the_dose_can_be_shown(
    bench: Bench, patient_a: tuple[Any, Any, Any]
) -> None:
    bench.choose(keep_coarse=True)
    bench.predict()
    layers = result_view(bench.state).layers
    (role,) = [each for each in layers if ":" in each]
    assert layers[role] == "Coarse dose"
    bench.choose(shown=role)
    assert bench.state.result is not None
    coarse = result_nodes(bench.state.result.run)[role]
    assert composite().GetForegroundVolumeID() == coarse.GetID()
    assert bench.notices == []


def test_samples_are_thin_curves_and_their_spread_a_volume_that_is_no_dose(
    bench: Bench, patient_a: tuple[Any, Any, Any], services: Services, tmp_path: Path
) -> None:
    bench.choose(model="drawing", samples=3, seed=5)
    bench.predict()
    view = result_view(bench.state)
    assert view.has_bands and view.bands.endswith("Thin curves: 3 samples, seeds 5 to 7.")
    assert set(view.layers.values()) >= {"Spread of the prediction", "Expected error"}
    nodes = result_nodes(view.run)
    doses = {role for role, node in nodes.items() if node.GetAttribute("DicomRtImport.DoseVolume")}
    assert doses == {"dose"} and "spread:sample_spread" in nodes
    assert not any(role.startswith("sample:") for role in nodes)  # eight doses would be too many

    series, table = nodes["series-samples:Rectum"], nodes["samples"].GetTable()
    columns = [table.GetColumnByName(name) for name in ("Rectum", "Volume")]
    dose_gy, volume = ([each.GetValue(n) for n in range(3 * 101)] for each in columns)
    assert volume[:2] == [0.0, 1.0] and volume[99:103] == [99.0, 100.0, 100.0, 99.0]
    by_sample = np.reshape(dose_gy, (3, 101))
    assert not np.array_equal(by_sample[0], by_sample[2])
    assert np.all(np.diff(by_sample[0]) <= 0) and np.all(np.diff(by_sample[1]) >= 0)
    assert "series-samples:Body" not in nodes

    chart = nodes["chart"]
    assert chart.HasPlotSeriesNodeID(series.GetID())
    bench.choose(bands=False)
    assert not chart.HasPlotSeriesNodeID(series.GetID())
    bench.choose(bands=True)
    services.forget_scene()
    bench.watch.stop()
    again = Bench(services, tmp_path)
    again.parameters.write({"ct": patient_a[0].GetID(), "result_dose": view.dose})
    again.store.dispatch(on.SceneLoaded())
    assert result_view(again.state).bands == view.bands and result_view(again.state).has_bands
    again.dialogs.path = str(tmp_path / "report.html")
    again.store.dispatch(on.ExportPressed("report"))
    again.until(lambda: Path(again.dialogs.path).is_file())
    assert "Thin: 3 samples (seed 5)" in Path(again.dialogs.path).read_text(encoding="utf-8")
    again.watch.stop()


def test_places_structures_and_levels_reach_the_scene(
    bench: Bench, patient_a: tuple[Any, Any, Any]
) -> None:
    bench.predict()
    state = bench.state.result
    assert state is not None
    red = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    result = bench.services.result(slicer.mrmlScene.GetNodeByID(state.dose))
    assert result is not None
    goals = result_view(bench.state).tables["goals"]
    row = next(n for n, place in enumerate(goals.places) if place[0] == "Rectum")
    bench.choose(marks=True)
    bench.store.dispatch(on.PlaceAsked(*goals.places[row]))
    place = worst_place(result, "Rectum", goals.places[row][1])  # type: ignore[arg-type]
    matrix = slicer.util.arrayFromVTKMatrix(red.GetSliceToRAS())
    assert np.allclose(matrix[:3, 3], place.ras)
    assert f"{place.dose_gy:.2f} Gy" in bench.state.probe
    assert result_nodes(state.run)["marks"].GetNumberOfControlPoints() == 1
    bench.choose(marks=False)
    assert "marks" not in result_nodes(state.run)
    bench.store.dispatch(on.StructureToggled("Rectum", False))
    chart = result_nodes(state.run)["chart"]
    series = result_nodes(state.run)["series:Rectum"].GetID()
    assert not chart.HasPlotSeriesNodeID(series)
    bench.store.dispatch(on.StructureHovered("Bladder"))
    bench.store.dispatch(on.LevelsTyped("50 %"))
    assert bench.ports_levels() == "50 %"
    assert bench.notices == []


def test_bands_are_shown_switched_and_restored(
    bench: Bench,
    patient_a: tuple[Any, Any, Any],
    services: Services,
    models: Path,
    tmp_path: Path,
) -> None:
    folder = read_model_folder(models / "random-pelvis")
    calibration = calibrate(folder, "PTV", "Rectum", "Bladder")
    try:
        bench.predict()
    finally:
        calibration.unlink()
    view = result_view(bench.state)
    assert view.has_bands
    assert view.bands.startswith(f"90 % and 50 % bands, calibrated on {PATIENTS} patients. Plan: ")
    assert "curves lie outside the 90 % bands" in view.bands
    assert view.tables["goals"].headers[-2:] == ("90 %", "Likely")
    likely = [row[-1] for row in view.tables["goals"].rows]
    assert any("% (" in cell.tool_tip and cell.text.endswith(" %") for cell in likely)
    assert any(cell.tool_tip.endswith("was not calibrated") for cell in likely)
    assert view.tables["review"].rows  # a random model's plan lies anywhere
    named = result_nodes(view.run)
    assert named["review"].GetNumberOfRows() == len(view.tables["review"].rows)
    assert named["goals"].GetTable().GetColumnByName("Likely to be met") is not None
    mean = next(row for row in view.tables["dvh"].rows if row[0].text == "Rectum")[3]
    assert "(90 %)" in mean.tool_tip and "(50 %)" in mean.tool_tip
    chart = result_nodes(view.run)["chart"]
    band = result_nodes(view.run)["series-band-90:Rectum"].GetID()
    assert chart.HasPlotSeriesNodeID(band)
    bench.choose(bands=False)
    assert not chart.HasPlotSeriesNodeID(band)
    bench.choose(bands=True)
    assert chart.HasPlotSeriesNodeID(band)
    services.forget_scene()
    bench.watch.stop()
    again = Bench(services, tmp_path)
    again.parameters.write({"ct": patient_a[0].GetID(), "result_dose": view.dose})
    again.store.dispatch(on.SceneLoaded())
    assert result_view(again.state).bands == view.bands
    assert result_view(again.state).tables["goals"] == view.tables["goals"]
    assert result_view(again.state).tables["review"] == view.tables["review"]
    again.until(lambda: again.is_at_rest)
    again.predict()  # nothing is calibrated any more
    view = result_view(again.state)
    assert view.bands == "No bands and no probabilities of goals: the model was not calibrated."
    assert {"90 %", "Likely"}.isdisjoint(view.tables["goals"].headers)
    assert not view.tables["review"].rows
    assert "review" not in result_nodes(view.run)
    again.watch.stop()


def test_whether_a_plan_could_give_the_dose_is_answered_also_for_a_reopened_one(
    bench: Bench, patient_a: tuple[Any, Any, Any], services: Services, tmp_path: Path
) -> None:
    bench.predict()
    bench.store.dispatch(on.DeliverablePressed())
    bench.until(lambda: bool(plan_view(bench.state).answer.count("Gy")))
    # Without a choice they are those of the plans behind the protocol's limits.
    assert "A plan on 9 beams reproduces" in plan_view(bench.state).answer
    result = bench.state.result
    assert result is not None
    services.forget_scene()
    bench.watch.stop()
    again = Bench(services, tmp_path)
    nodes = {"ct": patient_a[0], "segmentation": patient_a[1], "plan_dose": patient_a[2]}
    ids = {name: node.GetID() for name, node in nodes.items()}
    again.parameters.write({**ids, "result_dose": result.dose, "plan_beams": "9"})
    again.store.dispatch(on.SceneLoaded())
    again.until(lambda: again.is_at_rest)
    again.store.dispatch(on.DeliverablePressed())
    again.until(lambda: bool(plan_view(again.state).answer.count("Gy")))
    assert "A plan on 9 beams reproduces this dose to" in plan_view(again.state).answer
    again.watch.stop()


def test_the_mouse_over_the_slices_is_told_what_lies_there(
    bench: Bench, patient_a: tuple[Any, Any, Any]
) -> None:
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    slicer.mrmlScene.AddNode(crosshair)
    bench.predict()
    assert bench.state.result is not None
    result = bench.services.result(slicer.mrmlScene.GetNodeByID(bench.state.result.dose))
    assert result is not None
    place = worst_place(result, "PTV", "hot")
    crosshair.SetCursorPositionRAS(place.ras)
    bench.until(lambda: bool(bench.state.probe))
    assert "Gy = " in bench.state.probe and "PTV" in bench.state.probe
    crosshair.SetCursorPositionRAS((5000.0, 0.0, 0.0))
    bench.until(lambda: not bench.state.probe)
    bench.store.dispatch(on.RemovePressed())
    crosshair.SetCursorPositionRAS(place.ras)
    bench.until(lambda: bench.is_at_rest)
    assert bench.state.probe == ""


def edit(segmentation: Any, name: str, planes: int) -> None:
    """A stroke that takes planes away, as Segment Editor states it."""
    segment = segmentation.GetSegmentation().GetSegment(
        segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
    )
    image = segment.GetRepresentation("Binary labelmap")
    array = array_of_image(image)
    filled = np.flatnonzero(array.any(axis=(1, 2)))
    array[filled[:planes]] = 0
    image.GetPointData().GetScalars().Modified()
    image.Modified()
    segmentation.GetSegmentation().InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified)


def test_live_strokes_are_predicted_and_older_requests_dropped(
    bench: Bench, patient_a: tuple[Any, Any, Any]
) -> None:
    bench.predict()
    bench.choose(live=True)
    first = bench.state.result
    assert first is not None
    edit(patient_a[1], "Bladder", 1)
    bench.until(lambda: bench.state.run is not None and bench.state.run.order.is_live)
    edit(patient_a[1], "Bladder", 1)  # the first request is of no interest any more
    bench.until(lambda: bench.state.result is not first and bench.is_at_rest)
    live = bench.state.result
    assert live is not None and live.is_live
    assert bench.notices == []
    assert result_view(bench.state).tables["change"].rows
    nodes = len(node_names())
    edit(patient_a[1], "Bladder", 1)
    bench.until(lambda: bench.state.result is not live and bench.is_at_rest)
    assert bench.state.result is not None
    assert bench.state.result.dose == live.dose
    assert len(bench.state.results) == 2
    assert len(node_names()) == nodes


def test_each_choice_of_beams_or_wishes_is_its_own_dose(bench: Bench) -> None:
    """Of a patient whose scene knows the beams of a plan, then those of another plan's file."""
    case = replace(pelvis_case((32, 32, 24), (12.0, 12.0, 8.0)), beams=parse_beams("75,285"))
    ct, segmentation, _plan = load_case(case)
    bench.choose(ct=ct, segmentation=segmentation, model="beams", device="cpu")
    doses, findings = {}, {}
    for choice in ("", "plan", "0,90"):
        bench.choose(beams=choice)
        bench.until(lambda: bench.is_ready and bench.is_at_rest)
        findings[choice] = {finding.id for finding in bench.state.findings}
        bench.predict()
        assert bench.state.result is not None, bench.notices
        prediction = bench.services.prediction(bench.node(bench.state.result.dose))
        assert prediction is not None
        stated = prediction.case.beams
        doses[choice] = prediction.dose.array.copy(), stated and stated.gantry_degrees
    assert [angles for _, angles in doses.values()] == [None, [75, 285], [0, 90]]
    assert "beams-unlike-model" in findings["plan"] - findings[""]
    assert len(bench.state.results) == 3
    assert "45 Gy, beams 0,90" in bench.state.result.label
    for one, other in (("", "plan"), ("plan", "0,90")):
        assert np.abs(doses[one][0] - doses[other][0]).max() > 0.5
    wish = "Rectum V40Gy <= 20 %"
    bench.choose(wishes=wish)
    bench.until(lambda: bench.is_ready and bench.is_at_rest)
    bench.predict()
    assert bench.state.result is not None and f"beams 0,90, {wish}" in bench.state.result.label
    wished = bench.services.prediction(bench.node(bench.state.result.dose))
    assert wished is not None and [str(each) for each in wished.case.wishes] == [wish]
    assert np.abs(wished.dose.array - doses["0,90"][0]).max() > 0.1
    (restored,) = [
        each for each in restored_states(bench.store.executor.context) if wish in each.label
    ]
    assert restored.settings == bench.state.result.settings
    bench.choose(wishes="Rectum V30Gy <= 20 %")
    bench.until(lambda: any(each.id == "wish-refused" for each in bench.state.findings))
    (refused,) = [each for each in bench.state.findings if each.id == "wish-refused"]
    assert "does not know the goal Rectum V30Gy <= 20 %: it takes Rectum V40Gy" in refused.message
    bench.choose(wishes="")
    for path, choice in ((RTPLAN.with_name("RS.dcm"), "0,90"), (RTPLAN, "plan")):
        bench.dialogs.plan = str(path)
        bench.store.dispatch(on.PlanBeamsPressed())
        bench.until(lambda: bench.is_at_rest)
        assert bench.parameters.choices.beams == choice
        assert any("is no RTPLAN" in text for text in bench.notices) is (path != RTPLAN)
    assert from_text(ct.GetAttribute(BEAMS)).gantry_degrees == [0, 270, 180, 90]


def test_margin_over_another_segment_is_a_finding(
    bench: Bench, patient_a: tuple[Any, Any, Any]
) -> None:
    """Bladder grows over the PTV, and PTV and Body lose what it takes."""
    bench.predict()
    segmentation = patient_a[1].GetSegmentation()

    def image(name: str) -> Any:
        id = segmentation.GetSegmentIdBySegmentName(name)
        return segmentation.GetSegment(id).GetRepresentation("Binary labelmap")

    ptv, body = array_of_image(image("PTV")), array_of_image(image("Body"))
    bladder = array_of_image(image("Bladder"))
    assert ptv.shape == body.shape == bladder.shape
    taken = ptv.astype(bool) & (np.arange(ptv.shape[0]) % 2 == 0)[:, None, None]
    ptv[taken], bladder[taken] = 0, 1
    body[bladder.astype(bool)] = 0
    for name in ("PTV", "Body", "Bladder"):
        image(name).GetPointData().GetScalars().Modified()
        image(name).Modified()
    segmentation.InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified)
    bench.until(lambda: run_view(bench.state).button.text == "Update")
    bench.until(lambda: bench.is_ready and bench.is_at_rest)
    found = {finding.id: finding for finding in bench.state.findings}
    assert "to Bladder" in found["segment-eaten"].message
    assert "Bladder" in found["external-completed"].message
    bench.predict()
    assert bench.state.result is not None
    result = bench.services.result(slicer.mrmlScene.GetNodeByID(bench.state.result.dose))
    assert result is not None
    before = bench.services.result(
        slicer.mrmlScene.GetNodeByID(bench.parameters.choices.compared_dose)
    )
    assert before is not None
    mean = result.measures.predicted["Bladder"].mean_gy
    assert mean is not None and mean > 0.3 * (before.measures.predicted["Bladder"].mean_gy or 0)


def test_structures_are_matched_by_name_and_by_hand(
    bench: Bench, patient_a: tuple[Any, Any, Any]
) -> None:
    bench.store.dispatch(on.CorrectionChosen("Bladder", None))
    rows = {row.channel: row for row in structures_view(bench.state).rows}
    assert rows["Bladder"].structure is None
    assert rows["Rectum"].structure == "Rectum"
    bench.choose(segmentation="")
    bench.choose(segmentation=patient_a[1])
    assert dict(bench.parameters.choices.corrections) == {"Bladder": ""}
    slicer.mrmlScene.RemoveNode(patient_a[1])
    assert structures_view(bench.state).rows == ()


def run_inputs(nodes: tuple[Any, Any, Any], **more: Any) -> RunInputs:
    options = PredictOptions(device="cpu")
    return RunInputs(*nodes, model="random-pelvis", options=options, **more)


def test_without_a_panel_a_script_waits_for_the_dose(bench: Bench, services: Services) -> None:
    nodes = patient("A")
    result = predict_blocking(ready_inputs(run_inputs(nodes), services), services, 60.0)
    assert services.result(result.dose) is result
    assert bench.state.result is None  # it is the script's
    services.remove(result.dose)
    assert not [name for name in node_names() if "predicted" in name]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_without_a_panel_a_deleted_input_is_a_sentence_too(
    bench: Bench, services: Services, which: int
) -> None:
    nodes, errors = patient("A"), []
    run = start_run(
        run_inputs(nodes),
        services,
        on_finished=lambda result: errors.append("finished"),
        on_progress=lambda share, stage: None,
        on_error=lambda error, details: errors.append(str(error)),
    )
    bench.turn()
    name = nodes[which].GetName()
    slicer.mrmlScene.RemoveNode(nodes[which])
    assert not run.is_running
    assert len(errors) == 1
    assert errors[0].startswith(f"{name} was removed from the scene")


def test_the_data_probe_writes_gray_with_two_decimals_and_leaves_the_rest(bench: Bench) -> None:
    case = pelvis_case((16, 16, 12), (20.0, 20.0, 16.0))
    assert case.plan_dose is not None
    ct, dose = volume_node(case.ct, "ct"), volume_node(case.plan_dose, "dose")
    units = slicer.vtkCodedEntry()
    units.SetValueSchemeMeaning("Gy", "UCUM", "Gray")
    dose.SetVoxelValueUnits(units)
    assert gray_text(dose, "41.970348") == "41.97 Gy"
    assert gray_text(dose, "Out of Frame") == "Out of Frame"
    assert gray_text(ct, "41.970348") == "41.970348"
    assert gray_text(None, "No volume") == "No volume"

    class Probe:
        def getPixelString(self, volume: Any, ijk: Any) -> str:
            return "0.5"

    class Modules:
        class DataProbeInstance:
            infoWidget = Probe()

    before, slicer.modules = getattr(slicer, "modules", None), Modules
    try:
        show_doses_in_gray()
        show_doses_in_gray()  # wrapped once
        text = Modules.DataProbeInstance.infoWidget.getPixelString(dose, (0, 0, 0))
    finally:
        slicer.modules = before
    assert text == "0.50 Gy"


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_sample_comes_from_what_sample_data_fetches_of_it(
    bench: Bench, tmp_path: Path, name: str
) -> None:
    """Of the folders one file, whose name says which case it is; its plan says that it is one."""
    place = ROOT / "Resources" / "SampleData" / Path(*SAMPLES[name])
    fetched = tmp_path / (f"{name}{SAMPLE_SUFFIX}" if place.is_dir() else place.name)
    shutil.copy(place / "case.json" if place.is_dir() else place, fetched)
    slicer.util.setSliceViewerLayers = lambda **layers: None  # needs a window
    nodes = load_case_file(fetched)
    bench.until(lambda: bench.is_at_rest)
    assert facts_of(nodes.plan_dose).is_dose
    p = bench.parameters.choices
    assert (p.ct, p.segmentation, p.plan_dose) == tuple(node.GetID() for node in nodes)
    with pytest.raises(ValueError):
        load_case_file(tmp_path / "none.npz")


def test_the_examples_of_the_logic_are_about_structures_that_the_sample_has() -> None:
    from DosePredictionLib.io import read_case

    text = (PANEL.parent / "DosePrediction.py").read_text(encoding="utf-8")
    case = read_case(ROOT / "Resources" / "SampleData" / "openkbp" / "pt_235.npz")
    named = re.findall(r"mapping=\{\"(\w+)\": (?:None|\"(\w+)\")\}", text)
    assert named
    for channel, structure in named:
        assert channel in case.structures
        assert not structure or structure in case.structures


def test_the_curve_under_the_mouse_is_the_nearest_solid_one(bench: Bench) -> None:
    """On VTK's chart as it is drawn: two structures, and the plan's curve of one of them."""
    view = vtk.vtkContextView()
    view.GetRenderWindow().SetOffScreenRendering(True)
    view.GetRenderWindow().SetSize(400, 300)
    chart = vtk.vtkChartXY()
    view.GetScene().AddItem(chart)
    curves = {"PTV": [100, 100, 0], "Rectum": [100, 20, 0], "Rectum (plan)": [100, 60, 0]}
    tables = []
    for name, volume in curves.items():
        table = vtk.vtkTable()
        for column, values in (("Dose", [0.0, 30.0, 60.0]), ("Volume", volume)):
            array = numpy_to_vtk(np.array(values, dtype=float), deep=True)
            array.SetName(column)
            table.AddColumn(array)
        plot = chart.AddPlot(vtk.vtkChart.LINE)
        plot.SetInputData(table, 0, 1)
        plot.SetLabel(name)
        tables.append(table)
    view.GetRenderWindow().Render()

    def pixel(dose_gy: float, percent: float) -> tuple[int, int]:
        place = []
        for number, value in ((1, dose_gy), (0, percent)):
            axis, along = chart.GetAxis(number), 1 - number
            low, high = axis.GetPoint1()[along], axis.GetPoint2()[along]
            share = (value - axis.GetMinimum()) / (axis.GetMaximum() - axis.GetMinimum())
            place.append(round(low + share * (high - low)))
        return place[0], place[1]

    assert curve_at(chart, pixel(30, 21)) == "Rectum"
    assert curve_at(chart, pixel(30, 99)) == "PTV"
    assert curve_at(chart, pixel(30, 60)) == ""  # the plan's, which is dashed
    assert curve_at(chart, pixel(45, 49)) == "PTV"  # between two knots


def test_only_nodes_that_a_selector_may_offer_are_watched(bench: Bench) -> None:
    before = bench.state
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")
    slicer.mrmlScene.RemoveNode(model)
    assert bench.state is before
