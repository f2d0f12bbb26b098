"""Keep freed memory in the process, for programs that free and map large tensors at every step."""

from __future__ import annotations

import ctypes
import platform

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Tell glibc not to return large blocks to the system; whether it took effect.

    By default glibc maps every block above 32 MB anew and the kernel zeroes its pages, which costs
    about half the time of a 3D network on two cores. For the command line and the trainer only: a
    host application such as Slicer decides about its own memory.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    largest = 2**31 - 1
    settings = ((_M_MMAP_THRESHOLD, largest), (_M_TRIM_THRESHOLD, largest), (_M_TOP_PAD, 2**26))
    return all([mallopt(option, value) == 1 for option, value in settings])
