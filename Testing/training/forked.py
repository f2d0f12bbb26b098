"""Runs of `python -m training`, each in a process of its own that a prepared one forks.

python forked.py < JOBS > EXIT_CODES: JOBS is a JSON list of jobs, done one after the other:

    {"arguments": ["train", …], "kill": null, "ranks": 1, "kill_rank": 0}

`kill` names the point at which the process dies as by `kill -9`: `step`, `validation`, `record` or
`checkpoint`. With `ranks`, that many are started as torchrun would, and `kill_rank` is the one that
dies. Torch is imported once, and not
used before the fork.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from typing import Any

import torch
import torch._inductor  # of deterministic algorithms
import torch.utils.tensorboard

from training import evaluation, loop
from training.__main__ import main as training


def _die(*arguments: Any, **options: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _plant(point: str) -> None:
    """Make this process die at the named point."""
    count = 0
    if point == "step":
        step = loop.Trainer.train_step

        def until_sixth(self: Any, batch: Any) -> float:
            if self.step == 6:
                _die()
            return step(self, batch)

        loop.Trainer.train_step = until_sixth  # type: ignore[method-assign]
    elif point == "validation":
        figures = loop.validation_figures

        def until_second(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            return _die() if count == 2 else figures(*arguments)

        loop.validation_figures = until_second  # type: ignore[assignment]
    elif point == "record":
        loop.save_checkpoint = _die  # the first one, after the first record
    else:
        save = torch.save

        def half(state: Any, file: Any) -> None:
            nonlocal count
            count += file.name.endswith("last.pt.partial")
            if count == 2:  # that of step 8
                file.write(b"half a checkpoint")
                file.flush()
                _die()
            save(state, file)

        torch.save = half


def _forked(job: dict[str, Any], environment: dict[str, str]) -> int:
    """The id of a process that does the job."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.environ.update(environment)
        os.dup2(2, 1)
        if job.get("kill") and environment.get("RANK", "0") == str(job.get("kill_rank", 0)):
            _plant(job["kill"])
        code = training(job["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _exit_codes(job: dict[str, Any]) -> list[int]:
    ranks = job.get("ranks", 1)
    environments: list[dict[str, str]] = [{}]
    if ranks > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
        environments = [
            {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)
        ]
    processes = [_forked(job, each) for each in environments]
    return [os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in processes]


if __name__ == "__main__":
    assert evaluation.of_run  # imported for the children
    json.dump([_exit_codes(job) for job in json.load(sys.stdin)], sys.stdout)
