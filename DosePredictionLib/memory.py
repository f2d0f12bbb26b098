"""How much memory this process may still take: the machine's, and its control groups' limits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["available_memory_bytes"]

_GROUPS = "sys/fs/cgroup"
# Version → limits, what is used, and which of it is only a cache of files (kernel.org,
# Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst).
_FILES = {
    1: (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
    2: (("memory.max", "memory.high"), "memory.current", "inactive_file"),
}


def available_memory_bytes(root: Path = Path("/")) -> int | None:
    """Memory that can still be had, or None where nothing says so.

    The least of what the system has and what the limits of the control groups of this process (v1
    and v2, those above them too) leave: a container ends a process at its limit, however much the
    machine has. Swap does not count.

    Args:
        root: of the file system.
    """
    known = [*_of_system(root), *_of_groups(root)]
    return max(0, min(known)) if known else None


def _of_system(root: Path) -> Iterator[int]:
    match = re.search(r"MemAvailable:\s+(\d+) kB", _text(root / "proc/meminfo"))
    if match:
        yield int(match.group(1)) * 1024


def _of_groups(root: Path) -> Iterator[int]:
    """What each group with a limit leaves."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":  # v2; beside v1 it is mounted below `unified`
            places = [(2, root / _GROUPS), (2, root / _GROUPS / "unified")]
        elif "memory" in controllers.split(","):
            places = [(1, root / _GROUPS / "memory")]
        else:
            continue
        for version, mounted in places:
            # A container sees its own group as the root, by whatever path the host calls it.
            inner = PurePosixPath(path.lstrip("/"))
            for group in (inner, *inner.parents):
                yield from _left(mounted / group, version)


def _left(group: Path, version: int) -> Iterator[int]:
    """Limits of one group less what is used of them; nothing where there is no limit."""
    limits, usage, cache = _FILES[version]
    used = _number(_text(group / usage))
    match = re.search(rf"^{cache} (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
    for name in limits:
        limit = _number(_text(group / name))
        if limit is not None:
            yield limit - (used or 0) + (int(match.group(1)) if match else 0)


def _number(text: str) -> int | None:
    """What a file of one number holds; None for `max` and for nothing."""
    return int(text) if re.fullmatch(r"\d{1,20}\s*", text) else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
