"""`python -m training …`: headless training."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from DosePredictionLib.app.ending import exit_code_of, interrupt_on_termination
from DosePredictionLib.app.output import Output
from DosePredictionLib.encoding.encoder import EncodingSettings
from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.inference.allocator import keep_freed_memory
from DosePredictionLib.inference.device import resolve_device
from DosePredictionLib.processes import usable_cores
from DosePredictionLib.structures.protocol import StructureProtocol

from .arguments import COUNT, MINUTES, WORKERS, WORKERS_OR_NONE, Parser, field_of, within
from .calibration import add_arguments as add_calibrate
from .calibration import run as run_calibrate
from .clinical import add_arguments as add_clinical_arguments
from .clinical import run as prepare_clinical
from .config import TrainingConfig
from .data import TrainingCase, require_one_prescription
from .distribution import add_arguments as add_distribution
from .distribution import run as run_distribution
from .simulation.command import add_arguments as add_simulate
from .simulation.command import run as run_simulate
from .splits import Fold, HeldOut, chosen, known_patients_of_model, record_patients, trained_on
from .vmat import add_arguments as add_vmat_arguments
from .vmat import run as prepare_vmat

if TYPE_CHECKING:
    from .mimicking import CoarseRun

__all__ = ["load_recipe", "main", "resolved_config"]


def load_recipe(name: str) -> TrainingConfig:
    """The recipe `training/recipes/<name>.py`.

    Raises:
        DosePredictionError: there is none of that name; the message lists those there are.
    """
    folder = Path(__file__).parent / "recipes"
    known = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    if name not in known:
        raise DosePredictionError(f"There is no recipe {name!r}; there are {', '.join(known)}.")
    recipe: TrainingConfig = importlib.import_module(f"training.recipes.{name}").recipe
    return recipe


def resolved_config(arguments: argparse.Namespace) -> TrainingConfig:
    """The recipe, gentler if it continues from a model, with what the command line sets."""
    from .overrides import overridden

    config = load_recipe(arguments.recipe)
    if getattr(arguments, "frozen", None):
        from .residuals import frozen_on

        config = frozen_on(config, arguments.frozen)
    if getattr(arguments, "continue_from", None):
        from DosePredictionLib.models.manifest import read_manifest

        from .continuing import continued

        config = continued(config, read_manifest(arguments.continue_from))
    if getattr(arguments, "steps", None) is not None:
        config = replace(config, steps=arguments.steps)
    return overridden(config, arguments.set)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="encode a folder of cases into a cache")
    _add_recipe(prepare)
    prepare.add_argument("--cases", type=Path, required=True, help="folder of cases with plan dose")
    made = prepare.add_mutually_exclusive_group(required=True)
    made.add_argument("--output", type=Path, help="cache folder")
    made.add_argument("--compact", type=Path, metavar="FILE", help="one small file instead")
    prepare.add_argument("--workers", type=within(WORKERS), default=usable_cores())
    _add_held_out(prepare)
    add_clinical_arguments(
        commands.add_parser(
            "prepare-clinical", help="turn DICOM patients into case folders without their names"
        )
    )
    add_vmat_arguments(
        commands.add_parser(
            "prepare-vmat", help="write cases as npz files of the VMAT diffusion project"
        )
    )
    _add_train(commands.add_parser("train", help="train a recipe on a cache or a folder of cases"))
    _add_mimic(commands)
    residuals = commands.add_parser(
        "residuals", help="add a frozen model's doses to a cache, for its heads to learn from"
    )
    residuals.add_argument("--model", required=True, help="name or folder, whose weights stay")
    residuals.add_argument("--cases", type=Path, required=True, help="folder of the cache's cases")
    residuals.add_argument("--cache", type=Path, required=True)
    residuals.add_argument("--device", default="cpu")
    _add_evaluate(commands.add_parser("evaluate", help="score a model or a run on a cohort"))
    _add_export(commands.add_parser("export", help="turn a run into a model folder"))
    add_simulate(commands.add_parser("simulate", help="make simulated pelvis patients with plans"))
    add_calibrate(
        commands.add_parser(
            "calibrate", help="make a model's bands from plans that it has not seen"
        )
    )
    add_distribution(
        commands.add_parser(
            "distribution", help="say what a model's patients were like, to notice others"
        )
    )
    card = commands.add_parser("card", help="write a cohort's figures into a model's card")
    card.add_argument("--model", type=Path, required=True)
    card.add_argument("--evaluation", type=Path, required=True, help="JSON of evaluate --cohort")
    card.add_argument("--cases", required=True, help="what the cohort is, in words")
    return parser


def _add_export(export: argparse.ArgumentParser) -> None:
    export.add_argument("--run", type=Path, required=True, help="run folder with data.json")
    export.add_argument("--name", required=True)
    export.add_argument("--title", required=True)
    export.add_argument("--output", type=Path, required=True, help="folder of model folders")
    export.add_argument("--checkpoint", default="last.pt")
    export.add_argument("--default", action="store_true", help="the protocol's default model")
    export.add_argument("--mirror", action="store_true", help="average with the mirrored patient")
    export.add_argument(
        "--coarse",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs whose networks predict as the coarse ones of a beam_cascade, in the place of "
        "those whose doses the refining one learned from",
    )


def _add_mimic(commands: argparse._SubParsersAction[Parser]) -> None:
    mimicking = commands.add_parser(
        "mimic", help="add coarse networks' doses, and the beams' nearest to them, to a cache"
    )
    mimicking.add_argument("--runs", type=Path, nargs="+", required=True, help="coarse networks'")
    mimicking.add_argument("--cases", type=Path, required=True, help="folder of the cache's cases")
    mimicking.add_argument("--cache", type=Path, required=True)
    mimicking.add_argument("--device", default="cpu", help="of the coarse networks")
    mimicking.add_argument("--workers", type=within(WORKERS), default=usable_cores())


def _add_train(train: argparse.ArgumentParser) -> None:
    _add_recipe(train)
    train.add_argument(
        "--training", type=Path, required=True, help="cache, compact file or folder of cases"
    )
    train.add_argument("--validation", type=Path, required=True, help="likewise")
    train.add_argument("--output", type=Path, required=True, help="run folder")
    train.add_argument(
        "--steps",
        type=field_of(TrainingConfig, "steps"),
        help="optimizer steps (default: the recipe's)",
    )
    train.add_argument(
        "--validate-on", type=within(COUNT), default=None, help="only the first N cases"
    )
    train.add_argument("--time-limit", type=within(MINUTES), default=float("inf"), help="minutes")
    train.add_argument("--device", default="cpu")
    train.add_argument(
        "--workers", type=within(WORKERS_OR_NONE), default=0, help="processes that prepare batches"
    )
    train.add_argument(
        "--checkpoint-activations",
        action="store_true",
        help="less memory for more time: compute activations again in the backward pass",
    )
    train.add_argument("--continue-from", type=Path, help="model folder whose weights to start on")
    train.add_argument(
        "--coarse",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="runs whose networks become the coarse ones of a beam_cascade",
    )
    train.add_argument(
        "--fold",
        type=_fold,
        metavar="K/N",
        help="leave out the K-th of N parts of the training cases, drawn by the recipe's seed",
    )
    train.add_argument(
        "--without",
        nargs="+",
        default=[],
        metavar="CASE",
        help="names of training cases to leave out, as of plans that miss their prescription",
    )
    _add_held_out(train)


def _add_held_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--held-out",
        choices=get_args(HeldOut),
        help="leave out the patients that Resources/Cohorts holds out, or take them only",
    )


def _fold(text: str) -> Fold:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal()) or not 1 <= int(part) <= int(parts) <= 100:
        raise argparse.ArgumentTypeError(f"must be as 1/2, the first of two parts; got {text!r}.")
    return int(part) - 1, int(parts)


def _add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    subject = evaluate.add_mutually_exclusive_group(required=True)
    subject.add_argument("--model", type=Path, help="model folder")
    subject.add_argument("--run", type=Path, help="run folder, whose averaged weights are scored")
    evaluate.add_argument("--checkpoint", default="last.pt", help="of the run")
    evaluate.add_argument(
        "--cases", type=Path, required=True, help="cache, compact file or folder of cases"
    )
    evaluate.add_argument("--csv", type=Path, metavar="FILE", help="write every number as a table")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.add_argument("--output", type=Path, metavar="FILE", help="write the JSON object")
    evaluate.add_argument("--device", default="cpu")
    evaluate.add_argument("--precision", default="fp32", help="of a model: fp32, bf16 or fp16")


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", default="openkbp_two_stage")
    parser.add_argument(
        "--frozen",
        metavar="MODEL",
        help="name or folder of the model whose residuals a head learns: its protocol, encoding "
        "and prescription take the recipe's place",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a value of the recipe, e.g. network.stage2_filters=24; repeatable",
    )


def _prepare(arguments: argparse.Namespace) -> int:
    from .cache import named_paths, prepare
    from .compact import write_compact

    config = resolved_config(arguments)
    protocol = StructureProtocol.load(config.protocol)
    output = arguments.compact or arguments.output
    write = write_compact if arguments.compact else prepare
    only = None
    if arguments.held_out:
        only = chosen(named_paths(arguments.cases), protocol.id, arguments.held_out)
    done = write(arguments.cases, output, protocol, config.encoding, arguments.workers, only)
    for name, reason in done.refused.items():
        sys.stderr.write(f"Refused {name}: {reason}\n")
    size = f" in {output.stat().st_size / 1e6:.1f} MB" if arguments.compact else ""
    refused = len(done.refused)
    sys.stdout.write(f"{output} holds {len(done.cases)} cases{size}; {refused} refused.\n")
    return 3 if done.refused else 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from DosePredictionLib.app.output import json_ready
    from DosePredictionLib.evaluation.cohort import (
        describe_cohort,
        structure_errors,
        summarize_cohort,
        write_csv,
        write_json,
    )
    from DosePredictionLib.models.dose_model import DoseModel

    from .distributed import is_first, ranks_joined
    from .evaluation import of_model, of_run, records_of

    with ranks_joined(str(resolve_device(arguments.device))) as device:
        if arguments.model:
            model = DoseModel.load(arguments.model)
            candidate = of_model(model, str(device), arguments.precision)
        else:
            candidate = of_run(arguments.run, arguments.checkpoint, device)
        cases = _cases(arguments.cases, candidate.protocol, candidate.encoding)
        records = records_of(candidate, cases)
        if is_first():
            summary = summarize_cohort(records)
            if arguments.csv:
                write_csv(arguments.csv, records)
            structures = structure_errors(records)
            result = {"cases": records, "summary": summary, "structures": structures}
            result = json_ready(result)
            if arguments.output:
                write_json(arguments.output, result)
            Output(arguments.json).result(result, describe_cohort(records, summary))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from .export import export_run
    from .mimicking import coarse_run

    model = export_run(
        arguments.run,
        arguments.name,
        arguments.title,
        arguments.output,
        arguments.checkpoint,
        arguments.default,
        arguments.mirror,
        [coarse_run(each) for each in arguments.coarse],
    )
    sys.stdout.write(f"Exported {model.manifest.name} to {model.folder}.\n")
    return 0


def _card(arguments: argparse.Namespace) -> int:
    from DosePredictionLib.models.dose_model import DoseModel

    from .export import fill_card, read_evaluated

    evaluated = read_evaluated(arguments.evaluation)
    model = DoseModel.load(arguments.model)
    fill_card(model, evaluated.summary, evaluated.cases, arguments.cases)
    sys.stdout.write(f"Filled in the card of {arguments.model}.\n")
    return 0


def _cases(
    path: Path, protocol: StructureProtocol, settings: EncodingSettings
) -> list[TrainingCase]:
    """The cases of a cache, of a compact file, or of a folder of cases, which are then encoded."""
    from .cache import is_cache, open_cache
    from .compact import open_compact
    from .data import load_cases

    if is_cache(path):
        return open_cache(path, protocol, settings)
    if path.is_file():
        return open_compact(path, protocol, settings)
    return load_cases(path, protocol, settings, usable_cores())


def _require_apart(training: list[TrainingCase], validation: list[TrainingCase]) -> None:
    """Refuse a patient in both, by name or by the very same dose."""
    shared = {case.name for case in training} & {case.name for case in validation}
    doses = {case.fingerprint: case.name for case in training}
    shared |= {case.name for case in validation if case.fingerprint in doses}
    if shared:
        raise DosePredictionError(
            f"These cases are in training and in validation: {', '.join(sorted(shared))}. "
            "Take them out of one of the two."
        )


def _training_part(
    cases: list[TrainingCase], arguments: argparse.Namespace, protocol: str
) -> list[TrainingCase]:
    """The cases that the call leaves in."""
    fold, seed = arguments.fold, load_recipe(arguments.recipe).seed  # however often it is continued
    names = [case.name for case in cases]
    kept = trained_on(names, protocol, arguments.held_out, arguments.without, fold, seed)
    return [case for case in cases if case.name in kept]


def _mimic(arguments: argparse.Namespace) -> int:
    from .mimicking import add_earlier, coarse_run

    runs = [coarse_run(each) for each in arguments.runs]
    device = str(resolve_device(arguments.device))
    written = add_earlier(arguments.cases, arguments.cache, runs, device, arguments.workers)
    sys.stdout.write(f"Wrote the earlier doses of {written} cases into {arguments.cache}.\n")
    return 0


def _residuals(arguments: argparse.Namespace) -> int:
    from DosePredictionLib.models.dose_model import DoseModel

    from .residuals import add_residuals

    model = DoseModel.load(arguments.model)
    written = add_residuals(model, arguments.cases, arguments.cache, arguments.device)
    sys.stdout.write(
        f"Wrote what {model.manifest.name} predicts of {written} cases into {arguments.cache}.\n"
    )
    return 0


def _record_patients(
    arguments: argparse.Namespace, names: Sequence[str], runs: Sequence[CoarseRun]
) -> None:
    """Write into the run folder whose plans shape the weights, those of its ancestors included.

    Nothing is written where an ancestor does not say it: `export` then asks for the list.
    """
    from DosePredictionLib.models.manifest import read_manifest

    seen = set(names).union(*(run.patients for run in runs))
    if arguments.continue_from:
        before = known_patients_of_model(read_manifest(arguments.continue_from))
        if before is None:
            return
        seen |= before
    record_patients(arguments.output, seen)


def _train(arguments: argparse.Namespace) -> int:
    from .continuing import weights_to_continue
    from .distributed import is_first, ranks_joined
    from .loop import Trainer
    from .mimicking import coarse_run, coarse_weights
    from .residuals import require_residuals_of

    config = resolved_config(arguments)
    protocol = StructureProtocol.load(config.protocol)
    with ranks_joined(str(resolve_device(arguments.device))) as device:
        validation = _cases(arguments.validation, protocol, config.encoding)
        training = _cases(arguments.training, protocol, config.encoding)
        for cache in (arguments.training, arguments.validation) if arguments.frozen else ():
            require_residuals_of(cache, config)
        training = _training_part(training, arguments, protocol.id)
        _require_apart(training, validation)
        require_one_prescription([*training, *validation], config, protocol)
        runs = [coarse_run(each) for each in arguments.coarse]
        last, weights = arguments.output / "last.pt", None
        if not last.is_file():  # before there is a run folder
            if arguments.continue_from:
                weights = weights_to_continue(arguments.continue_from, config, protocol)
            if runs or weights is None:
                weights = coarse_weights(runs, config, protocol, weights)
        trainer = Trainer(
            config,
            protocol,
            arguments.output,
            device,
            arguments.workers,
            arguments.checkpoint_activations,
        )
        if last.is_file():
            trainer.resume(last)
        elif weights is not None:
            trainer.start_from(weights)
        if is_first():
            _record_patients(arguments, [case.name for case in training], runs)
        trainer.train(training, validation[: arguments.validate_on], arguments.time_limit * 60)
    return 0


def main(arguments_given: Sequence[str] | None = None) -> int:
    """Run one command, by default the shell's.

    Returns:
        The exit code, as of `dose-prediction`: 2 wrong call, 3 some failed.
    """
    keep_freed_memory()
    interrupt_on_termination()
    commands = {
        "prepare": _prepare,
        "prepare-clinical": prepare_clinical,
        "prepare-vmat": prepare_vmat,
        "train": _train,
        "mimic": _mimic,
        "residuals": _residuals,
        "evaluate": _evaluate,
        "export": _export,
        "card": _card,
        "calibrate": run_calibrate,
        "distribution": run_distribution,
        "simulate": run_simulate,
    }
    given = list(sys.argv[1:] if arguments_given is None else arguments_given)

    def command() -> int:
        arguments = _parser().parse_args(given)
        return commands[arguments.command](arguments)

    return exit_code_of(command, Output(as_json="--json" in given))


if __name__ == "__main__":
    sys.exit(main())
