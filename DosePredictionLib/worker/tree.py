"""A process and everything that it started, to be ended together.

POSIX: the worker leads a process group of its own; a launcher in front of it is named apart.
Windows: a Job Object, which children of its members join by themselves and which ends them when
its last handle closes, the client's death included.
"""

from __future__ import annotations

import sys

__all__ = ["ProcessTree"]


class ProcessTree:
    """Processes that are ended together with their children.

    A client adopts what it started as soon as it runs, and the worker when its `Ready` names
    itself: that may be the child of a launcher, which dies without its child.
    """

    def __init__(self) -> None:
        self._group = _Group()

    def adopt(self, pid: int) -> None:
        """Count a process in. One that has ended already is passed over."""
        self._group.add(pid)

    def kill(self) -> None:
        """End all of them at once, without asking. Afterwards the tree is empty."""
        self._group.end()


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _KILL_ON_JOB_CLOSE = 0x2000
    _EXTENDED_LIMIT_INFORMATION = 9
    _PROCESS_SET_QUOTA_AND_TERMINATE = 0x0100 | 0x0001

    class _BasicLimits(ctypes.Structure):
        """JOBOBJECT_BASIC_LIMIT_INFORMATION."""

        _fields_ = (
            ("PerProcessUserTimeLimit", ctypes.c_int64),
            ("PerJobUserTimeLimit", ctypes.c_int64),
            ("LimitFlags", wintypes.DWORD),
            ("MinimumWorkingSetSize", ctypes.c_size_t),
            ("MaximumWorkingSetSize", ctypes.c_size_t),
            ("ActiveProcessLimit", wintypes.DWORD),
            ("Affinity", ctypes.c_size_t),
            ("PriorityClass", wintypes.DWORD),
            ("SchedulingClass", wintypes.DWORD),
        )

    class _ExtendedLimits(ctypes.Structure):
        """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

        _fields_ = (
            ("BasicLimitInformation", _BasicLimits),
            ("IoInfo", ctypes.c_uint64 * 6),
            ("ProcessMemoryLimit", ctypes.c_size_t),
            ("JobMemoryLimit", ctypes.c_size_t),
            ("PeakProcessMemoryUsed", ctypes.c_size_t),
            ("PeakJobMemoryUsed", ctypes.c_size_t),
        )

    def _kernel32() -> ctypes.WinDLL:
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        handle, dword = wintypes.HANDLE, wintypes.DWORD
        kernel32.CreateJobObjectW.restype = handle
        kernel32.CreateJobObjectW.argtypes = (ctypes.c_void_p, wintypes.LPCWSTR)
        kernel32.SetInformationJobObject.argtypes = (handle, ctypes.c_int, ctypes.c_void_p, dword)
        kernel32.OpenProcess.restype = handle
        kernel32.OpenProcess.argtypes = (dword, wintypes.BOOL, dword)
        kernel32.AssignProcessToJobObject.argtypes = (handle, handle)
        kernel32.TerminateJobObject.argtypes = (handle, wintypes.UINT)
        kernel32.CloseHandle.argtypes = (handle,)
        return kernel32

    class _Group:
        """A Job Object that ends its members when it closes."""

        def __init__(self) -> None:
            self._kernel32 = _kernel32()
            self._handle = self._open()

        def _open(self) -> int:
            handle: int = self._kernel32.CreateJobObjectW(None, None)
            limits = _ExtendedLimits()
            limits.BasicLimitInformation.LimitFlags = _KILL_ON_JOB_CLOSE
            self._kernel32.SetInformationJobObject(
                handle, _EXTENDED_LIMIT_INFORMATION, ctypes.byref(limits), ctypes.sizeof(limits)
            )
            return handle

        def add(self, pid: int) -> None:
            process = self._kernel32.OpenProcess(_PROCESS_SET_QUOTA_AND_TERMINATE, False, pid)
            if process:
                self._kernel32.AssignProcessToJobObject(self._handle, process)
                self._kernel32.CloseHandle(process)

        def end(self) -> None:
            self._kernel32.TerminateJobObject(self._handle, 1)

else:
    import os
    import signal

    class _Group:
        """Processes, and the process groups that they lead."""

        def __init__(self) -> None:
            self._pids: list[int] = []

        def add(self, pid: int) -> None:
            if pid not in self._pids:
                self._pids.append(pid)

        def end(self) -> None:
            for pid in self._pids:
                _kill_group(pid)
            self._pids.clear()

    def _kill_group(pid: int) -> None:
        """End a process, and its whole group if it leads one; never this process's own group."""
        try:
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            # The leader has been reaped; its group may live on.
            try:
                os.killpg(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                return
        except PermissionError:
            return
