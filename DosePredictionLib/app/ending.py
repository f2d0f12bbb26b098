"""How commands end: whatever they raise becomes one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from ..errors import CallError, DosePredictionError
from .codes import EXIT_INTERRUPTED, EXIT_WRONG
from .output import Output

__all__ = ["exit_code_of", "interrupt_on_termination"]


def exit_code_of(work: Callable[[], int], output: Output) -> int:
    """Run a command. What it raises is written as one line; a defect with the place it arose at.

    Returns:
        What `work` returns; 2 for an exception, 130 for an interrupt, 0 if nobody reads stdout.
    """
    _require_streams()
    try:
        return work()
    except BrokenPipeError:
        # The reader of stdout went away (`| head`): nothing is left to say to it.
        _discard_stdout()
        return 0
    except KeyboardInterrupt:
        output.note("Interrupted; nothing half-written was left behind.")
        return EXIT_INTERRUPTED
    except Exception as exception:
        wrong = exception if isinstance(exception, DosePredictionError) else _call_error(exception)
        try:
            output.error(wrong)
        except OSError:  # nobody reads stdout, or it cannot hold more; stderr has the line
            _discard_stdout()
        return EXIT_WRONG


def _require_streams() -> None:
    """Give a program that was started with closed stdout or stderr (`>&-`) one that discards.

    Else its first file would become what C libraries print to.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def interrupt_on_termination() -> None:
    """Make a polite kill clean up like Ctrl-C; only the main thread may install handlers.

    A signal that the caller ignores (`nohup`, a background job) stays ignored, as Python does with
    Ctrl-C.
    """
    if signal.getsignal(signal.SIGTERM) == signal.SIG_IGN:
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        return


def _call_error(exception: Exception) -> CallError:
    if isinstance(exception, ModuleNotFoundError):
        missing = f"The Python package {exception.name} is missing: see `dose-prediction check`."
        return CallError(missing)
    if isinstance(exception, OSError):
        where = f" ({exception.filename})" if exception.filename else ""
        reason = exception.strerror or str(exception)
        return CallError(f"{reason}{where}. Nothing half-written was left behind.")
    if isinstance(exception, MemoryError):
        return CallError(
            "Memory ran out. Close other programs, ask for less at once, or use a machine with "
            "more memory."
        )
    if isinstance(exception, FloatingPointError):
        return CallError(str(exception))
    return CallError(
        f"It failed unexpectedly: {type(exception).__name__}: {exception} ({_origin(exception)}). "
        "Report this line and the command."
    )


def _origin(exception: Exception) -> str:
    """File and line where an exception arose."""
    trace = exception.__traceback__
    if trace is None:
        return "place unknown"
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}"


def _discard_stdout() -> None:
    """Let what is buffered go nowhere, so that the interpreter's end does not meet it again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # no real stdout: nothing is to be flushed there
        return
