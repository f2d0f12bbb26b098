"""How runs of the trainer begin and end when something is wrong, or a polite kill comes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from runs import tiny
from support import ROOT

from DosePredictionLib.models.dose_model import DoseModel
from training import sampling
from training.__main__ import main


@pytest.mark.parametrize("kind", ["of another encoding", "none", "a file"])
def test_a_model_that_cannot_be_continued_leaves_no_run_folder(
    kind: str,
    train_arguments,
    tmp_path: Path,
    pelvis_model: DoseModel,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "weights"
    file.touch()
    start = {"of another encoding": pelvis_model.folder, "none": tmp_path / "none", "a file": file}
    code = main(train_arguments(tmp_path / "run", "--continue-from", str(start[kind])))
    lines = capsys.readouterr().err.splitlines()
    assert code == 2 and len([line for line in lines if line.startswith("error: ")]) == 1
    assert not (tmp_path / "run").exists()


def _until(condition, process: subprocess.Popen, seconds: float = 150) -> None:
    started = time.monotonic()
    while not condition():
        assert process.poll() is None and time.monotonic() - started < seconds
        time.sleep(0.02)


def _children(process: int) -> list[int]:
    """Processes below one, at any depth."""
    found, left = [], [process]
    while left:
        try:
            text = Path(f"/proc/{left[0]}/task/{left[0]}/children").read_text()
        except OSError:
            text = ""
        below = [int(number) for number in text.split()]
        found += below
        left = left[1:] + below
    return found


def _is_alive(process: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


@pytest.mark.usefixtures("interrupts")
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("command", ["train", "prepare"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_polite_kill_ends_children_and_leaves_no_parts(
    command: str, number: int, train_arguments, cohort: SimpleNamespace, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    if command == "train":
        extra = ("steps=100000", "validate_every=2")
        words = train_arguments(output, "--workers", "1", extra=extra)
    else:
        cases = cohort.training.with_name("training_cases")
        many = tmp_path / "cases"
        for index in range(60):
            shutil.copytree(next(cases.iterdir()), many / f"case{index}")
        words = tiny("prepare", "--cases", many, "--output", output, "--workers", "2")
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    begun = "last.pt" if command == "train" else "cases/case*"
    try:
        _until(lambda: any(output.glob(begun)), process)
        children = _children(process.pid)
        process.send_signal(number)
        _, printed = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, printed
    assert "Traceback" not in printed and printed.count("Interrupted") == 1, printed
    assert children and not any(map(_is_alive, children))
    assert not [path for path in output.rglob("*") if "partial" in path.name]


def test_a_worker_whose_parent_left_says_nothing_but_a_defect_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, value, trace: shown.append(kind))
    sampling._outlive_parent_quietly(0)
    for kind in (EOFError, ConnectionResetError, BrokenPipeError, ValueError):
        sys.excepthook(kind, kind(), None)
    assert shown == [ValueError]
