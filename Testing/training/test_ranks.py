"""Several processes under torchrun."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from runs import run

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def test_two_ranks_of_batch_one_equal_one_of_batch_two(train_command, tmp_path: Path) -> None:
    # Batch norm on its running statistics from the start: nothing depends on who sees what.
    extra = ("steps=3", "validate_every=3", "freeze_norm_after=0")
    one = train_command(tmp_path / "one", extra=extra)
    two = train_command(tmp_path / "two", extra=extra)
    run(one)
    run([*LAUNCH, *two[1:]])
    ours, theirs = (torch.load(tmp_path / each / "last.pt") for each in ("one", "two"))
    for part in ("model", "average"):
        for name, value in ours[part].items():
            torch.testing.assert_close(value, theirs[part][name], rtol=1e-5, atol=1e-5)


def test_a_rank_that_fails_ends_the_others_with_a_message(train_command, tmp_path: Path) -> None:
    arguments = train_command(tmp_path / "run", extra=("batch_size=3",))
    done = run([*LAUNCH, *arguments[1:]], check=False)
    assert done.returncode != 0
    assert "A batch of 3 cannot be shared among 2 ranks" in done.stderr
