"""The worker as a QProcess: bytes between Qt and the library's client session."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt

from .i18n import _

if TYPE_CHECKING:
    from DosePredictionLib.worker.messages import Reply

__all__ = ["WorkerProcess", "as_bytes"]

OnReply = Callable[["Reply"], None]

_CANCEL_GRACE_MS = 5000  # a layer of the network at full size takes less
_STOP_GRACE_MS = 1500
_START_MS = 15000
_POLL_MS = 50


class WorkerProcess:
    """One worker, started when it is first needed and used again until it is stopped.

    Replies arrive through the event loop; `wait` waits for them without one.

    Args:
        scratch: folder of the exchanged cases; the worker clears it away if this process dies.
        packages: folder of packages that go before the interpreter's own.
    """

    def __init__(self, scratch: Path, packages: Path | None = None) -> None:
        from DosePredictionLib.worker.session import Session
        from DosePredictionLib.worker.tree import ProcessTree

        self._scratch, self._packages = scratch, packages
        self._session = Session()
        self._tree = ProcessTree()
        self._process: qt.QProcess | None = None
        self._handlers: dict[str, OnReply] = {}

    @property
    def is_running(self) -> bool:
        """Whether the process is up or coming up."""
        return self._process is not None and self._process.state() != qt.QProcess.NotRunning

    def send(self, request: Any, on_reply: OnReply) -> None:
        """Send a request that has an `id`; `on_reply` gets every reply to it.

        The last one is a result or a `Failure`.

        Raises:
            WorkerError: the worker cannot be started.
        """
        self._start()
        line = self._session.predict(request)
        self._handlers[request.id] = on_reply
        self._write(line)

    def cancel(self, id: str) -> None:
        """Ask the worker to stop; one that does not within a few seconds is ended."""
        if id not in self._handlers or not self.is_running:
            return
        self._write(self._session.cancel(id))
        process = self._process

        def end_if_unanswered() -> None:
            if id in self._handlers and self._process is process:
                self.kill()

        qt.QTimer.singleShot(_CANCEL_GRACE_MS, end_if_unanswered)

    def wait(self, is_done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait without an event loop; false when the time ran out."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not is_done():
            if deadline is not None and time.monotonic() > deadline:
                return False
            if self._process is None:
                return is_done()
            if not self._process.waitForReadyRead(_POLL_MS) and not self.is_running:
                self._ended(self._process)
        return True

    def stop(self, wait: bool = False) -> None:
        """Ask the worker to end, and let it; one that does not is ended. What waits fails.

        Args:
            wait: until it has ended, as at Slicer's own end.
        """
        process, tree = self._process, self._tree
        if process is None:
            return
        self._write(self._session.shutdown())
        process.closeWriteChannel()
        self._forget(exit_code=0)

        def end() -> None:
            if process.state() != qt.QProcess.NotRunning:
                tree.kill()
                process.kill()
                process.waitForFinished(_STOP_GRACE_MS)

        if wait:
            process.waitForFinished(_STOP_GRACE_MS)
            end()
        else:
            qt.QTimer.singleShot(_STOP_GRACE_MS, end)

    def kill(self) -> None:
        """End the worker and its children at once; what waits fails."""
        process = self._process
        if process is None:
            return
        self._tree.kill()
        process.kill()
        process.waitForFinished(_STOP_GRACE_MS)
        self._ended(process)

    def _start(self) -> None:
        from DosePredictionLib.errors import WorkerError
        from DosePredictionLib.worker.launch import worker_launch

        if self.is_running:
            return
        launch = worker_launch(scratch=self._scratch, packages=self._packages)
        process = qt.QProcess()

        def finished(_code: int, _status: Any) -> None:
            self._ended(process)

        process.setProcessChannelMode(qt.QProcess.SeparateChannels)
        environment = qt.QProcessEnvironment()
        for name, value in launch.environment.items():
            environment.insert(name, value)
        process.setProcessEnvironment(environment)
        process.connect("readyReadStandardOutput()", self._read_stdout)
        process.connect("readyReadStandardError()", self._read_stderr)
        process.connect("finished(int,QProcess::ExitStatus)", finished)
        self._process = process
        process.start(launch.program, list(launch.arguments))
        if not process.waitForStarted(_START_MS):
            self._process = None
            raise WorkerError(
                _("The prediction's process cannot be started ({program}: {reason}).").format(
                    program=launch.program, reason=process.errorString()
                )
            )
        self._tree.adopt(int(process.processId()))

    def _write(self, line: bytes) -> None:
        if self._process is not None:
            self._process.write(qt.QByteArray(line))

    def _read_stdout(self) -> None:
        if self._process is not None:
            data = self._process.readAllStandardOutput().data()
            for reply in self._session.feed(as_bytes(data)):
                self._dispatch(reply)

    def _read_stderr(self) -> None:
        if self._process is not None:
            data = self._process.readAllStandardError().data()
            for text in self._session.feed_stderr(as_bytes(data)):
                logging.debug("DosePrediction worker: %s", text)

    def _ended(self, process: Any) -> None:
        """The process is gone: state those who wait."""
        from DosePredictionLib.worker.session import qprocess_exit_code

        if self._process is None or process is not self._process:
            return  # one that was stopped before
        self._read_stdout()
        self._read_stderr()
        crashed = process.exitStatus() == qt.QProcess.CrashExit
        self._forget(qprocess_exit_code(process.exitCode(), crashed, os.name == "nt"))

    def _forget(self, exit_code: int) -> None:
        """Let go of the process; the next request starts another."""
        from DosePredictionLib.worker.session import Session
        from DosePredictionLib.worker.tree import ProcessTree

        session, self._session = self._session, Session()
        self._process, self._tree = None, ProcessTree()
        for failure in session.ended(exit_code):
            self._dispatch(failure)

    def _dispatch(self, reply: Reply) -> None:
        from DosePredictionLib.worker.messages import Failure, Log, Progress, Ready

        if isinstance(reply, Ready):
            self._tree.adopt(reply.pid)  # a launcher may have started it
            return
        if isinstance(reply, Log):
            logging.log(logging.WARNING if reply.level == "warning" else logging.INFO, reply.text)
            return
        id = getattr(reply, "id", None)
        if id is None:
            if isinstance(reply, Failure):  # of the whole worker, such as another version
                for each in list(self._handlers):
                    self._handlers.pop(each)(reply)
            return
        handler = self._handlers.get(id)
        if handler is None:
            return
        if not isinstance(reply, Progress):
            del self._handlers[id]
        handler(reply)


def as_bytes(data: Any) -> bytes:
    """PythonQt gives the content of a QByteArray as bytes or, in old versions, as text."""
    return data if isinstance(data, bytes) else str(data).encode("utf-8")
