"""Does guidance by the dose make better contours? Four arms from one network, paired by patient.

A: Dice and cross entropy. B: A and the dose (`pelvis_dose_guided`). C: A with voxels weighted by
|D − mean of the organ|, without a dose model: the control that matters. D: A and the dose term as
published, which has no gradient: five deterministic steps are held against A's, bit for bit, and
the rest is A's.

    python -m training simulate --cases 60 --seed 61 --output planned     # to train on
    python -m training simulate --cases 40 --seed 62 --output unseen      # to judge on
    python -m benchmarks.dose_guidance --model runs/pelvis-organs --guide runs/pelvis-occupancy \\
        --other runs/pelvis-occupancy-2 --training planned --cohort unseen --output runs/guidance

Of a patient who is planned several times (`simulate --beams mixed`) one plan without wishes is
taken. The dose models may know beams: they see those of the plan.

Arms are judged on the model's grid: Dice; the mean dose that the plan gives to the found organ in
place of the true one (reading); the change of the mean dose in the true organ when a dose model
predicts a plan for the found ones, by the guiding model and by one of another seed; and, for the
first seed, plans that are optimized anew on the found contours. All are means over a patient's
organs and over seeds. What is done already in the output folder is not done again.

Declared before: guidance helps if reading falls by 10 % or more against A and against C, and Dice
by no more than 0.005.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from DosePredictionLib.encoding.settings import EncodingSettings
from DosePredictionLib.files import write_json
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.models.manifest import read_manifest
from DosePredictionLib.networks.configs import NetworkConfig as Channels
from DosePredictionLib.schema import read_json
from DosePredictionLib.structures.protocol import StructureProtocol
from training.cache import open_cache, prepare
from training.config import NetworkConfig, TrainingConfig
from training.continuing import continued, weights_to_continue
from training.data import TrainingCase, case_paths
from training.loop import Trainer
from training.recipes.pelvis_dose_guided import recipe
from training.sampling import training_batches
from training.splits import patient_of

from .guidance_judge import Judge, gradient_error, replanned
from .guidance_table import ARMS, table

Record = dict[str, Any]
_EQUAL_STEPS = 5
_SPLITS = ("test", "training", "validation")
_TECHNIQUES = ("9", "7", "5", "4", "arc")


def main() -> None:
    """Train the arms, judge them, and print the table of docs/segmentation.md."""
    call = _call()
    if None in (call.model, call.training, call.cohort, call.guide):
        sys.stdout.write("Needs a model of organs, a dose model and two cohorts: see --help.\n")
        return
    for name in ("model", "guide", "other"):  # by name or folder; damaged: said before hours pass
        if getattr(call, name) is not None:
            setattr(call, name, DoseModel.load(getattr(call, name)).folder)
    paths = [_of_each_patient(folders) for folders in (call.training, call.cohort)]
    shared = {patient_of(path.name) for path in paths[0]} & {patient_of(p.name) for p in paths[1]}
    if shared:
        sys.exit(f"Patients are in --training and in --cohort: {', '.join(sorted(shared))}.")
    call.output.mkdir(parents=True, exist_ok=True)
    training = _prepared(call, paths[0][: call.train_on])
    unseen = _prepared(call, paths[1][: call.cases])
    equal = _once(call.output / "D-equals-A.json", partial(_published_equals_plain, call, training))
    guide, first = Path(call.guide), training[0]
    check = partial(gradient_error, guide, first, _encoding(call))
    apart = _once(call.output / "gradient.json", lambda: {"relative_error": check()})
    records: dict[str, list[list[Record]]] = {arm: [] for arm in ARMS}
    judge = Judge(unseen, _encoding(call), {"guide": call.guide, "other": call.other})
    for seed in range(1, call.seeds + 1):
        for arm in ARMS:
            work = partial(_judged, call, (arm, seed), training, judge)
            records[arm].append(_once(call.output / f"{arm}-{seed}" / "judged.json", work))
    again = paths[1][: call.replan]
    plans = {arm: _replanned(call, arm, again) for arm in ARMS} if again else {}
    text = table(records, plans, bool(equal["equal"]), f"{call.steps} steps")
    text += f"The guide's gradient is {apart['relative_error']:.0e} from finite differences.\n"
    (call.output / "table.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def _call() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="of organs: where every arm begins")
    parser.add_argument("--guide", help="dose model of occupancies that guides")
    parser.add_argument("--other", help="another one, of another seed or other patients")
    parser.add_argument("--training", type=Path, nargs="+", help="cohorts with plans, or splits")
    parser.add_argument("--cohort", type=Path, nargs="+", help="likewise, of unseen patients")
    parser.add_argument("--output", type=Path, default=Path("runs/dose-guidance"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-on", type=int, default=None, help="only the first N cases")
    parser.add_argument("--cases", type=int, default=40, help="unseen patients")
    parser.add_argument("--replan", type=int, default=8, help="patients that are planned again")
    parser.add_argument("--crop", type=int, nargs=3, default=None, metavar="VOXELS")
    parser.add_argument("--precision", default=None, help="fp32 or bf16 (default: the recipe's)")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def _once(file: Path, work: Callable[[], Any]) -> Any:
    """The content of a file, which is made if it is not there."""
    if not file.is_file():
        write_json(file, work())
    return read_json(file)


def _of_each_patient(folders: Sequence[Path]) -> list[Path]:
    """One case folder of each patient of some cohorts, or of some of their splits.

    Of a patient with many plans one without wishes, of modulated fields: nine if there are.
    """
    chosen: dict[str, tuple[int, Path]] = {}
    for folder in folders:
        splits = [folder / name for name in _SPLITS if (folder / name).is_dir()]
        for path in (path for each in splits or [folder] for path in case_paths(each)):
            patient, rank = patient_of(path.name), 0
            if patient != path.name:
                technique, level = path.name.split("_")[-2:]
                if level != "0" or technique not in _TECHNIQUES:
                    continue
                rank = _TECHNIQUES.index(technique)
            if patient not in chosen or rank < chosen[patient][0]:
                chosen[patient] = rank, path
    return [chosen[patient][1] for patient in sorted(chosen)]


def _prepared(call: argparse.Namespace, paths: Sequence[Path]) -> list[TrainingCase]:
    """Cases encoded for the model of organs, with the beams that the dose models want to see."""
    protocol, encoding = StructureProtocol.load(_manifest(call).protocol), _encoding(call)
    cache, wanted = call.output / "cache", {path.name for path in paths}
    for folder in sorted({path.parent for path in paths}):
        done = prepare(folder, cache, protocol, encoding, 1, wanted)
        for name, reason in done.refused.items():
            sys.stdout.write(f"{name} is left out: {reason}\n")
    return [case for case in open_cache(cache, protocol, encoding) if case.name in wanted]


def _encoding(call: argparse.Namespace) -> EncodingSettings:
    """That of the model of organs, with the beams that the dose models see, if they do."""
    own: EncodingSettings = _manifest(call).encoding
    for model in (call.guide, call.other):
        if model is not None and "beam" in (further := read_manifest(model).encoding.further):
            return replace(own, further={"beam": further["beam"]})
    return own


def _config(call: argparse.Namespace, kind: str | None, seed: int) -> TrainingConfig:
    """The recipe of an arm, for the network of `--model`."""
    manifest = _manifest(call)
    channels = {each.name for each in fields(Channels)}
    arguments = manifest.architecture.arguments
    options = {name: value for name, value in arguments.items() if name not in channels}
    guide = "" if call.guide is None else str(call.guide)
    return replace(
        continued(recipe, manifest),
        encoding=_encoding(call),
        network=NetworkConfig(architecture=manifest.architecture.name, options=options),
        crop=tuple(call.crop or recipe.crop),
        precision=call.precision or recipe.precision,
        steps=call.steps,
        validate_every=max(1, call.steps // 3),
        seed=seed,
        task_options={} if kind is None else {"kind": kind, "dose_model": guide},
    )


def _manifest(call: argparse.Namespace) -> Any:
    return read_manifest(call.model)


def _trainer(call: argparse.Namespace, config: TrainingConfig, run: Path) -> Any:
    """A trainer that goes on where its run stopped, or begins with the model's weights."""
    protocol = StructureProtocol.load(config.protocol)
    trainer = Trainer(config, protocol, run, call.device)
    if (run / "last.pt").is_file():
        trainer.resume(run / "last.pt")
    else:
        trainer.start_from(weights_to_continue(call.model, config, protocol))
    return trainer


def _published_equals_plain(call: argparse.Namespace, training: list[TrainingCase]) -> Record:
    """Whether the last steps of a training with the published term are those without it."""
    ends = []
    for kind in (None, "published"):
        config = replace(_config(call, kind, 1), deterministic=True)
        with tempfile.TemporaryDirectory() as folder:
            trainer = _trainer(call, config, Path(folder))
            first = trainer.step = config.steps - _EQUAL_STEPS
            for batch in training_batches(training, config, trainer.protocol, first):
                trainer.train_step(batch)
            ends.append(trainer.network.state_dict())
    torch.use_deterministic_algorithms(False)
    return {"equal": all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])}


def _judged(
    call: argparse.Namespace,
    arm: tuple[str, int],
    training: list[TrainingCase],
    judge: Judge,
) -> list[Record]:
    """Train an arm, keep its model, and judge it on every unseen patient.

    The last of the training's patients is watched instead: the log and a checkpoint come of it.
    """
    name, seed = arm
    run = call.output / f"{name}-{seed}"
    trainer = _trainer(call, _config(call, ARMS[name], seed), run)
    steps, started = call.steps - trainer.step, time.process_time()
    trainer.train(training[:-1], training[-1:])
    if steps:
        seconds = (time.process_time() - started) / steps
        sys.stdout.write(f"{name}, seed {seed}: {seconds:.1f} CPU s a step\n")
    _keep(call, trainer, run, name)
    started = time.process_time()
    records = judge.records(trainer.average, trainer.task)
    seconds = (time.process_time() - started) / len(records)
    sys.stdout.write(f"{name}, seed {seed}: {seconds:.1f} CPU s to judge a patient\n")
    return records


def _keep(call: argparse.Namespace, trainer: Any, run: Path, name: str) -> None:
    """Write the arm's averaged weights as a model folder."""
    folder = run / "model"
    if not folder.is_dir():
        manifest = replace(_manifest(call), name=f"organs-{name.lower()}", default=False)
        DoseModel.create(folder, manifest, trainer.average.state_dict())


def _replanned(call: argparse.Namespace, arm: str, paths: Sequence[Path]) -> list[Record]:
    """Plans that are optimized on the contours of an arm's first seed."""
    folder, found = call.output / f"{arm}-1", []
    for path in paths:
        work = partial(replanned, folder / "model", path)
        found.append(_once(folder / "plans" / f"{path.name}.json", work))
    return found


if __name__ == "__main__":
    main()
