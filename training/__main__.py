"""`python -m training …`: headless training."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

from DosePredictionLib.allocator import keep_freed_memory
from DosePredictionLib.protocol import StructureProtocol

from .config import TrainingConfig

__all__ = ["main"]


def load_recipe(name: str) -> TrainingConfig:
    """The recipe `training/recipes/<name>.py`."""
    return importlib.import_module(f"training.recipes.{name}").recipe


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a recipe on a folder of cases")
    train.add_argument("--recipe", default="openkbp_two_stage")
    train.add_argument("--training", type=Path, required=True, help="folder of training cases")
    train.add_argument("--validation", type=Path, required=True, help="folder of validation cases")
    train.add_argument("--output", type=Path, required=True, help="run folder")
    train.add_argument("--steps", type=int, help="optimizer steps (default: the recipe's)")
    train.add_argument("--validate-on", type=int, default=None, help="only the first N cases")
    train.add_argument("--time-limit", type=float, default=float("inf"), help="minutes")
    train.add_argument("--device", default="cpu")
    return parser


def _train(arguments: argparse.Namespace) -> None:
    from dataclasses import replace

    from .data import load_cases
    from .loop import Trainer

    config = load_recipe(arguments.recipe)
    if arguments.steps:
        config = replace(config, steps=arguments.steps)
    protocol = StructureProtocol.load(config.protocol)
    cores = os.cpu_count() or 1
    validation = load_cases(arguments.validation, protocol, config.encoding, cores)
    training = load_cases(arguments.training, protocol, config.encoding, cores)
    shared = {case.name for case in training} & {case.name for case in validation}
    if shared:
        sys.exit(f"These cases are in training and in validation: {', '.join(sorted(shared))}.")
    trainer = Trainer(config, protocol, arguments.output, arguments.device)
    last = arguments.output / "last.pt"
    if last.is_file():
        trainer.resume(last)
    trainer.train(training, validation[: arguments.validate_on], arguments.time_limit * 60)


def main() -> None:
    """Run one command."""
    keep_freed_memory()
    arguments = _parser().parse_args()
    {"train": _train}[arguments.command](arguments)


if __name__ == "__main__":
    main()
