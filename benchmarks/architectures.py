"""What the networks of recipes cost: parameters, operations a voxel, processor time of a sample.

python -m benchmarks.architectures [RECIPE …]

A sample is a crop of 64×64×96 voxels; its time is the processor's in one thread, forward and back,
the least of three, so that other work on the machine shows little.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from DosePredictionLib.networks import DoseNetwork, build_network, parameter_count
from DosePredictionLib.structures.protocol import StructureProtocol
from training.__main__ import load_recipe
from training.loop import network_arguments

_RECIPES = ("openkbp_two_stage", "openkbp_beams_coarse", "openkbp_beams")
_CROP = (64, 64, 96)


def _networks(recipe: str) -> list[tuple[str, DoseNetwork]]:
    """What a recipe trains: its network, or the part of it that is not trained before."""
    config = load_recipe(recipe)
    arguments = network_arguments(config, StructureProtocol.load(config.protocol))
    network = build_network(config.network.architecture, arguments)
    part = getattr(network, "refine", None)
    return [(recipe, network)] if part is None else [(f"{recipe}, refining part", part)]


def _seconds(network: DoseNetwork, x: torch.Tensor, bf16: bool) -> float:
    seconds = []
    for _ in range(3):
        started = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = network(x).final.float().abs().mean()
        loss.backward()
        seconds.append(time.process_time() - started)
    return min(seconds)


def main(arguments: list[str] | None = None) -> None:
    """Print a row for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=_RECIPES)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for recipe in parser.parse_args(arguments).recipes:
        for words, network in _networks(recipe):
            network.to(memory_format=network.memory_format).train()  # type: ignore[call-overload]
            x = torch.rand(1, network.input_channels, *_CROP)
            x = x.to(memory_format=torch.channels_last_3d)
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                network(x)
            operations = counter.get_total_flops() / x[0, 0].numel()
            plain, half = (_seconds(network, x, bf16) for bf16 in (False, True))
            sys.stdout.write(
                f"{words}: {parameter_count(network):,} parameters, {operations / 1e3:.0f} kFLOP a "
                f"voxel, {plain:.2f} s a sample in float32, {half:.2f} s in bfloat16\n"
            )
            sys.stdout.flush()
    torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
