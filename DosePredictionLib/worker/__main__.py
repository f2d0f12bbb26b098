"""`python -m DosePredictionLib.worker`: serve predictions over stdin and stdout.

Stdout belongs to the protocol alone: whatever else is printed, by C libraries, too, goes to stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

from ..inference.allocator import keep_freed_memory
from .server import Worker, WorkerSettings

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Serve until the client goes; ends the process."""
    parser = argparse.ArgumentParser(
        prog="python -m DosePredictionLib.worker",
        description="Predict doses on request; for programs, not for people.",
    )
    parser.add_argument("--parent", type=int, help="process whose end is the worker's")
    parser.add_argument("--scratch", type=Path, help="folder to clear away if the client dies")
    parser.add_argument("--idle-seconds", type=float, default=WorkerSettings.idle_seconds)
    call = parser.parse_args(arguments)
    requests, replies = _take_streams()
    _lead_own_group()
    keep_freed_memory()
    settings = WorkerSettings(call.parent, call.scratch, call.idle_seconds)
    Worker(requests, replies, settings).serve()


def _take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Stdin and stdout for the protocol alone; prints go to stderr, reads find the end."""
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return os.fdopen(requests, "rb"), os.fdopen(replies, "wb", buffering=0)


def _lead_own_group() -> None:
    """Lead a process group, so that the client ends this process and its children together."""
    if sys.platform != "win32" and os.getpgid(0) != os.getpid():
        os.setpgid(0, 0)


if __name__ == "__main__":
    main()
