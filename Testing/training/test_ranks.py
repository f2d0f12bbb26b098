"""Several processes, as torchrun starts them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from runs import run, run_jobs

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def test_two_ranks_equal_one(train_arguments, cohort: SimpleNamespace, tmp_path: Path) -> None:
    # From step 4 on, batch norm uses its running statistics: nothing depends on who sees what.
    # Not from the random start: with fresh statistics some gradients are about 1e-9, which Adam
    # divides by their own size; 3 of 181,072 weights then differed by up to 2e-5.
    extra = ("steps=7", "freeze_norm_after=0.5")
    first, second = (train_arguments(tmp_path / name, extra=extra) for name in ("one", "two"))
    evaluate = ["evaluate", "--run", str(tmp_path / "one"), "--cases", str(cohort.training)]
    codes = run_jobs(
        {"arguments": first, "kill": "step"},
        {"arguments": second, "kill": "step"},
        {"arguments": first},
        {"arguments": second, "ranks": 2},
        {"arguments": [*evaluate, "--output", str(tmp_path / "one.json")]},
        {"arguments": [*evaluate, "--output", str(tmp_path / "two.json")], "ranks": 2},
    )
    assert codes == [[-9], [-9], [0], [0, 0], [0], [0, 0]]
    ours, theirs = (torch.load(tmp_path / each / "last.pt") for each in ("one", "two"))
    assert ours["step"] == theirs["step"] == 7
    for part in ("model", "average"):
        for name, value in ours[part].items():
            torch.testing.assert_close(value, theirs[part][name], rtol=1e-5, atol=1e-5)
    # Of a cohort each rank scores its share; the figures are those of one.
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert [record["case"] for record in one["cases"]] == ["56x50x44", "60x48x40"]
    assert one == two


def test_a_rank_that_fails_ends_the_others_with_a_message(train_arguments, tmp_path: Path) -> None:
    arguments = train_arguments(tmp_path / "run", extra=("batch_size=3",))
    done = run([*LAUNCH, "-m", "training", *arguments], check=False)
    assert done.returncode != 0
    assert "A batch of 3 cannot be shared among 2 ranks" in done.stderr
