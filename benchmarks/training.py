"""Training steps of the two-stage network against the same steps in the published loop's way.

Both sides train the published network by the published loss with the same optimizer settings on
the same random patients, each in a fresh process with the same allocator and two threads. Ours:
channels last in memory, losses that read each structure's voxels once, one fused optimizer, metrics
left to the validation, and bfloat16 autocast on a GPU. Medians over the steps after one to warm up.

    python -m benchmarks.training [--device cuda --shape 64 256 256]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

from DosePredictionLib.mask import majority

PHASES = ("forward", "loss", "strip SSIM", "backward", "metrics")
_BATCH = 2
_TUNED = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**26),
}


def patients(shape: tuple[int, int, int], device: str) -> tuple:
    """Network input `(batch, 14, z, y, x)` and plan dose of boxes with a smooth dose."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(1)
    z, y, x = shape
    masks = torch.zeros(_BATCH, 13, *shape)
    for organ in range(8):  # target and seven organs, of about 1 % of the volume each
        low = (z // 4, y // 8 + organ * y // 12, x // 4 + organ * x // 24)
        high = (3 * z // 4, low[1] + y // 6, low[2] + x // 6)
        masks[:, organ, low[0] : high[0], low[1] : high[1], low[2] : high[2]] = 1
    masks[:, 8, :, y // 8 : 7 * y // 8, x // 10 : 9 * x // 10] = 1
    for angle in range(4):
        masks[:, 9 + angle, z // 4 : 3 * z // 4, y // 8 : 7 * y // 8, x // 3 : x // 2] = 1
    rough = torch.rand(_BATCH, 1, z // 8, y // 16, x // 16)
    plan = F.interpolate(rough, size=shape, mode="trilinear") * masks[:, 8:9]
    ct = torch.rand(_BATCH, 1, *shape)
    return torch.cat([ct, masks], 1).to(device), plan.to(device)


class Clock:
    """Seconds of each phase of each step; waits for the device where there is one."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.phases: dict[str, list[float]] = {phase: [] for phase in PHASES}
        self.last = 0.0

    def start(self) -> None:
        """Begin a step."""
        self.last = self._now()

    def lap(self, phase: str) -> None:
        """End a phase."""
        now = self._now()
        self.phases[phase].append(now - self.last)
        self.last = now

    def _now(self) -> float:
        if self.device != "cpu":
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()


def published(shape: tuple[int, int, int], device: str, steps: int) -> dict:
    """The published loop's way."""
    import torch

    from DosePredictionLib.networks import TwoStageNetwork
    from DosePredictionLib.networks.configs import TwoStageConfig

    from .published_loop import loss_of, metrics_of, strip_ssim_of

    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.manual_seed(0)
    network = TwoStageNetwork(TwoStageConfig(9)).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-5)
    x, plan = patients(shape, device)
    clock, losses = Clock(device), []
    for _ in range(steps + 1):
        clock.start()
        target, body = majority(x[:, 1:2]).float(), majority(x[:, 9:10]).float()
        organs = [majority(x[:, i : i + 1]).float() for i in range(2, 9)]
        strips = majority(x[:, 10:]).float()
        optimizer.zero_grad(set_to_none=True)
        coarse, final = network(x)
        clock.lap("forward")
        loss = loss_of(coarse, final, plan, body, organs, strips)
        clock.lap("loss")
        strip_ssim_of(final, plan, body, strips)
        clock.lap("strip SSIM")
        loss.backward()
        optimizer.step()
        clock.lap("backward")
        metrics_of(final.detach(), plan, body, target, organs)
        losses.append(float(loss.detach()))
        clock.lap("metrics")
    return _result(clock, losses, device)


def ours(shape: tuple[int, int, int], device: str, steps: int) -> dict:
    """The way of this package."""
    import torch

    from DosePredictionLib.losses import PUBLISHED_PELVIS, LossInput, WeightedSum
    from DosePredictionLib.networks import TwoStageNetwork
    from DosePredictionLib.networks.configs import TwoStageConfig
    from DosePredictionLib.structures.protocol import StructureProtocol

    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    channels = StructureProtocol.load("pelvis").inputs
    network = TwoStageNetwork(TwoStageConfig(9)).to(device)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-5, fused=True)
    weighted = WeightedSum(PUBLISHED_PELVIS)
    x, plan = patients(shape, device)
    clock, losses = Clock(device), []
    for _ in range(steps + 1):
        clock.start()
        masks = majority(x[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=device != "cpu"):
            coarse, final = network(x.to(memory_format=torch.channels_last_3d))
        clock.lap("forward")
        batch = LossInput(
            prediction=final,
            coarse=coarse,
            reference=plan,
            region=masks[:, 8:9],
            structures=masks[:, :9],
            names=[channel.name for channel in channels],
            roles=[channel.role for channel in channels],
            dose_scale_gy=52.0,
            strips=masks[:, 9:],
        )
        loss = weighted(batch).total
        clock.lap("loss")
        clock.lap("strip SSIM")
        loss.backward()
        optimizer.step()
        clock.lap("backward")
        losses.append(loss.detach())
        clock.lap("metrics")
    return _result(clock, [float(loss) for loss in losses], device)


def _result(clock: Clock, losses: list[float], device: str) -> dict:
    seconds = {phase: statistics.median(laps[1:]) for phase, laps in clock.phases.items()}
    steps = [sum(laps) for laps in zip(*clock.phases.values(), strict=True)][1:]
    result = {"phases": seconds, "step": statistics.median(steps), "losses": losses}
    if device != "cpu":
        import torch

        result["reserved_gib"] = torch.cuda.max_memory_reserved() / 2**30
    return result


def _fresh(side: str, call: argparse.Namespace) -> dict:
    threads = {"OMP_NUM_THREADS": str(call.threads), "MKL_NUM_THREADS": str(call.threads)}
    command = [sys.executable, "-m", "benchmarks.training", "--side", side]
    command += ["--device", call.device, "--steps", str(call.steps), "--shape"]
    command += [str(length) for length in call.shape]
    environment = {**os.environ, **threads, **_TUNED}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run both sides in fresh processes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", type=int, nargs=3, default=(32, 128, 128), metavar="N")
    parser.add_argument("--steps", type=int, default=20, help="timed steps (default: 20)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=("published", "ours"), help=argparse.SUPPRESS)
    call = parser.parse_args()
    if call.side:
        measure = {"published": published, "ours": ours}[call.side]
        result = measure(tuple(call.shape), call.device, call.steps)
        sys.stdout.write(json.dumps(result) + "\n")
        return
    _print({side: _fresh(side, call) for side in ("published", "ours")}, call)


def _print(rows: dict, call: argparse.Namespace) -> None:
    import torch

    write = sys.stdout.write
    shape = "×".join(map(str, call.shape))
    write(f"Training the two-stage network, {shape}, batch {_BATCH}, {call.device}, torch ")
    write(f"{torch.__version__}, {platform.machine()}, {call.threads} threads, medians of ")
    write(f"{call.steps} steps; seconds\n")
    write(f"{'':<11}" + "".join(f"{phase:>12}" for phase in PHASES))
    write(f"{'step':>9}{'samples/s':>11}\n")
    for side, row in rows.items():
        write(f"{side:<11}" + "".join(f"{row['phases'][phase]:>12.3f}" for phase in PHASES))
        write(f"{row['step']:>9.3f}{_BATCH / row['step']:>11.3f}")
        write(f"  {row['reserved_gib']:.1f} GiB reserved\n" if "reserved_gib" in row else "\n")
    theirs, own = rows["published"], rows["ours"]
    unused = theirs["phases"]["strip SSIM"]
    write(f"published / ours: {theirs['step'] / own['step']:.2f}; without the strips' SSIM, which ")
    write(f"has no weight in the loss: {(theirs['step'] - unused) / own['step']:.2f}\n")
    write(f"first loss: published {theirs['losses'][0]:.6f}, ours {own['losses'][0]:.6f}\n")


if __name__ == "__main__":
    main()
