"""Training by two ranks of one thread beside one rank of one thread and one of two threads.

Every rank trains on its own crop of 64×96×96 of the shipped head-and-neck case (a batch of one
each) with the network and loss of the recipe `openkbp_two_stage`; ranks average their gradients by
gloo. Each arrangement runs in fresh processes. Samples a second over the steps 3 to 20; the share
of the time that was spent waiting for data is that of the trainer.

    python -m benchmarks.ranks [--steps 20 --crop 64 96 96]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_CASE = Path(__file__).parent.parent / "Resources" / "SampleData" / "openkbp" / "pt_235.npz"
_ARRANGEMENTS = {
    "1 rank of 1 thread": (1, 1),
    "2 ranks of 1 thread": (2, 1),
    "1 rank of 2 threads": (1, 2),
}
_FIRST_TIMED = 3


def train(steps: int, crop: tuple[int, int, int]) -> dict | None:
    """Train in this process, one of those that the environment says; seconds of the first rank."""
    from dataclasses import replace

    from DosePredictionLib.inference.allocator import keep_freed_memory
    from DosePredictionLib.structures.protocol import StructureProtocol
    from training.data import TrainingCase
    from training.distributed import is_first, ranks_joined, this_share
    from training.loop import Trainer
    from training.recipes.openkbp_two_stage import recipe
    from training.sampling import training_batches

    keep_freed_memory()
    protocol = StructureProtocol.load(recipe.protocol)
    cases = [TrainingCase.read(_CASE, protocol, recipe.encoding)]
    with ranks_joined("cpu") as device, tempfile.TemporaryDirectory() as folder:
        share = this_share()
        config = replace(recipe, crop=crop, batch_size=share.ranks, steps=steps)
        trainer = Trainer(config, protocol, Path(folder), device)
        batches = training_batches(cases, config, protocol, share=share)
        started = waited = 0.0
        for step in range(1, steps + 1):
            if step == _FIRST_TIMED:
                started, waited = time.perf_counter(), 0.0
            before = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - before
            trainer.train_step(batch)
        seconds = time.perf_counter() - started
        timed = steps - _FIRST_TIMED + 1
        result = {"samples_per_second": timed * share.ranks / seconds, "waiting": waited / seconds}
        return result if is_first() else None


def _run(ranks: int, threads: int, call: argparse.Namespace) -> dict:
    """The result of fresh processes, started as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.ranks", "--child", "--steps", str(call.steps)]
    command += ["--crop", *map(str, call.crop)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }
    if ranks > 1:
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        environment |= {"WORLD_SIZE": str(ranks)}
    processes = []
    for rank in range(ranks):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}
        processes.append(
            subprocess.Popen(command, env=environment | own, stdout=subprocess.PIPE, text=True)
        )
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit("A rank failed.")
    result: dict = json.loads(outputs[0].splitlines()[-1])
    return result


def main() -> None:
    """Run every arrangement and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--crop", type=int, nargs=3, default=(64, 96, 96), metavar="N")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    call = parser.parse_args()
    if call.child:
        result = train(call.steps, tuple(call.crop))
        sys.stdout.write(json.dumps(result) + "\n")
        return
    import torch

    write = sys.stdout.write
    crop = "×".join(map(str, call.crop))
    write(f"Training the two-stage network, {crop}, batch 1 a rank, torch {torch.__version__}, ")
    write(f"{platform.machine()}, steps {_FIRST_TIMED} to {call.steps}\n")
    speed = {}
    for name, (ranks, threads) in _ARRANGEMENTS.items():
        row = _run(ranks, threads, call)
        speed[name] = row["samples_per_second"]
        write(f"{name:<22}{speed[name]:>8.3f} samples/s, {100 * row['waiting']:.1f} % ")
        write("of the time spent waiting for data\n")
        sys.stdout.flush()
    one, two, threads_two = speed.values()
    write(f"2 ranks / 1 rank of 1 thread: {two / one:.2f}; ")
    write(f"2 ranks / 1 rank of 2 threads: {two / threads_two:.2f}\n")


if __name__ == "__main__":
    main()
