"""A blocking client of the worker, over pipes: no event loop, no window.

>>> with WorkerClient() as worker:  # doctest: +SKIP
...     prediction = worker.predict(case, model="pelvis", timeout_seconds=300)
"""

from __future__ import annotations

import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ..case import Case, Prescription
from ..errors import PredictionCancelled, WorkerError, WorkerTimeoutError
from ..prediction import Prediction
from .exchange import new_scratch, read_prediction, write_case
from .launch import worker_launch
from .messages import Failure, Predict, PredictOptions, Progress, Ready, Reply, Result
from .session import Session, as_exception
from .tree import ProcessTree

__all__ = ["WorkerClient"]

_LOOK_EVERY_SECONDS = 0.1  # also what Ctrl-C may wait for
_END_SECONDS = 5.0


class WorkerClient:
    """A worker process that is started when it is first needed, and again after a crash.

    Args:
        interpreter: the Python that runs it; None: `launch.find_interpreter()`.
        grace_seconds: how long a cancelled prediction may take to stop before the worker and all
            its children are killed.
        script: what is started in place of the worker's own module; see `launch.worker_launch`.
    """

    def __init__(
        self,
        interpreter: Path | None = None,
        grace_seconds: float = 5.0,
        script: Path | None = None,
    ) -> None:
        self._interpreter, self._script = interpreter, script
        self._grace_seconds = grace_seconds
        self._scratch: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._session = Session()
        self._tree = ProcessTree()
        self._arrived: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._runs = 0

    def __enter__(self) -> WorkerClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the worker itself; None before it has said so."""
        return None if self._session.ready is None else self._session.ready.pid

    def predict(
        self,
        case: Case,
        model: str | None = None,
        mapping: Mapping[str, str | None] | None = None,
        prescription: Prescription | None = None,
        options: PredictOptions | None = None,
        timeout_seconds: float | None = None,
        progress: Callable[[float, str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Prediction:
        """Predict a case; as `predict.predict`, but in the worker.

        The arrays of the result are memory-mapped from a folder that lives until the next
        prediction or `close`.

        Raises:
            WorkerTimeoutError: it took longer than `timeout_seconds`; it was ended.
            WorkerError: the worker could not be started, or crashed.
            PredictionCancelled: `cancelled()` returned true.
            DosePredictionError: whatever the prediction itself raised.
            KeyboardInterrupt: Ctrl-C; the prediction was ended before.
        """
        if self._scratch is None:
            self._scratch = new_scratch()
        shutil.rmtree(self._scratch / f"run{self._runs}", ignore_errors=True)
        self._runs += 1
        folder = self._scratch / f"run{self._runs}"
        request = Predict(
            id=str(self._runs),
            case=str(write_case(folder / "case", case)),
            output=str(folder / "prediction"),
            model=model,
            mapping=dict(mapping or {}),
            prescription=prescription,
            options=options or PredictOptions(),
        )
        result = self.run(request, timeout_seconds, progress, cancelled)
        return read_prediction(Path(result.folder), case)

    def run(
        self,
        request: Predict,
        timeout_seconds: float | None = None,
        progress: Callable[[float, str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Result:
        """Send one request and wait for its end; raises as `predict`."""
        self._start()
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._send(self._session.predict(request))
        try:
            while True:
                for reply in self._replies():
                    if isinstance(reply, Result) and reply.id == request.id:
                        return reply
                    if isinstance(reply, Failure) and reply.id in (request.id, None):
                        raise as_exception(reply)
                    if isinstance(reply, Progress) and progress is not None:
                        progress(reply.fraction, reply.stage)
                if cancelled is not None and cancelled():
                    raise PredictionCancelled("The prediction was cancelled; nothing was written.")
                if deadline is not None and time.monotonic() > deadline:
                    raise WorkerTimeoutError(
                        f"The prediction took longer than {timeout_seconds:g} s and was ended. "
                        "Allow it more time, or choose a faster device."
                    )
        finally:
            self._stop(request.id)

    def close(self) -> None:
        """End the worker and remove its files."""
        if self._process is not None:
            self._send(self._session.shutdown())
            self._close_stdin()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._kill()
            self._forget()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._forget()
        launch = worker_launch(self._interpreter, self._scratch, self._script)
        try:
            process = subprocess.Popen(
                [launch.program, *launch.arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(launch.environment),
                bufsize=0,
                **_own_group(),
            )
        except OSError as exception:
            raise WorkerError(
                f"The prediction's process could not be started with {launch.program}: "
                f"{exception.strerror or exception}."
            ) from exception
        self._process = process
        self._tree.adopt(process.pid)
        self._arrived = queue.SimpleQueue()
        for name, stream in (("out", process.stdout), ("err", process.stderr)):
            assert stream is not None
            arguments = (name, stream, self._arrived)
            threading.Thread(target=_carry, args=arguments, daemon=True).start()

    def _send(self, line: bytes) -> None:
        """Write to the worker; if it has gone, what it said last will come from `_replies`."""
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(line)
        except OSError:
            return

    def _replies(self) -> list[Reply]:
        """What has arrived, after a short wait for the first of it."""
        try:
            name, data = self._arrived.get(timeout=_LOOK_EVERY_SECONDS)
        except queue.Empty:
            # A launcher can be killed while its child keeps the pipe open.
            return self._ended() if self._process and self._process.poll() is not None else []
        if name == "err":
            self._session.feed_stderr(data)
            return []
        if not data:
            return self._ended()
        replies = self._session.feed(data)
        for reply in replies:
            if isinstance(reply, Ready):
                self._tree.adopt(reply.pid)
        return replies

    def _ended(self) -> list[Reply]:
        """The process has gone: its last words, and a failure for what still waited."""
        assert self._process is not None
        try:
            exit_code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            exit_code = self._process.wait()
        self._tree.kill()
        time.sleep(_LOOK_EVERY_SECONDS)  # the last lines of stderr are on their way
        while not self._arrived.empty():
            name, data = self._arrived.get()
            if name == "err":
                self._session.feed_stderr(data)
        failures: list[Reply] = list(self._session.ended(exit_code))
        self._forget()
        return failures

    def _stop(self, id: str) -> None:
        """End a prediction that still runs: by a message, then by force."""
        if id not in self._session.waiting:
            return
        self._send(self._session.cancel(id))
        deadline = time.monotonic() + self._grace_seconds
        while id in self._session.waiting and time.monotonic() < deadline:
            self._replies()
        if id in self._session.waiting:
            self._kill()
            self._ended()

    def _kill(self) -> None:
        self._tree.kill()

    def _close_stdin(self) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            return

    def _forget(self) -> None:
        """Back to the state before the start."""
        if self._process is not None:
            self._close_stdin()
            self._process = None
        self._session = Session()
        self._tree = ProcessTree()


def _carry(name: str, stream: IO[bytes], arrived: queue.SimpleQueue[tuple[str, bytes]]) -> None:
    """Carry what comes from a pipe into the queue; empty bytes state its end."""
    with stream:
        while data := stream.read(65536):
            arrived.put((name, data))
    arrived.put((name, b""))


def _own_group() -> dict[str, Any]:
    """Arguments of `Popen` by which Ctrl-C in a terminal reaches this process alone."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        return {"creationflags": flags}
    return {"start_new_session": True}
