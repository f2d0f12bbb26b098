"""What all logics of one Slicer share: the worker, its folders, and the results in the scene."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .clock import Clock
from .i18n import _
from .plan_copies import copied_of_plan, write_plan
from .planner import Planner
from .prepared import PreparedInputs, Scratch, prepare_steps
from .steps import StepRunner

if TYPE_CHECKING:
    from DosePredictionLib.beams.arrangement import BeamArrangement
    from DosePredictionLib.findings import Finding
    from DosePredictionLib.prediction import Prediction
    from DosePredictionLib.scene import SceneResult, Step

__all__ = ["KeptResult", "Services", "Worker", "services"]


class Worker(Protocol):
    """A process that predicts; Qt's is `worker_process.WorkerProcess`."""

    @property
    def is_running(self) -> bool:
        """Whether the process is up or coming up."""

    def send(self, request: Any, on_reply: Callable[[Any], None]) -> None:
        """Send a request that has an `id`; `on_reply` gets every reply to it.

        Raises:
            WorkerError: the worker cannot be started.
        """

    def cancel(self, id: str) -> None:
        """Ask the worker to stop; one that does not within a few seconds is ended."""

    def wait(self, is_done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait without an event loop; false when the time ran out."""

    def stop(self, wait: bool = False) -> None:
        """Ask the worker to end, and let it. What waits fails."""

    def kill(self) -> None:
        """End the worker and its children at once; what waits fails."""


class KeptResult(NamedTuple):
    """A result and what it came from: the inputs and the worker's folder.

    Both are None for a result that came with the scene, until its files are needed.
    """

    result: SceneResult
    prepared: PreparedInputs | None = None
    output: Path | None = None


class Services:
    """One worker for the panel, the console and scripts alike, and one that plans.

    Args:
        make_worker: called with the folder of the exchanged cases; for the planner also with the
            folder of its packages.
        clock: of the event loop.
        planner_folder: see `planner.Planner`.
    """

    def __init__(
        self, make_worker: Callable[..., Worker], clock: Clock, planner_folder: Path | None = None
    ) -> None:
        self.scratch = Scratch()
        self.planner = Planner(make_worker, self.scratch, planner_folder)
        self.clock = clock
        self._make_worker = make_worker
        self._numbers = itertools.count(1)
        self._worker: Worker | None = None
        self._prepared: PreparedInputs | None = None
        self._results: dict[str, KeptResult] = {}

    @property
    def worker(self) -> Worker:
        """The worker; its process starts with the first request.

        Raises:
            WorkerError: there is no temporary folder to exchange cases in.
        """
        if self._worker is None:
            self._worker = self._make_worker(self.scratch.root)
        return self._worker

    def stop_worker(self) -> None:
        """End the worker's process; the next request starts another."""
        if self._worker is not None:
            self._worker.stop()

    @property
    def workers(self) -> list[Worker]:
        """Those whose process has been asked for."""
        return [each for each in (self._worker, self.planner.process) if each is not None]

    @property
    def last_prepared(self) -> PreparedInputs | None:
        """The inputs as last read, whichever."""
        return self._prepared

    def prepared(self, ct: Any, segmentation: Any, plan_dose: Any) -> PreparedInputs | None:
        """The inputs as last read, if they are these and nothing has changed since."""
        from DosePredictionLib.scene import what_changed

        last = self._prepared
        if last is None or not last.folder.is_dir():
            return None
        light = last.light
        plan_id = plan_dose.GetID() if plan_dose is not None else None
        wanted = (ct.GetID(), segmentation.GetID(), plan_id)
        if wanted != (light.ct_id, light.segmentation_id, light.plan_dose_id):
            return None
        return None if what_changed(light.fingerprint, ct, segmentation, plan_dose) else last

    def keep_prepared(self, prepared: PreparedInputs) -> None:
        """Remember the inputs just read instead of the ones before."""
        last, self._prepared = self._prepared, prepared
        if last is not None and last is not prepared and last not in self._used():
            self.scratch.discard([last.folder])

    def keep_result(self, kept: KeptResult) -> None:
        """Remember a result by its dose node; the one it replaces is forgotten."""
        id = kept.result.nodes["dose"].GetID()
        self.forget_result(id)
        self._results[id] = kept

    def replace_result(self, result: SceneResult) -> None:
        """The same run with other tables."""
        id = result.nodes["dose"].GetID()
        self._results[id] = self._results[id]._replace(result=result)

    def forget_result(self, dose_id: str) -> None:
        """Forget a result; its nodes are not touched."""
        if dose_id not in self._results:
            return
        gone = self._results.pop(dose_id)
        if gone.output is not None:
            self.scratch.discard([gone.output])
        prepared = gone.prepared
        is_used = prepared is self._prepared or prepared in self._used()
        if prepared is not None and not is_used:
            self.scratch.discard([prepared.folder])

    def kept(self, dose: Any) -> KeptResult | None:
        """The result that a dose node belongs to, if it was made in this session."""
        return self._results.get(dose.GetID()) if dose is not None else None

    def results(self) -> list[SceneResult]:
        """All that are known, the oldest first."""
        return sorted((kept.result for kept in self._results.values()), key=lambda each: each.run)

    def result(self, dose: Any) -> SceneResult | None:
        """Nodes and numbers of a dose node's prediction."""
        kept = self.kept(dose)
        return kept.result if kept else None

    def result_or_raise(self, dose: Any) -> SceneResult:
        """As `result`.

        Raises:
            ValueError: the dose was not predicted in this session.
        """
        result = self.result(dose)
        if result is None:
            raise ValueError(
                _("{name} was not predicted in this session. Predict it again.").format(
                    name=dose.GetName() if dose is not None else "None"
                )
            )
        return result

    def prediction(self, dose: Any) -> Prediction | None:
        """The whole prediction of a dose node, voxels memory-mapped."""
        from DosePredictionLib.worker.exchange import read_prediction

        kept = self.kept(dose)
        if kept is None or kept.prepared is None or kept.output is None:
            return None
        if not kept.output.is_dir():
            return None
        return read_prediction(kept.output, kept.prepared.source().case)

    def prediction_or_raise(self, dose: Any) -> Prediction:
        """As `prediction`; for a result that came with the scene its files are written first.

        Raises:
            ValueError: its files are gone, or its inputs are not what they were.
        """
        from DosePredictionLib.scene import finish

        kept = self.kept(dose)
        if kept is not None and kept.output is None:
            finish(self.file_steps(dose))
        prediction = self.prediction(dose)
        if prediction is None:
            raise ValueError(_("The prediction's files are gone. Predict again."))
        return prediction

    def file_steps(self, dose: Any) -> Generator[Step, None, None]:
        """Write the files of a result that came with the scene, a node or segment a step.

        Raises:
            ValueError: its inputs have gone or changed, or its model is not installed.
        """
        from DosePredictionLib.scene import (
            inputs_of,
            plan_of,
            prediction_of_result,
            require_same_inputs,
        )
        from DosePredictionLib.worker.exchange import read_exchanged_case, write_prediction

        result = self.result_or_raise(dose)
        require_same_inputs(result)
        ct, segmentation = inputs_of(dose)
        folder = self.scratch.new("case")
        prepared = yield from prepare_steps(ct, segmentation, plan_of(dose), folder)
        prediction = prediction_of_result(result, read_exchanged_case(folder))
        output = self.scratch.new("prediction")
        write_prediction(output, prediction, measures=result.measures)
        self._results[dose.GetID()] = KeptResult(result, prepared, output)

    def set_goals(self, dose: Any, template: str) -> SceneResult:
        """Hold a dose against another goal template: an id, the path of a file, "" for none."""
        from DosePredictionLib.evaluation.goals import GoalSet
        from DosePredictionLib.scene import set_goals

        goals = GoalSet.load(template) if template else None
        result = set_goals(self.result_or_raise(dose), goals, template)
        self.replace_result(result)
        return result

    def remove(self, dose: Any) -> None:
        """Delete exactly the nodes that the run of this dose made.

        Raises:
            ValueError: no prediction made it.
        """
        from DosePredictionLib.scene import remove_result

        run = dose.GetAttribute("DosePrediction.Run")
        if not run:
            raise ValueError(_("{name} was not made by a prediction.").format(name=dose.GetName()))
        self.forget_result(dose.GetID())
        remove_result(run)

    def write_dose(self, dose: Any, path: Path) -> Path:
        """Write a dose as NIfTI, NRRD or RTDOSE (`.dcm`), by the suffix."""
        from DosePredictionLib.scene import write_dose, write_result_rtdose

        if path.suffix != ".dcm":
            return write_dose(dose, path)
        if copied_of_plan(self.kept(dose), "rtdose.dcm", path):
            return path
        result = self.result_or_raise(dose)
        return write_result_rtdose(result, self.prediction_or_raise(dose), path)

    def write_plan(self, dose: Any, folder: Path) -> Path:
        """Write RTPLAN, RTDOSE, report, pictures and record of a plan into a folder in `folder`.

        Raises:
            ValueError: its files are gone; the folder is there already.
        """
        return write_plan(self.kept(dose), str(dose.GetName()), folder)

    def write_tables(self, dose: Any, folder: Path) -> list[Path]:
        """Write metrics, goals and scores as CSV."""
        from DosePredictionLib.scene import write_tables

        return write_tables(self.result_or_raise(dose), folder)

    def write_report(self, dose: Any, path: Path, done: Callable[[str, str], None]) -> None:
        """Have the worker write the report of a dose's prediction.

        Args:
            done: called with what went wrong and details to copy, or with empty texts.
        """
        from DosePredictionLib.worker.messages import Failure, WriteReport

        def replied(reply: Any) -> None:
            if isinstance(reply, Failure):
                done(reply.message, reply.details)
            else:
                done("", "")

        def send(case: str, prediction: str, result: SceneResult) -> None:
            id = f"report-{path.name}-{next(self._numbers)}"
            goals, samples = tuple(result.measures.goal_records), result.bands.samples
            self.worker.send(WriteReport(id, case, prediction, str(path), goals, samples), replied)

        if copied_of_plan(self.kept(dose), "report.html", path):
            done("", "")
            return
        self._with_files(dose, send, lambda error: done(error, ""))

    def check_deliverability(
        self,
        dose: Any,
        beams: BeamArrangement | None,
        done: Callable[[Finding | None, str, str], None],
    ) -> None:
        """Ask the worker how near a plan could come to a dose.

        Args:
            beams: None: the prediction's own, else the protocol's.
            done: called with the finding, or with what went wrong and details to copy.
        """
        from DosePredictionLib.worker.messages import CheckDeliverability, Failure

        def replied(reply: Any) -> None:
            if isinstance(reply, Failure):
                done(None, reply.message, reply.details)
            else:
                done(reply.findings[0], "", "")

        def send(case: str, prediction: str, _result: SceneResult) -> None:
            id = f"deliverability-{next(self._numbers)}"
            self.worker.send(CheckDeliverability(id, case, prediction, beams), replied)

        self._with_files(dose, send, lambda error: done(None, error, ""))

    def with_files(
        self, dose: Any, begin: Callable[[KeptResult], None], failed: Callable[[str], None]
    ) -> None:
        """Call with a dose's result once its files are there, or with why they are not."""

        def send(_case: str, _prediction: str, _result: SceneResult) -> None:
            kept = self.kept(dose)
            assert kept is not None
            begin(kept)

        self._with_files(dose, send, failed)

    def _with_files(
        self,
        dose: Any,
        send: Callable[[str, str, SceneResult], None],
        failed: Callable[[str], None],
    ) -> None:
        """Call with the folders of a dose's case and prediction.

        Those of a result that came with the scene are written first, a step a turn.
        """
        kept = self.kept(dose)
        if kept is None:
            failed(_("{name} came with the scene. Predict again.").format(name=dose.GetName()))
            return
        if kept.prepared is None or kept.output is None:

            def written(_nothing: None) -> None:
                self._with_files(dose, send, failed)

            def stopped(error: Exception) -> None:
                failed(str(error))

            steps = self.file_steps(dose)
            StepRunner(steps, self.clock, lambda _step: None, written, stopped).start()
            return
        try:
            send(str(kept.prepared.folder), str(kept.output), kept.result)
        except (OSError, ValueError) as error:
            failed(str(error))

    def forget_scene(self) -> None:
        """The scene was closed: no node is left to belong to."""
        for id in list(self._results):
            self.forget_result(id)
        if self._prepared is not None:
            self.scratch.discard([self._prepared.folder])
            self._prepared = None

    def close(self) -> None:
        """Slicer ends: the worker and the folders go."""
        for worker in self.workers:
            worker.stop(wait=True)
        self._results.clear()
        self.scratch.close()

    def _used(self) -> list[PreparedInputs]:
        return [kept.prepared for kept in self._results.values() if kept.prepared is not None]


_services: list[Services] = []


def services() -> Services:
    """Those of this process, with Qt's event loop and process."""
    if not _services:
        import slicer

        from .qt_clock import QtClock
        from .worker_process import WorkerProcess

        shared = Services(WorkerProcess, QtClock())
        slicer.app.connect("aboutToQuit()", shared.close)
        _services.append(shared)
    return _services[0]
