"""Processes: whether one is alive, how many cores there are, and the one map over several."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from types import FrameType
from typing import Literal, TypeVar

from .errors import DosePredictionError

__all__ = ["is_alive", "parallel_map", "usable_cores"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    start: Literal["fork", "spawn"] | None = None,
) -> Iterator[tuple[int, Result]]:
    """Index and result of each item, as they become ready; one worker works in this process.

    The first exception ends the work, as closing the iterator does: what has not begun is
    cancelled. An interrupt ends the workers, too.

    Args:
        function: of the module level, so that another process finds it.
        workers: processes at most; never more than items.
        start: how processes begin; None: the platform's way.

    Raises:
        DosePredictionError: a process died.
    """
    workers = min(workers, len(items))
    if workers <= 1 and start is None:
        yield from ((index, function(item)) for index, item in enumerate(items))
        return
    context = multiprocessing.get_context(start)
    others = multiprocessing.active_children()
    task = functools.partial(_interruptible, function)
    with ProcessPoolExecutor(max(1, workers), context, _leave_signals_to_parent) as pool:
        try:
            index_of = {pool.submit(task, item): index for index, item in enumerate(items)}
            for future in as_completed(index_of):
                yield index_of.pop(future), future.result()  # which is not kept either
        except BrokenProcessPool as exception:
            raise DosePredictionError(
                "A worker died, perhaps because memory ran out. What was finished is kept; "
                "run the same command again with fewer --workers."
            ) from exception
        except KeyboardInterrupt:
            for child in multiprocessing.active_children():
                if child not in others:
                    child.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _leave_signals_to_parent() -> None:
    """In a worker: the terminal's Ctrl-C reaches every process, and the parent passes it on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interruptible(function: Callable[[Item], Result], item: Item) -> Result:
    """In a worker: an item whose work takes its unfinished files away when it is terminated."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would stop the clearing up
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        return function(item)
    except KeyboardInterrupt:
        os._exit(1)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def usable_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if sys.platform == "win32":
    import ctypes

    _SYNCHRONIZE = 0x00100000
    _WAIT_TIMEOUT = 0x102

    def is_alive(pid: int) -> bool:
        """Whether the process exists and has not ended."""
        kernel32 = ctypes.WinDLL("kernel32")
        kernel32.OpenProcess.restype = ctypes.c_void_p
        kernel32.WaitForSingleObject.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        kernel32.CloseHandle.argtypes = (ctypes.c_void_p,)
        handle = kernel32.OpenProcess(_SYNCHRONIZE, False, pid)
        if not handle:
            return False
        try:
            return bool(kernel32.WaitForSingleObject(handle, 0) == _WAIT_TIMEOUT)
        finally:
            kernel32.CloseHandle(handle)

else:
    from pathlib import Path

    def is_alive(pid: int) -> bool:
        """Whether the process exists and is no zombie, whose parent may never wait for it."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        try:
            # The state follows the name in brackets, which may hold anything.
            state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
        except OSError:
            return True  # no /proc here
        return state.split()[0] != "Z"
