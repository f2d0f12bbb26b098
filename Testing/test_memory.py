"""Memory that may still be taken: the machine's and the limits of its control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from DosePredictionLib.memory import available_memory_bytes

MB = 2**20


def system(root: Path, available_mb: int, cgroup: str, files: dict[str, str]) -> Path:
    """A file system with what Linux says of memory."""
    contents = {
        "proc/meminfo": f"MemTotal: 99 kB\nMemAvailable:   {available_mb * 1024} kB\n",
        "proc/self/cgroup": cgroup,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }
    for name, text in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V1_LIMIT, V1_USED = "memory.limit_in_bytes", "memory.usage_in_bytes"


@pytest.mark.parametrize(
    ("cgroup", "files", "wanted_mb"),
    [
        ("", {}, 1000),
        ("0::/\n", {"memory.max": "max\n", "memory.current": f"{MB}\n"}, 1000),
        ("0::/\n", {"memory.max": f"{300 * MB}\n", "memory.current": f"{100 * MB}\n"}, 200),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": f"{50 * MB}\n"}, 50),
        ("0::/a\n", {"a/memory.max": f"{500 * MB}\n", "a/memory.high": f"{70 * MB}\n"}, 70),
        # A cache of files is given back before anything is refused.
        (
            "0::/\n",
            {
                "memory.max": f"{300 * MB}\n",
                "memory.current": f"{290 * MB}\n",
                "memory.stat": f"anon 5\ninactive_file {250 * MB}\nactive_file 7\n",
            },
            260,
        ),
        # A container whose group has another name on the host.
        ("0::/host/name\n", {"memory.max": f"{64 * MB}\n"}, 64),
        ("1:name=systemd:/x\n4:cpu,memory:/x\n", {f"memory/x/{V1_LIMIT}": f"{40 * MB}\n"}, 40),
        (
            "4:memory:/x\n0::/\n",
            {
                f"memory/{V1_LIMIT}": "9223372036854771712\n",
                f"memory/x/{V1_LIMIT}": f"{400 * MB}\n",
                f"memory/x/{V1_USED}": f"{390 * MB}\n",
                "memory/x/memory.stat": f"inactive_file 1\ntotal_inactive_file {20 * MB}\n",
            },
            30,
        ),
        ("4:memory:/x\n", {f"memory/x/{V1_LIMIT}": f"{5 * MB}", f"memory/x/{V1_USED}": "9e9"}, 5),
        ("4:memory:/x\n", {f"memory/x/{V1_LIMIT}": f"{MB}", f"memory/x/{V1_USED}": f"{2 * MB}"}, 0),
        ("nonsense\n\n:::\n", {"memory.max": "\x00"}, 1000),
    ],
)
def test_the_least_that_anyone_leaves_is_what_there_is(
    tmp_path: Path, cgroup: str, files: dict[str, str], wanted_mb: int
) -> None:
    assert available_memory_bytes(system(tmp_path, 1000, cgroup, files)) == wanted_mb * MB


def test_a_system_that_says_nothing_has_no_number(tmp_path: Path) -> None:
    assert available_memory_bytes(tmp_path) is None


def test_this_machine_has_memory() -> None:
    available = available_memory_bytes()
    assert available is None or available > 0
