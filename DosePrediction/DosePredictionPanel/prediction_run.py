"""One prediction from nodes to nodes, without ever blocking the window."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import slicer
from slicer.util import VTKObservationMixin

from .clock import Clock
from .flow.derived import removed_sentence
from .i18n import _
from .prepared import PreparedInputs, Scratch, prepare_steps
from .steps import StepRunner

if TYPE_CHECKING:
    from DosePredictionLib.beams.arrangement import BeamArrangement
    from DosePredictionLib.case import Prescription
    from DosePredictionLib.evaluation.goals import GoalSet
    from DosePredictionLib.scene import Keeping, SceneResult, Step
    from DosePredictionLib.wishes import Wish
    from DosePredictionLib.worker.messages import PredictOptions, Reply

    from .services import Worker

__all__ = [
    "PREDICTION",
    "Callbacks",
    "Job",
    "PredictionRun",
    "RunInputs",
    "export_steps",
    "predict_request",
]

_READ, _PREDICTED = 0.08, 0.95  # shares of the bar, about those of the time


@dataclass(frozen=True, eq=False)
class RunInputs:
    """What to predict.

    Args:
        ct, segmentation, plan_dose: nodes; the last may be None.
        model: name; None: the default model of the protocol that fits.
        mapping: channel → segment's name where the matching is overruled; None leaves it empty.
        prescription: overrules the model's own.
        beams: None: the model's own.
        wishes: what is wished of organs, of a model that takes wishes.
        options: device, precision and what to keep; None: the defaults.
        goals: template that the doses are held against.
        before: the result that the change is shown against.
        prepared: the inputs, if they have been read already.
        keeping: beside which other results it stands, and under which name; None: in place of the
            latest one of the same CT and segmentation.
    """

    ct: Any
    segmentation: Any
    plan_dose: Any = None
    model: str | None = None
    mapping: dict[str, str | None] = field(default_factory=dict)
    prescription: Prescription | None = None
    beams: BeamArrangement | None = None
    wishes: tuple[Wish, ...] = ()
    options: PredictOptions | None = None
    goals: GoalSet | None = None
    before: SceneResult | None = None
    prepared: PreparedInputs | None = None
    keeping: Keeping | None = None


@dataclass(frozen=True)
class Callbacks:
    """Whom to state: share done and stage; inputs, the worker's folder and the result; the error
    and details to copy."""

    progress: Callable[[float, str], None]
    finished: Callable[[PreparedInputs, Path, Any], None]
    error: Callable[[Exception, str], None]


def predict_request(inputs: RunInputs, prepared: PreparedInputs, output: Path) -> Any:
    """The message that asks the worker for a prediction."""
    from DosePredictionLib.worker.messages import Predict, PredictOptions

    return Predict(
        id=output.name,
        case=str(prepared.folder),
        output=str(output),
        model=inputs.model,
        mapping=dict(inputs.mapping),
        prescription=inputs.prescription,
        options=replace(inputs.options or PredictOptions(), measure=True),
        beams=inputs.beams,
        wishes=inputs.wishes,
    )


def export_steps(
    inputs: RunInputs, prepared: PreparedInputs, output: Path
) -> Generator[Step, None, SceneResult]:
    """From the worker's folder into the scene; the scene changes in the last step only."""
    from DosePredictionLib.scene import Step, result_steps
    from DosePredictionLib.worker.exchange import read_prediction
    from DosePredictionLib.worker.measured import read_bands, read_measures

    source = prepared.source(only=prepared.names[:1])  # all have been measured; a case needs one
    prediction = read_prediction(output, source.case)
    yield Step(_("reading the dose"), 0, 1)
    measures = read_measures(output)
    yield Step(_("reading the DVHs"), 0, 1)
    before = inputs.before
    if before is not None and before.dose.GetScene() is None:
        before = None  # removed meanwhile: the prediction is worth having without the comparison
    steps = result_steps(
        prediction,
        source,
        measures=measures,
        goals=inputs.goals,
        before=before,
        keeping=inputs.keeping,
        bands=read_bands(output),
    )
    return (yield from steps)


class Job(NamedTuple):
    """What the worker is asked for, and how its answer enters the scene.

    Args:
        request: inputs, as they were read, and the worker's folder → the message.
        steps: the same → steps of which only the last one changes the scene.
    """

    request: Callable[[RunInputs, PreparedInputs, Path], Any]
    steps: Callable[[RunInputs, PreparedInputs, Path], Generator[Step, None, Any]]


PREDICTION = Job(predict_request, export_steps)


class PredictionRun(VTKObservationMixin):
    """Reads, predicts and adds the result; `cancel` at any time leaves the scene as it is."""

    def __init__(
        self,
        inputs: RunInputs,
        worker: Worker,
        scratch: Scratch,
        clock: Clock,
        callbacks: Callbacks,
        job: Job = PREDICTION,
    ) -> None:
        VTKObservationMixin.__init__(self)
        self.inputs = inputs
        self.is_running = True
        self.is_cancelling = False
        self._worker, self._scratch, self._callbacks = worker, scratch, callbacks
        self._clock, self._job = clock, job
        self._first_turn = clock.timer(self._guarded_predict)
        self._prepared = inputs.prepared
        self._output: Path | None = None
        self._runner: StepRunner | None = None

    def start(self) -> PredictionRun:
        """Begin with the next turn of the event loop."""
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.NodeRemovedEvent, self._node_removed)
        self.addObserver(scene, scene.StartCloseEvent, self._scene_closed)
        if self._prepared is not None:
            self._first_turn.start()
            return self
        inputs = self.inputs
        steps = prepare_steps(
            inputs.ct, inputs.segmentation, inputs.plan_dose, self._scratch.new("case")
        )
        self._run(steps, 0.0, _READ, self._read)
        return self

    def cancel(self) -> None:
        """Stop. `error` is called with `PredictionCancelled`, at once or when the worker obeys."""
        from DosePredictionLib.errors import PredictionCancelled

        if not self.is_running or self.is_cancelling:
            return
        self.is_cancelling = True
        if self._runner is None and self._output is not None:
            self._worker.cancel(self._output.name)
        else:
            self._fail(PredictionCancelled(_("Cancelled. The scene is as it was.")))

    def _read(self, prepared: PreparedInputs) -> None:
        self._prepared = prepared
        self._guarded_predict()

    def _guarded_predict(self) -> None:
        if not self.is_running:
            return
        try:
            self._predict()
        except (OSError, ValueError) as error:  # the library's errors are ValueErrors
            self._fail(error)

    def _predict(self) -> None:
        assert self._prepared is not None
        self._output = self._scratch.new("prediction")
        self._callbacks.progress(_READ, _("starting the worker"))
        request = self._job.request(self.inputs, self._prepared, self._output)
        self._worker.send(request, self._replied)

    def _replied(self, reply: Reply) -> None:
        from DosePredictionLib.worker.messages import Failure, Progress
        from DosePredictionLib.worker.session import as_exception

        if not self.is_running:
            return
        if isinstance(reply, Progress):
            share = _READ + (_PREDICTED - _READ) * reply.fraction
            self._callbacks.progress(share, reply.stage)
        elif isinstance(reply, Failure):
            tried = "".join(f"\n{text}" for text in reply.tried)
            self._fail(as_exception(reply), f"{reply.message}{tried}\n\n{reply.details}".strip())
        else:
            assert self._prepared is not None
            assert self._output is not None
            steps = self._job.steps(self.inputs, self._prepared, self._output)
            self._run(steps, _PREDICTED, 1.0, self._exported)

    def _exported(self, result: Any) -> None:
        prepared, output = self._prepared, self._output
        assert prepared is not None
        assert output is not None
        self._end()
        self._callbacks.finished(prepared, output, result)

    def _run(
        self,
        steps: Generator[Step, None, Any],
        low: float,
        high: float,
        done: Callable[[Any], None],
    ) -> None:
        def on_step(step: Step) -> None:
            share = low + (high - low) * step.done / max(step.total, 1)
            self._callbacks.progress(share, step.label)

        def on_done(value: Any) -> None:
            self._runner = None
            done(value)

        self._runner = StepRunner(steps, self._clock, on_step, on_done, self._fail).start()

    def abort(self, message: str) -> None:
        """An input went away: stop without waiting for the worker; `error` gets the message."""
        from DosePredictionLib.errors import CaseError

        if self.is_running and self._output is not None:
            self._worker.cancel(self._output.name)
        self._fail(CaseError(message))

    def _node_removed(self, _scene: Any, _event: Any) -> None:
        inputs = self.inputs
        for node in (inputs.ct, inputs.segmentation, inputs.plan_dose):
            if node is not None and node.GetScene() is None:
                self.abort(removed_sentence(node.GetName()))
                return

    def _scene_closed(self, _scene: Any, _event: Any) -> None:
        self.abort(_("The scene was closed while the prediction ran; it was stopped."))

    def _fail(self, error: Exception, details: str = "") -> None:
        if not self.is_running:
            return
        self._end()
        if self._output is not None:
            self._scratch.discard([self._output])
        self._callbacks.error(error, details)

    def _end(self) -> None:
        self.is_running = False
        self._first_turn.stop()
        self.removeObservers()
        if self._runner is not None:
            self._runner.stop()
            self._runner = None
