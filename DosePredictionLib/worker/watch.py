"""Whether the process that started the worker still lives."""

from __future__ import annotations

import os
import sys

__all__ = ["is_alive"]

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
        """Whether the process exists and is no zombie, which nobody may come to bury."""
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
