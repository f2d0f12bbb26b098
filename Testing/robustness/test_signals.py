"""A polite kill ends the work in other processes, and they clear up."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT

PROGRAM = """
import sys, time
from pathlib import Path
from DosePredictionLib.app.ending import exit_code_of, interrupt_on_termination
from DosePredictionLib.app.output import Output
from DosePredictionLib.files import whole_folder
from DosePredictionLib.processes import parallel_map

def work(path):
    with whole_folder(Path(path)) as aside:
        (aside / "begun").touch()
        time.sleep(60)

if __name__ == "__main__":
    interrupt_on_termination()
    paths = [f"{sys.argv[1]}/{index}" for index in range(4)]
    sys.exit(exit_code_of(lambda: len(list(parallel_map(work, paths, 2))), Output(False)))
"""


@pytest.mark.usefixtures("interrupts")
def test_sigterm_ends_the_workers_and_leaves_nothing(tmp_path: Path) -> None:
    program, output = tmp_path / "program.py", tmp_path / "out"
    program.write_text(PROGRAM)
    output.mkdir()
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(program), str(output)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(list(output.glob(".partial-*/new/begun"))) < 2:
        assert time.monotonic() - started < 120
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=120)
    assert process.returncode == 130 and len(printed.splitlines()) == 1, printed
    assert not list(output.iterdir())


def test_a_command_that_starts_loads_nothing_that_an_interrupt_could_break() -> None:
    """What takes seconds to load is loaded where an interrupt ends in one line."""
    program = "import sys, DosePredictionLib.cli; print({'numpy', 'torch'} & set(sys.modules))"
    called = [sys.executable, "-c", program]
    done = subprocess.run(called, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
