"""Training the dilated 2D network of OpenKBP's slices: the published loop's way beside ours.

Published: every structure of every slice is a file of its own, read for every sample; whole slices
of 128×128 pixels, turned by nearest neighbours; eager float32, contiguous in memory; the error is
taken over voxels that a boolean mask picks, and fetched at every step. Ours: the recipe's samples
(frames as large as patients are, out of arrays in memory, channels last, bfloat16 where the
processor has it, one product with the mask). Both read the shipped patient and train the published
widths; each runs in a fresh process with the same allocator. Medians over the steps after one to
warm up.

    python -m benchmarks.slices_training [--threads 2 --steps 3 --batch 8]
    python -m benchmarks.slices_training --threads 1 --processor-time   # other work on the machine
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .training import _TUNED as TUNED

_CASE = Path(__file__).parent.parent / "Resources" / "SampleData" / "openkbp" / "pt_235.npz"
_WIDTHS = [32, 64, 128, 256]
_SIDES = ("published", "ours, whole slices", "ours")
Clock = Callable[[], float]
_TURNS = tuple(range(0, 360, 40))


def written_slices(folder: Path) -> list[Path]:
    """A folder for each slice with dose, with a file for each channel, the mask and the dose."""
    import nibabel

    from DosePredictionLib.io import read_case

    case = read_case(_CASE)
    assert case.plan_dose is not None and case.dose_mask is not None
    arrays = {name: mask.array for name, mask in case.structures.items() if name != "External"}
    arrays |= {"ct": case.ct.array, "region": case.dose_mask.array, "dose": case.plan_dose.array}
    slices = []
    for z in np.flatnonzero(case.dose_mask.array.any(axis=(1, 2))):
        slices.append(folder / str(z))
        slices[-1].mkdir()
        for name, array in arrays.items():
            kept = array[z].astype(np.float32 if name == "dose" else np.int16)
            nibabel.save(nibabel.Nifti1Image(kept, np.eye(4)), slices[-1] / f"{name}.nii.gz")
    return slices


def published_sample(folder: Path, rng: np.random.Generator) -> tuple[NDArray, NDArray, NDArray]:
    """Input `(12, y, x)`, dose and mask `(1, y, x)` of a slice, the published loader's way."""
    import nibabel
    from scipy import ndimage

    from DosePredictionLib.models.published import OPENKBP_SLICE_ORDER

    arrays = []
    for name in (*OPENKBP_SLICE_ORDER[:-2], "region", "ct", "dose"):
        file = folder / f"{name}.nii.gz"
        there = file.is_file()
        arrays.append(np.asarray(nibabel.load(file).dataobj) if there else np.zeros((128, 128)))  # type: ignore[attr-defined]
    stacked = np.stack(arrays).astype(np.float32)
    stacked[11] = np.clip(stacked[11], -1024, 1500) / 1000
    stacked[12] /= 70
    if rng.random() < 0.5:
        stacked = stacked[..., ::-1]
    if rng.random() < 0.3:
        turn = rng.choice(_TURNS)
        stacked = ndimage.rotate(stacked, turn, axes=(1, 2), reshape=False, order=0)
    return stacked[:12].copy(), stacked[12:].copy(), stacked[10:11].copy()


def published(steps: int, batch: int, clock: Clock) -> dict[str, float]:
    """The published loop's way: median seconds of the data and of the network's step."""
    import torch

    from DosePredictionLib.networks import build_network

    arguments = {"structure_channels": 10, "strip_channels": 0, "derived_channels": 1}
    network = build_network("dilated_unet2d", {**arguments, "widths": _WIDTHS}).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4, weight_decay=1e-4)
    rng = np.random.default_rng(0)
    data, work = [], []
    with tempfile.TemporaryDirectory() as folder:
        slices = written_slices(Path(folder))
        for _ in range(steps + 1):
            started = clock()
            samples = [
                published_sample(slices[rng.integers(len(slices))], rng) for _ in range(batch)
            ]
            x, dose, mask = (
                torch.from_numpy(np.stack(each)) for each in zip(*samples, strict=True)
            )
            read = clock()
            optimizer.zero_grad()
            predicted = network(x).final
            inside = mask.bool()
            loss = (predicted[inside] - dose[inside]).abs().mean()
            loss.backward()
            optimizer.step()
            loss.item()
            data.append(read - started)
            work.append(clock() - read)
    return {"data": statistics.median(data[1:]), "step": statistics.median(work[1:])}


def ours(steps: int, batch: int, clock: Clock, crop: tuple[int, int, int]) -> dict[str, float]:
    """The way of this package: median seconds of the data and of the network's step."""
    from dataclasses import replace

    from DosePredictionLib.inference.device import has_hardware_bf16
    from DosePredictionLib.structures.protocol import StructureProtocol
    from training.data import TrainingCase
    from training.loop import Trainer
    from training.recipes.openkbp_dcnn import recipe
    from training.sampling import training_batches

    config = replace(
        recipe,
        crop=crop,
        batch_size=batch,
        precision="bf16" if has_hardware_bf16() else "fp32",
        network=replace(recipe.network, options={"widths": _WIDTHS}),
    )
    protocol = StructureProtocol.load(recipe.protocol)
    cases = [TrainingCase.read(_CASE, protocol, recipe.encoding)]
    data, work = [], []
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, protocol, Path(folder))
        batches = training_batches(cases, config, protocol)
        for _ in range(steps + 1):
            started = clock()
            samples = next(batches)
            read = clock()
            trainer.train_step(samples)
            data.append(read - started)
            work.append(clock() - read)
    return {"data": statistics.median(data[1:]), "step": statistics.median(work[1:])}


def _measured(side: str, call: argparse.Namespace) -> dict[str, float]:
    clock = time.process_time if call.processor_time else time.perf_counter
    if side == "published":
        return published(call.steps, call.batch, clock)
    from training.recipes.openkbp_dcnn import recipe

    crop = recipe.crop if side == "ours" else (1, 128, 128)
    return ours(call.steps, call.batch, clock, crop)


def _fresh(side: str, call: argparse.Namespace) -> dict[str, Any]:
    threads = {"OMP_NUM_THREADS": str(call.threads), "MKL_NUM_THREADS": str(call.threads)}
    command = [sys.executable, "-m", "benchmarks.slices_training", "--side", side]
    command += ["--steps", str(call.steps), "--batch", str(call.batch)]
    command += ["--processor-time"] if call.processor_time else []
    done = subprocess.run(
        command,
        env={**os.environ, **threads, **TUNED},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run each side in a fresh process and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3, help="timed steps (default: 3)")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processor-time", action="store_true", help="not wall time")
    parser.add_argument("--side", choices=_SIDES, help=argparse.SUPPRESS)
    call = parser.parse_args()
    write = sys.stdout.write
    if call.side:
        write(json.dumps(_measured(call.side, call)) + "\n")
        return
    write(f"Training the dilated 2D network, batch {call.batch}, {platform.machine()}, ")
    write(f"{call.threads} threads, medians of {call.steps} steps; seconds")
    write(" of processor time\n" if call.processor_time else "\n")
    write(f"{'':<20}{'data':>9}{'step':>9}{'slices/s':>10}\n")
    rates = {}
    for side in _SIDES:
        found = _fresh(side, call)
        rates[side] = call.batch / (found["data"] + found["step"])
        write(f"{side:<20}{found['data']:>9.3f}{found['step']:>9.3f}{rates[side]:>10.2f}\n")
    write(f"ours / published: {rates['ours'] / rates['published']:.2f}; ")
    write(f"whole slices: {rates['ours, whole slices'] / rates['published']:.2f}\n")


if __name__ == "__main__":
    main()
