"""`python -m training …`: headless training."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from dataclasses import replace
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
    export = commands.add_parser("export", help="turn a run into a model folder")
    export.add_argument("--run", type=Path, required=True, help="run folder with data.json")
    export.add_argument("--name", required=True)
    export.add_argument("--title", required=True)
    export.add_argument("--output", type=Path, required=True, help="folder of model folders")
    export.add_argument("--checkpoint", default="last.pt")
    export.add_argument("--default", action="store_true", help="the protocol's default model")
    export.add_argument("--mirror", action="store_true", help="average with the mirrored patient")
    card = commands.add_parser("card", help="write a cohort's figures into a model's card")
    card.add_argument("--model", type=Path, required=True)
    card.add_argument("--evaluation", type=Path, required=True, help="JSON of evaluate --cohort")
    card.add_argument("--cases", required=True, help="what the cohort is, in words")
    return parser


def _export(arguments: argparse.Namespace) -> None:
    from .export import export_run

    model = export_run(
        arguments.run,
        arguments.name,
        arguments.title,
        arguments.output,
        arguments.checkpoint,
        arguments.default,
        arguments.mirror,
    )
    sys.stdout.write(f"Exported {model.manifest.name} to {model.folder}.\n")


def _card(arguments: argparse.Namespace) -> None:
    from DosePredictionLib.model import DoseModel
    from DosePredictionLib.schema import read_json

    from .export import fill_card

    figures = read_json(arguments.evaluation)
    model = DoseModel.load(arguments.model)
    fill_card(model, figures["summary"], figures["cases"], arguments.cases)
    sys.stdout.write(f"Filled in the card of {arguments.model}.\n")


def _train(arguments: argparse.Namespace) -> None:
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
    {"train": _train, "export": _export, "card": _card}[arguments.command](arguments)


if __name__ == "__main__":
    main()
