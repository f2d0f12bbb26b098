"""Inference of the two-stage network at 64×256×256 against the same network run plainly.

Plain means eager, contiguous, float32 with TF32 off, batch norm unfolded. Each side runs in a fresh
process with two threads: a warm-up, then the median of five; peak resident memory (VmHWM) with the
imports included. Both sides run with the default allocator and with the tuned one.

    python -m benchmarks.inference
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHAPE = (64, 256, 256)
REPEATS = 5
_TUNED = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**26),
}


def checkpoint(folder: Path) -> Path:
    """A checkpoint of the published size with random weights."""
    import torch

    from DosePredictionLib.networks import TwoStageNetwork
    from DosePredictionLib.networks.configs import TwoStageConfig

    torch.manual_seed(0)
    path = folder / "checkpoint.pt"
    torch.save({"model": TwoStageNetwork(TwoStageConfig(9)).state_dict()}, path)
    return path


def plain(folder: Path, device: str) -> dict:
    """The network as its authors ran it."""
    import torch

    from DosePredictionLib.networks import TwoStageNetwork
    from DosePredictionLib.networks.configs import TwoStageConfig

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    network = TwoStageNetwork(TwoStageConfig(9)).eval()
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    network.load_state_dict(state["model"])
    network = network.to(device)
    x = _input().to(device)
    with torch.no_grad():
        return _measured(lambda: network(x).final[0, 0].float().cpu(), folder / "plain.pt", device)


def ours(folder: Path, device: str) -> dict:
    """The network as `Predictor` runs it."""
    import torch

    from DosePredictionLib.inference.predictor import Predictor
    from DosePredictionLib.models.dose_model import DoseModel

    predictor = Predictor(DoseModel.load(folder / "models" / "bench"), device)
    x = _input()[0].numpy()
    return _measured(
        lambda: torch.from_numpy(predictor.infer(x).arrays["dose"].mean),
        folder / f"ours-{os.getpid()}.pt",
        device,
    ) | {"precision": predictor.precision}


def _input() -> Any:
    import torch

    torch.manual_seed(1)
    x = torch.zeros(1, 14, *SHAPE)
    x[:, 0] = torch.rand(SHAPE)
    x[:, 1:, 8:56, 60:200, 60:200] = (torch.rand(1, 13, 48, 140, 140) > 0.5).float()
    return x


def _measured(run: Callable[[], Any], result: Path, device: str) -> dict:
    import torch

    torch.set_num_threads(2)
    output = run()  # the warm-up, whose output is compared
    torch.save(output, result)
    seconds = []
    for _ in range(REPEATS):
        if device != "cpu":
            torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    status = Path("/proc/self/status")
    match = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
    peak_gib = int(match.group(1)) / 2**20 if match else None
    return {"seconds": statistics.median(seconds), "peak_gib": peak_gib, "result": str(result)}


def _fresh(side: str, folder: Path, device: str, tuned: bool) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": "2", **(_TUNED if tuned else {})}
    command = [sys.executable, "-m", "benchmarks.inference", "--side", side]
    command += ["--folder", str(folder), "--device", device]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run both sides in fresh processes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", choices=("plain", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--device", default="cpu")
    call = parser.parse_args()
    if call.side:
        measure = {"plain": plain, "ours": ours}[call.side]
        sys.stdout.write(json.dumps(measure(call.folder, call.device)) + "\n")
        return
    from DosePredictionLib.models.dose_model import DoseModel
    from DosePredictionLib.structures.protocol import StructureProtocol

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        protocol = StructureProtocol.load("pelvis")
        DoseModel.import_checkpoint(checkpoint(folder), "bench", protocol, folder / "models")
        rows = {
            (side, tuned): _fresh(side, folder, call.device, tuned)
            for tuned in (False, True)
            for side in ("plain", "ours")
        }
        _print(rows, call.device)


def _print(rows: dict, device: str) -> None:
    import torch

    baseline = rows["plain", False]
    reference = torch.load(baseline["result"])
    write = sys.stdout.write
    write(f"Two-stage network, {'×'.join(map(str, SHAPE))}, {device}, torch {torch.__version__}, ")
    write(f"{platform.machine()}, 2 threads, median of {REPEATS}\n")
    write(f"{'':<26}{'seconds':>9}{'peak GiB':>10}{'time':>8}{'memory':>8}{'mean |Δ|':>11}\n")
    for (side, tuned), row in rows.items():
        name = f"{side}, {'tuned' if tuned else 'default'} allocator"
        difference = (torch.load(row["result"]) - reference).abs().mean().item()
        time_ratio = row["seconds"] / baseline["seconds"]
        memory_ratio = row["peak_gib"] / baseline["peak_gib"]
        write(f"{name:<26}{row['seconds']:>9.2f}{row['peak_gib']:>10.2f}{time_ratio:>8.2f}")
        write(f"{memory_ratio:>8.2f}{difference:>11.1e}  {row.get('precision', 'fp32')}\n")
    same = rows["ours", True]["seconds"] / rows["plain", True]["seconds"]
    write(f"ours / plain, both with the tuned allocator: {same:.2f}\n")


if __name__ == "__main__":
    main()
