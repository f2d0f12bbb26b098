"""The worker: predicts what it is asked for on one thread while another listens.

The listening thread answers pings, carries cancellation to the running prediction, and ends the
process when the client goes. Models stay loaded between requests and are given up after some idle
minutes, the device's memory with them.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import queue
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from .. import __version__
from ..app.bands import Bands
from ..app.choices import BeamsChoice, WishesChoice
from ..app.samples import sample_dvhs, without_samples
from ..errors import DosePredictionError, MemoryExhaustedError, PredictionCancelled, WorkerError
from ..processes import is_alive
from .exchange import SCRATCH_PREFIX, CaseReader, write_prediction
from .messages import (
    PROTOCOL_VERSION,
    Cancel,
    Check,
    CheckDeliverability,
    Failure,
    InstallPlanner,
    Job,
    Log,
    MakePlan,
    Ping,
    Pong,
    Predict,
    Progress,
    Ready,
    Reply,
    Result,
    Shutdown,
    WriteReport,
    decode_request,
    encode_message,
)
from .side_jobs import check, check_deliverability, write_report

if TYPE_CHECKING:
    from ..case import Case
    from ..evaluation.evaluate import Evaluation
    from ..inference.predictor import Predictor
    from ..prediction import Prediction

__all__ = ["Worker", "WorkerSettings"]

_REPORT_EVERY_SECONDS = 0.05
_WATCH_EVERY_SECONDS = 1.0
_LONGEST_LINE = 1 << 24  # bytes; cases travel as files
_MOST_MODELS = 3  # loaded at once


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker behaves.

    Args:
        parent: process whose end is the worker's; None: nobody's.
        scratch: the client's folder, cleared away when the client died before it could.
        idle_seconds: models are given up after so long without a request.
        grace_seconds: how long the running prediction may take to stop when the client goes.
    """

    parent: int | None = None
    scratch: Path | None = None
    idle_seconds: float = 600.0
    grace_seconds: float = 2.0


@dataclass
class _Job:
    """A request that waits or is worked on."""

    request: Job
    cancelled: threading.Event = field(default_factory=threading.Event)


class Worker:
    """Serves requests from one stream and replies on another.

    Args:
        requests: binary, unbuffered or line by line.
        replies: binary; nothing but messages goes there.
    """

    def __init__(
        self, requests: BinaryIO, replies: BinaryIO, settings: WorkerSettings | None = None
    ) -> None:
        self._requests = requests
        self._replies = replies
        self._settings = settings or WorkerSettings()
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._open: dict[str, _Job] = {}
        self._predictors: dict[tuple[str, ...], Predictor] = {}
        self._cases = CaseReader()
        self._measuring: Generator[str, None, None] | None = None

    def serve(self) -> NoReturn:
        """Work until the client asks for the end, closes the stream, or dies; ends the process."""
        self._reply(Ready(PROTOCOL_VERSION, __version__, os.getpid(), sys.executable))
        threading.Thread(target=self._listen, daemon=True).start()
        if self._settings.parent is not None:
            threading.Thread(target=self._watch, daemon=True).start()
        while True:
            try:
                job = self._next_job()
            except queue.Empty:
                self._give_up_models()
                continue
            self._work(job)

    # The working thread

    def _next_job(self) -> _Job:
        """What is asked for next; until then the case that was checked last is measured.

        Raises:
            queue.Empty: nothing was asked for in a long while.
        """
        while self._measuring is not None and self._jobs.empty():
            try:
                next(self._measuring)
            except StopIteration:
                self._measuring = None
            except Exception:  # the prediction will meet it again, and say so
                self._measuring = None
        return self._jobs.get(timeout=self._settings.idle_seconds)

    def _work(self, job: _Job) -> None:
        try:
            reply: Reply = self._answer(job)
        except DosePredictionError as exception:
            reply = _failure(job, exception)
        except MemoryError:
            message = (
                "Memory ran out while the case was prepared. Close other programs, or predict on a "
                "machine with more memory."
            )
            reply = _failure(job, MemoryExhaustedError(message))
        except ImportError as exception:
            reply = _failure(job, WorkerError(_missing_package(exception)))
        except OSError as exception:
            where = f" ({exception.filename})" if exception.filename else ""
            message = f"{exception.strerror or exception}{where}. Nothing was written."
            reply = _failure(job, WorkerError(message))
        except Exception as exception:  # a defect: the client shows it, the worker goes on
            message = f"The prediction failed unexpectedly: {type(exception).__name__}: {exception}"
            reply = _failure(job, WorkerError(" ".join(message.split())))
        self._reply(reply)
        del self._open[job.request.id]

    def _answer(self, job: _Job) -> Reply:
        request = job.request
        if isinstance(request, Check):
            answer, self._measuring = check(request, self._cases)
            return answer
        if isinstance(request, CheckDeliverability):
            return check_deliverability(request)
        if isinstance(request, WriteReport):
            return write_report(request)
        if isinstance(request, MakePlan | InstallPlanner):
            from .plan_jobs import install, make_plan

            heard, cancelled = _Throttled(self, request.id), job.cancelled.is_set
            if isinstance(request, MakePlan):
                return make_plan(request, heard, cancelled)
            return install(request, heard, cancelled)
        return self._predict(request, job)

    def _predict(self, request: Predict, job: _Job) -> Result:
        options = request.options
        report = _Throttled(self, request.id)
        laps = {}
        clock = time.perf_counter()

        def lap(step: str) -> None:
            nonlocal clock
            now = time.perf_counter()
            laps[step] = round(now - clock, 3)
            clock = now

        _refuse_if_cancelled(job)
        report(0.0, "reading the case")
        wishes = WishesChoice(request.wishes)
        case = BeamsChoice(request.beams).of(self._cases.read(Path(request.case)))
        case = wishes.of(case)
        lap("read")
        report(0.0, "loading the model")
        predictor, warm = self._predictor(case, request, job)
        wishes.require_taken_by(predictor.model.manifest)
        lap("load")
        prediction = predictor.predict(
            case,
            request.mapping,
            request.prescription,
            options.recompute_strips,
            progress=report,
            cancelled=job.cancelled.is_set,
            strip_margin_mm=options.strip_margin_mm,
            keep_strips=options.keep_strips,
            keep=options.keep,
            seed=options.seed,
            samples=options.samples,
            force_model=options.force_model,
        )
        measures = bands = None
        if options.measure:
            clock = time.perf_counter()
            measures = self._measures(prediction, report, job)
            bands = replace(Bands.of(prediction, measures), samples=sample_dvhs(prediction))
            prediction = without_samples(prediction)
            lap("measure")
        report(1.0, "writing the dose")
        write_prediction(Path(request.output), prediction, laps, measures, bands)
        return Result(request.id, request.output, warm)

    def _measures(self, prediction: Prediction, report: _Throttled, job: _Job) -> Evaluation:
        """DVHs and scores, which would hold up the client's window."""
        from ..evaluation.evaluate import QUICK_SCORES, EvaluationParts, evaluate

        def heard(stage: str) -> None:
            _refuse_if_cancelled(job)
            report(1.0, stage)

        parts = EvaluationParts(scores=QUICK_SCORES)
        return evaluate(prediction.bound, prediction.dose, parts, heard)

    def _predictor(self, case: Case, request: Predict, job: _Job) -> tuple[Predictor, bool]:
        """The predictor for a job's case, and whether it was there already."""
        from ..inference.predictor import Predictor, default_model
        from ..models.dose_model import DoseModel

        _refuse_if_cancelled(job)
        if request.model is None:
            model = default_model(case, request.mapping)
        else:
            model = DoseModel.load(request.model)
            model.require(request.gives)
        options = request.options
        checksum = model.manifest.weights_sha256
        key = (str(model.folder), checksum, options.device, options.precision)
        warm = key in self._predictors
        if not warm:
            while len(self._predictors) >= _MOST_MODELS:  # the one that was used longest ago goes
                del self._predictors[next(iter(self._predictors))]
            self._predictors[key] = Predictor(model, options.device, options.precision)
        elif not model.weights_path.is_file():
            model.verify()  # says that they are missing
        _refuse_if_cancelled(job)
        self._predictors[key] = self._predictors.pop(key)  # the last one used is the last in order
        return self._predictors[key], warm

    def _give_up_models(self) -> None:
        """Free the models' memory, on the device and here, and the last case's."""
        self._cases = CaseReader()
        if not self._predictors:
            return
        self._predictors.clear()
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(0)
        minutes = self._settings.idle_seconds / 60
        self._reply(Log("info", f"Idle for {minutes:.3g} minutes: the model's memory was freed."))

    # The listening threads

    def _listen(self) -> None:
        for line in self._lines():
            if not line.strip():
                continue
            try:
                request = decode_request(line)
            except DosePredictionError as exception:
                self._reply(Failure(None, type(exception).__name__, str(exception)))
                continue
            except Exception as exception:  # whatever a line holds, the next one is heard
                message = f"No message: {type(exception).__name__}."
                self._reply(Failure(None, "WorkerError", message))
                continue
            if isinstance(request, Shutdown):
                self._end(orphaned=False)
                return
            self._take(request)
        self._end(orphaned=True)

    def _lines(self) -> Iterator[bytes]:
        """Lines of the client till its stream ends; one that is too long is refused unread."""
        while line := self._requests.readline(_LONGEST_LINE):
            if len(line) < _LONGEST_LINE or line.endswith(b"\n"):
                yield line
                continue
            while line and not line.endswith(b"\n"):
                line = self._requests.readline(_LONGEST_LINE)
            message = f"A message must be shorter than {_LONGEST_LINE} bytes."
            self._reply(Failure(None, "WorkerError", message))

    def _take(self, request: Job | Cancel | Ping) -> None:
        if isinstance(request, Ping):
            self._reply(Pong(tuple(sorted({p.model.manifest.name for p in self._loaded()}))))
        elif isinstance(request, Cancel):
            job = self._open.get(request.id)
            if job is not None:  # else it has ended in the meantime, and its reply is on the way
                job.cancelled.set()
        elif request.id in self._open:
            message = f"A prediction with the id {request.id!r} is under way."
            self._reply(Failure(None, "WorkerError", message))
        else:
            job = _Job(request)
            self._open[request.id] = job
            self._jobs.put(job)

    def _loaded(self) -> list[Predictor]:
        return list(self._predictors.values())

    def _watch(self) -> None:
        """End with the parent even if somebody else holds the other end of the pipe."""
        parent = self._settings.parent
        assert parent is not None
        while is_alive(parent):
            time.sleep(_WATCH_EVERY_SECONDS)
        self._end(orphaned=True)

    def _end(self, orphaned: bool) -> None:
        """Stop what runs, politely at first."""
        for job in list(self._open.values()):
            job.cancelled.set()
        deadline = time.monotonic() + self._settings.grace_seconds
        while self._open and time.monotonic() < deadline:
            time.sleep(0.02)
        scratch = self._settings.scratch
        if orphaned and scratch is not None and scratch.name.startswith(SCRATCH_PREFIX):
            # The client is gone and cannot clear a patient's data away.
            shutil.rmtree(scratch, ignore_errors=True)
        os._exit(0)

    def _reply(self, reply: Reply) -> None:
        try:
            with self._lock:
                self._replies.write(encode_message(reply))
                self._replies.flush()
        except OSError:
            return  # nobody reads any more; the listening thread sees the end


class _Throttled:
    """Progress of one prediction, so seldom that a client is not swamped; it never falls."""

    def __init__(self, worker: Worker, id: str) -> None:
        self._worker = worker
        self._id = id
        self._stage = ""
        self._fraction = 0.0
        self._last = float("-inf")

    def __call__(self, fraction: float, stage: str) -> None:
        self._fraction = max(self._fraction, min(float(fraction), 1.0))
        now = time.monotonic()
        if stage == self._stage and now - self._last < _REPORT_EVERY_SECONDS:
            return
        self._stage, self._last = stage, now
        self._worker._reply(Progress(self._id, round(self._fraction, 4), stage))


def _refuse_if_cancelled(job: _Job) -> None:
    if job.cancelled.is_set():
        raise PredictionCancelled("The prediction was cancelled; nothing was written.")


def _failure(job: _Job, exception: DosePredictionError) -> Failure:
    tried = exception.tried if isinstance(exception, MemoryExhaustedError) else ()
    details = "" if isinstance(exception, PredictionCancelled) else traceback.format_exc()
    return Failure(job.request.id, type(exception).__name__, str(exception), tried, details)


def _missing_package(exception: ImportError) -> str:
    name = exception.name or str(exception)
    return (
        f"The Python package {name} is missing or cannot be loaded ({exception}). Install what is "
        "missing: in Slicer by the panel's Installation section, elsewhere by pip."
    )
