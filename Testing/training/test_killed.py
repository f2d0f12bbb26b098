"""A killed run, resumed by the same command, ends bit for bit as one that nothing interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import digest, run_jobs

CASES = [("step", "2"), ("step", "0"), ("validation", "0"), ("checkpoint", "0"), ("record", "0")]


@pytest.fixture(scope="module")
def runs(train_arguments, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`whole`, that nothing interrupted, and `<point><workers>`, killed and resumed."""
    folder = tmp_path_factory.mktemp("runs")
    jobs = [{"arguments": train_arguments(folder / "whole")}]
    for point, workers in CASES:
        arguments = train_arguments(folder / f"{point}{workers}", "--workers", workers)
        jobs += [{"arguments": arguments, "kill": point}, {"arguments": arguments}]
    codes = run_jobs(*jobs)
    assert codes == [[0], *[[-9], [0]] * len(CASES)]
    return folder


@pytest.mark.parametrize(("point", "workers"), CASES)
def test_a_killed_run_resumes_bit_for_bit(point: str, workers: str, runs: Path) -> None:
    resumed, whole = runs / f"{point}{workers}", runs / "whole"
    ours, theirs = (torch.load(each / "last.pt") for each in (resumed, whole))
    assert ours["step"] == 8
    for part in ("model", "average", "optimizer", "step", "best_gy", "sums", "random"):
        assert digest(ours[part]) == digest(theirs[part]), part
    for name in ("metrics.jsonl", "config.json"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()
