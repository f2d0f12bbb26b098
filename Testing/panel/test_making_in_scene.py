"""Plans in a real scene, made by the planner (slow: in its own process), cancelled, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from legs import leg

slicer = pytest.importorskip("slicer")
pytest.importorskip("pyRadPlan")

from DosePredictionPanel.flow import events as on  # noqa: E402
from DosePredictionPanel.flow import plan_messages as plans  # noqa: E402
from DosePredictionPanel.making_view import making_view  # noqa: E402
from DosePredictionPanel.prepared import prepare_steps  # noqa: E402
from DosePredictionPanel.services import KeptResult, Services  # noqa: E402
from DosePredictionPanel.views import result_view  # noqa: E402
from scene.conftest import scene  # noqa: E402, F401 - a fixture
from scene.nodes import nodes_of  # noqa: E402
from scene.predictions import prediction_of  # noqa: E402
from scene_bench import Bench, LoopClock, PipeWorker  # noqa: E402

from DosePredictionLib.errors import PredictionCancelled  # noqa: E402
from DosePredictionLib.evaluation.goals import GoalSet  # noqa: E402
from DosePredictionLib.models.dose_model import DoseModel  # noqa: E402
from DosePredictionLib.scene import Keeping, add_result, finish  # noqa: E402
from DosePredictionLib.scene.loading import BEAMS  # noqa: E402
from DosePredictionLib.worker.exchange import CaseReader, write_prediction  # noqa: E402
from DosePredictionLib.worker.messages import Check, Failure, MakePlan, Progress  # noqa: E402
from DosePredictionLib.worker.plan_jobs import make_plan  # noqa: E402
from DosePredictionLib.worker.side_jobs import check  # noqa: E402

TEMPLATE = "pelvis_nodal_45_50"
TWO_BEAMS = (
    '{"beams": [{"gantry_degrees": 0, "stop_degrees": null}, '
    '{"gantry_degrees": 90, "stop_degrees": null}]}'
)


class WorkerHere:
    """The planner's work in this process: the next turn of the loop does it whole."""

    def __init__(self, scratch: Path, packages: Path | None = None) -> None:
        self._waiting: list[tuple[Any, Callable[[Any], None]]] = []
        self._cancelled = False

    def send(self, request: Any, on_reply: Callable[[Any], None]) -> None:
        self._waiting.append((request, on_reply))
        self._cancelled = False

    def cancel(self, id: str) -> None:
        self._cancelled = True

    def stop(self, wait: bool = False) -> None:
        self._waiting.clear()

    def take_up(self) -> None:
        while self._waiting:
            request, on_reply = self._waiting.pop(0)
            on_reply(self._answer(request, on_reply))

    def _answer(self, request: Any, on_reply: Callable[[Any], None]) -> Any:
        if isinstance(request, Check):
            return check(request, CaseReader())[0]
        assert isinstance(request, MakePlan)

        def heard(share: float, stage: str) -> None:
            on_reply(Progress(request.id, share, stage))

        try:
            return make_plan(request, heard, lambda: self._cancelled)
        except PredictionCancelled as error:
            return Failure(request.id, "PredictionCancelled", str(error))


@pytest.fixture(params=["here", pytest.param("process", marks=pytest.mark.slow)])
def bench(
    request: pytest.FixtureRequest,
    scene: Any,  # noqa: F811
    pelvis_model: DoseModel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Bench]:
    """A prediction is shown, without a network: the plan's dose of a leg."""
    monkeypatch.setenv("DOSE_PREDICTION_MODELS", str(pelvis_model.folder.parent))
    scene.AddNewNodeByClass("vtkMRMLPlotViewNode")
    make = {"here": WorkerHere, "process": PipeWorker}[request.param]
    services = Services(make, LoopClock())
    ct, segmentation, _plan = nodes_of(replace(leg(), plan_dose=None))
    ct.SetAttribute(BEAMS, TWO_BEAMS)
    prepared = finish(prepare_steps(ct, segmentation, None, services.scratch.new("case")))
    source = prepared.source()
    prediction = prediction_of(replace(source.case, plan_dose=leg().plan_dose), pelvis_model, 1.0)
    prediction = replace(prediction, case=source.case, seconds={"total": 1.0})
    output = services.scratch.new("prediction")
    write_prediction(output, prediction)
    keeping = Keeping("45 Gy", goals=TEMPLATE)
    result = add_result(prediction, source, goals=GoalSet.load(TEMPLATE), keeping=keeping)
    services.keep_result(KeptResult(result, prepared, output))
    bench = Bench(services, tmp_path)
    bench.choose(ct=ct, segmentation=segmentation)
    bench.store.dispatch(on.Entered())
    bench.until(lambda: bench.is_at_rest)
    bench.store.dispatch(on.ResultChosen(result.dose.GetID()))
    bench.until(lambda: bench.is_at_rest)
    assert bench.state.result is not None, bench.state.results
    yield bench
    bench.watch.stop()
    bench.store.dispatch(on.PanelClosed())
    services.close()


def test_a_plan_comes_stands_beside_the_prediction_and_is_written(
    bench: Bench, tmp_path: Path
) -> None:
    base = bench.state.result
    assert base is not None and making_view(bench.state).can_make
    bench.store.dispatch(plans.MakePlanPressed())
    bench.until(lambda: bench.state.making.run is None, 600)
    shown = bench.state.result
    assert shown is not None and shown.plan is not None, bench.notices
    assert [each.run for each in bench.state.results] == [base.run, shown.run]
    bench.until(lambda: bench.is_at_rest)
    node = bench.node(shown.dose)
    assert node.GetName().endswith("dose of the plan")
    assert node.GetAttribute("DicomRtImport.DoseVolume") is not None
    view = result_view(bench.state)
    assert view.other == base.dose
    assert {cells[1].text for cells in view.tables["dvh"].rows} == {"A", "B"}
    made = making_view(bench.state)
    assert "2 beams" in made.summary and Path(made.picture).is_file() and made.limits.rows
    given = tmp_path / "given"
    given.mkdir()
    bench.dialogs.path = str(given)
    bench.store.dispatch(on.ExportPressed("plan"))
    bench.until(lambda: bench.state.message is not None)
    (folder,) = given.iterdir()
    written = pydicom.dcmread(folder / "rtplan.dcm")
    assert [beam.ControlPointSequence[0].GantryAngle for beam in written.BeamSequence] == [0, 90]


def test_cancelled_in_its_midst_or_killed_nothing_is_left(bench: Bench) -> None:
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    scratch = bench.services.scratch.root
    before = sorted(path.name for path in scratch.iterdir())
    is_process = isinstance(bench.services.planner.worker, PipeWorker)
    bench.services.planner.stop()
    for end in ("cancel", "kill") if is_process else ("cancel",):
        bench.store.dispatch(plans.MakePlanPressed())
        if is_process:
            bench.until(lambda: stage(bench) == "influence matrix", 600)
        if end == "cancel":
            bench.store.dispatch(plans.PlanCancelPressed())
        else:
            bench.services.planner.worker.kill()
        bench.until(lambda: bench.state.making.run is None, 600)
        assert slicer.mrmlScene.GetNumberOfNodes() == nodes
        expected = "Cancelled. No plan was made." if end == "cancel" else "ended by the system"
        assert expected in bench.notices[0]
        if end == "cancel":
            assert sorted(path.name for path in scratch.iterdir()) == before


def test_cancelled_while_its_files_are_fetched_no_plan_begins(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[Callable[[Any], None]] = []
    fetch = lambda _dose, begin, _failed: waiting.append(begin)  # noqa: E731
    monkeypatch.setattr(bench.services, "with_files", fetch)
    assert bench.state.result is not None
    kept = bench.services.kept(bench.node(bench.state.result.dose))
    for end in (plans.PlanCancelPressed(), on.PanelClosed()):
        bench.store.dispatch(plans.MakePlanPressed())
        bench.store.dispatch(end)
        waiting.pop()(kept)
        assert bench.services.planner.process is None
        assert bench.state.making.run is None and len(bench.state.results) == 1


def stage(bench: Bench) -> str:
    run = bench.state.making.run
    assert run is not None, bench.notices
    return run.stage
