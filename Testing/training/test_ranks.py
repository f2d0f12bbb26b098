"""Several processes under torchrun."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from runs import run
from support import ROOT

KILLED = Path(__file__).with_name("killed.py")
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def test_two_ranks_of_batch_one_equal_one_of_batch_two(train_command, tmp_path: Path) -> None:
    # From step 4 on, batch norm uses its running statistics: nothing depends on who sees what.
    # Not from the random start: with fresh statistics some gradients are about 1e-9, which Adam
    # divides by their own size; 3 of 181,072 weights then differed by up to 2e-5.
    extra = ("steps=7", "freeze_norm_after=0.5")
    start = train_command(tmp_path / "one", extra=extra)
    killed = run([sys.executable, str(KILLED), "step", *start[3:]], False, PYTHONPATH=str(ROOT))
    assert killed.returncode == -9, killed.stderr
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    run(start)
    run([*LAUNCH, *train_command(tmp_path / "two", extra=extra)[1:]])
    ours, theirs = (torch.load(tmp_path / each / "last.pt") for each in ("one", "two"))
    assert ours["step"] == theirs["step"] == 7
    for part in ("model", "average"):
        for name, value in ours[part].items():
            torch.testing.assert_close(value, theirs[part][name], rtol=1e-5, atol=1e-5)


def test_a_rank_that_fails_ends_the_others_with_a_message(train_command, tmp_path: Path) -> None:
    arguments = train_command(tmp_path / "run", extra=("batch_size=3",))
    done = run([*LAUNCH, *arguments[1:]], check=False)
    assert done.returncode != 0
    assert "A batch of 3 cannot be shared among 2 ranks" in done.stderr
