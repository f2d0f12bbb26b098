"""What all logics of one Slicer share: the worker, its folders, and the results in the scene."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

from .i18n import _
from .prepared import PreparedInputs, Scratch
from .worker_process import WorkerProcess

if TYPE_CHECKING:
    from DosePredictionLib.prediction import Prediction
    from DosePredictionLib.scene import SceneResult

__all__ = ["Services", "services"]


class Services:
    """One worker for the panel, the console and scripts alike."""

    def __init__(self) -> None:
        self.scratch = Scratch()
        self._numbers = itertools.count(1)
        self._worker: WorkerProcess | None = None
        self._prepared: PreparedInputs | None = None
        self._results: dict[str, tuple[SceneResult, PreparedInputs, Path]] = {}
        slicer.app.connect("aboutToQuit()", self.close)

    @property
    def worker(self) -> WorkerProcess:
        """The worker; its process starts with the first request.

        Raises:
            WorkerError: there is no temporary folder to exchange cases in.
        """
        if self._worker is None:
            self._worker = WorkerProcess(self.scratch.root)
        return self._worker

    def stop_worker(self) -> None:
        """End the worker's process; the next request starts another."""
        if self._worker is not None:
            self._worker.stop()

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

    def keep_result(self, result: SceneResult, prepared: PreparedInputs, output: Path) -> None:
        """Remember a result by its dose node; the one it replaces is forgotten."""
        id = result.nodes["dose"].GetID()
        self.forget_result(id)
        self._results[id] = (result, prepared, output)

    def replace_result(self, result: SceneResult) -> None:
        """The same run with other tables."""
        id = result.nodes["dose"].GetID()
        _old, prepared, output = self._results[id]
        self._results[id] = (result, prepared, output)

    def forget_result(self, dose_id: str) -> None:
        """Forget a result; its nodes are not touched."""
        if dose_id not in self._results:
            return
        _result, prepared, output = self._results.pop(dose_id)
        self.scratch.discard([output])
        if prepared is not self._prepared and prepared not in self._used():
            self.scratch.discard([prepared.folder])

    def result(self, dose: Any) -> SceneResult | None:
        """The result that a dose node belongs to, if it was made in this session."""
        kept = self._results.get(dose.GetID()) if dose is not None else None
        return kept[0] if kept else None

    def inputs_of(self, dose: Any) -> PreparedInputs | None:
        """The inputs of a dose node's prediction."""
        kept = self._results.get(dose.GetID()) if dose is not None else None
        return kept[1] if kept else None

    def prediction(self, dose: Any) -> Prediction | None:
        """The whole prediction of a dose node, voxels memory-mapped."""
        from DosePredictionLib.worker.exchange import read_prediction

        kept = self._results.get(dose.GetID())
        if kept is None or not kept[2].is_dir():
            return None
        return read_prediction(kept[2], kept[1].source().case)

    def write_report(self, dose: Any, path: Path, done: Callable[[str], None]) -> None:
        """Have the worker write the report of a dose's prediction.

        Args:
            done: called with what went wrong, or an empty text.
        """
        from DosePredictionLib.worker.messages import Failure, WriteReport

        kept = self._results.get(dose.GetID())
        if kept is None:
            done(_("{name} came with the scene. Predict again.").format(name=dose.GetName()))
            return
        result, prepared, output = kept
        request = WriteReport(
            f"report-{path.name}-{next(self._numbers)}",
            str(prepared.folder),
            str(output),
            str(path),
            tuple(result.measures.goal_records),
        )

        def replied(reply: Any) -> None:
            done(reply.message if isinstance(reply, Failure) else "")

        try:
            self.worker.send(request, replied)
        except (OSError, ValueError) as error:
            done(str(error))

    def forget_scene(self) -> None:
        """The scene was closed: no node is left to belong to."""
        for id in list(self._results):
            self.forget_result(id)
        if self._prepared is not None:
            self.scratch.discard([self._prepared.folder])
            self._prepared = None

    def close(self) -> None:
        """Slicer ends: the worker and the folders go."""
        if self._worker is not None:
            self._worker.stop(wait=True)
        self._results.clear()
        self.scratch.close()

    def _used(self) -> list[PreparedInputs]:
        return [prepared for _result, prepared, _output in self._results.values()]


_services: list[Services] = []


def services() -> Services:
    """Those of this process."""
    if not _services:
        _services.append(Services())
    return _services[0]
