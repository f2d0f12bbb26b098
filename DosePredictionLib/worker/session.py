"""The client's side of the protocol, for any transport: bytes in, events out.

A transport (a QProcess, a pipe) writes what `predict`, `cancel` … return to the worker's stdin,
hands the worker's stdout to `feed` and its stderr to `feed_stderr`, and says with `ended` that the
process is gone.

>>> session = Session()
>>> line = session.predict(Predict("1", case="case", output="dose"))
>>> session.feed(b'{"type": "progress", "id": "1", "fraction": 0.5, "stage": "final dose"}\\n')
[Progress(id='1', fraction=0.5, stage='final dose')]
>>> [failure.kind for failure in session.ended(-9)]
['MemoryExhaustedError']
"""

from __future__ import annotations

import signal
from collections import deque

from .. import errors
from ..errors import DosePredictionError, WorkerError
from .messages import (
    PROTOCOL_VERSION,
    Cancel,
    Checked,
    Failure,
    Job,
    Log,
    Ready,
    Reply,
    Result,
    Shutdown,
    decode_reply,
    encode_message,
)

__all__ = ["Session", "as_exception", "qprocess_exit_code"]

_KEPT_LINES = 400  # a crash prints the stack of every thread
_KILLED = 9


class Session:
    """What the client knows of one worker process.

    Attributes:
        waiting: ids of predictions that are neither done nor failed.
        ready: what the worker said when it came up; None before.
    """

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.ready: Ready | None = None
        self._rest = b""
        self._stderr: deque[str] = deque(maxlen=_KEPT_LINES)
        self._stderr_rest = b""

    def predict(self, request: Job) -> bytes:
        """The line to send, for any request with an answer; from then on it waits.

        Raises:
            WorkerError: its id is in use.
        """
        if request.id in self.waiting:
            raise WorkerError(f"A prediction with the id {request.id!r} is under way.")
        self.waiting.append(request.id)
        return encode_message(request)

    def cancel(self, id: str) -> bytes:
        """The line that asks the worker to stop; its answer is a `Failure`."""
        return encode_message(Cancel(id))

    def shutdown(self) -> bytes:
        """The line that asks the worker to end."""
        return encode_message(Shutdown())

    def feed(self, data: bytes) -> list[Reply]:
        """Replies in what arrived on the worker's stdout, in whatever pieces it came."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [self._reply(line) for line in lines if line.strip()]

    def feed_stderr(self, data: bytes) -> list[str]:
        """Whole lines in what arrived on the worker's stderr; the last are kept for `ended`."""
        *lines, self._stderr_rest = (self._stderr_rest + data).split(b"\n")
        texts = [line.decode("utf-8", "replace").rstrip() for line in lines]
        self._stderr.extend(text for text in texts if text)
        return texts

    def ended(self, exit_code: int) -> list[Failure]:
        """A failure for each prediction that still waited when the process ended.

        Args:
            exit_code: negative for a signal, as `subprocess` has it; see `qprocess_exit_code`.
        """
        self.feed_stderr(b"\n")
        kind, message = _explain(exit_code)
        details = "\n".join(self._stderr)
        failures = [Failure(id, kind, message, details=details) for id in self.waiting]
        self.waiting.clear()
        self._rest = b""
        self.ready = None
        return failures

    @property
    def last_output(self) -> str:
        """The last lines that the worker wrote to stderr."""
        return "\n".join(self._stderr)

    def _reply(self, line: bytes) -> Reply:
        try:
            reply = decode_reply(line)
        except WorkerError as exception:
            return Log("warning", f"The worker wrote what is no message: {exception}")
        if isinstance(reply, Ready):
            if reply.protocol_version != PROTOCOL_VERSION:
                return Failure(
                    None,
                    "WorkerError",
                    f"The worker speaks version {reply.protocol_version} of the protocol, this "
                    f"window {PROTOCOL_VERSION}: two versions of the extension are installed "
                    "side by side. Remove one, and restart.",
                )
            self.ready = reply
        elif isinstance(reply, (Result, Checked, Failure)) and reply.id in self.waiting:
            self.waiting.remove(reply.id)
        return reply


def qprocess_exit_code(exit_code: int, crashed: bool, windows: bool = False) -> int:
    """The exit code for `Session.ended` from a QProcess, which counts signals positive.

    Args:
        crashed: whether the exit status is `QProcess.CrashExit`.
    """
    return -exit_code if crashed and not windows else exit_code


def as_exception(failure: Failure) -> DosePredictionError:
    """The failure as the exception that the library would have raised in this process."""
    kind = getattr(errors, failure.kind, WorkerError)
    if not (isinstance(kind, type) and issubclass(kind, DosePredictionError)):
        kind = WorkerError
    exhausted = issubclass(kind, errors.MemoryExhaustedError)
    exception = kind(failure.message, failure.tried) if exhausted else kind(failure.message)
    exception.details = failure.details
    return exception


def _explain(exit_code: int) -> tuple[str, str]:
    """Kind and message for a worker that ended before it had answered."""
    nothing = "Nothing was changed."
    number = -exit_code if exit_code < 0 else exit_code - 128
    if number == _KILLED:
        return (
            "MemoryExhaustedError",
            "The prediction's process was ended by the system (signal 9): most likely memory ran "
            f"out. {nothing} Close other programs, or choose a smaller volume.",
        )
    if 0 < number < 65 and exit_code != 0:
        return "WorkerError", f"The prediction's process crashed ({_signal(number)}). {nothing}"
    if exit_code == 0:
        return "WorkerError", f"The prediction's process ended without an answer. {nothing}"
    return (
        "WorkerError",
        f"The prediction's process ended with exit code {exit_code} ({exit_code & 0xFFFFFFFF:#x}). "
        f"{nothing} See the details.",
    )


def _signal(number: int) -> str:
    try:
        return f"signal {number}, {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"
