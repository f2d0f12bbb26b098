"""A killed run, resumed by the same command, ends bit for bit as one that nothing interrupted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from runs import digest, run
from support import ROOT

KILLED = Path(__file__).with_name("killed.py")


@pytest.mark.parametrize(
    ("point", "workers"),
    [("step", "2"), ("step", "0"), ("validation", "0"), ("checkpoint", "0")],
)
def test_a_killed_run_resumes_bit_for_bit(
    point: str, workers: str, train_command, whole_run: Path, tmp_path: Path
) -> None:
    arguments = train_command(tmp_path / "run", "--workers", workers)
    planted = [sys.executable, str(KILLED), point, *arguments[3:]]
    killed = run(planted, check=False, PYTHONPATH=str(ROOT))
    assert killed.returncode == -9, killed.stderr
    assert torch.load(tmp_path / "run" / "last.pt")["step"] == 4
    run(arguments)
    ours, theirs = (torch.load(each / "last.pt") for each in (tmp_path / "run", whole_run))
    for part in ("model", "average", "optimizer", "step", "best_gy", "sums", "random"):
        assert digest(ours[part]) == digest(theirs[part]), part
    for name in ("metrics.jsonl", "config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (whole_run / name).read_bytes()
