"""Whether what the networks make of a case shows that it is foreign, beside its own anatomy.

Numbers of four kinds are made of each prediction: the deepest features, averaged over the body;
how far the passes, mirrored and not, differ; how far the beams' nearest dose lies from the coarse
one; and the dose itself. What is usual is learned from training cases,
then cases are changed as in `benchmarks.perturbations`. The AUC of every kind of numbers, and of
each together with the check before the inference (the larger of both scores, in units of their
thresholds), is printed beside that check's own.

    python -m benchmarks.after_inference --model openkbp-beams --train DIR --cases DIR
        [--patients 40] [--regular 16] [--changed 8] [--kinds spacing metal] [--numbers FILE]

With `--numbers` what was measured is kept, and not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.out_of_distribution import around_body, auc, score
from benchmarks.perturbations import KINDS, Perturbation
from DosePredictionLib.app.distribution import cohort_paths
from DosePredictionLib.case import Case
from DosePredictionLib.checks.distribution import DISTRIBUTION_FILE, read_distribution
from DosePredictionLib.encoding.encoder import EncodedCase, encode, mirrored_channels
from DosePredictionLib.io import case_name, read_case
from DosePredictionLib.mask import majority
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.networks import BeamCascadeNetwork, fold_batch_norm
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.tasks.beam_dose import earlier_doses
from DosePredictionLib.tasks.dose_regression import final_dose

__all__ = ["Measuring", "Usual", "largest", "mahalanobis"]

Array = NDArray[np.float64]
Numbers = dict[str, float]

_DEEPEST = ("bridge", "down.3")
"""Names of layers at a sixteenth of the resolution."""

_SHRINKAGE = 0.5
_FOLDS = 10
_SHARE_PERCENT = 95
_FEWEST_VOXELS = 8


class Measuring:
    """A model's first network, what of it is measured, and how.

    Of a cascade that knows the beams it is the first coarse network, and the beams' nearest dose
    to its own: a quarter of the work of a prediction.
    """

    def __init__(self, model: DoseModel) -> None:
        self.model = model
        whole = fold_batch_norm(model.network(model.members[0]))
        self.divisor = whole.divisor
        self.network = whole.coarse[0] if isinstance(whole, BeamCascadeNetwork) else whole
        self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.mirrored = mirrored_channels(model.protocol, model.manifest.encoding)
        self._deepest: dict[str, Tensor] = {}
        for name, module in self.network.named_modules():
            if name.endswith(_DEEPEST):
                module.register_forward_hook(self._keeping(name))

    def _keeping(self, name: str) -> Any:
        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            self._deepest.setdefault(name, output[0])  # of the first pass, which is not mirrored

        return keep

    def numbers(self, case: Case) -> tuple[Numbers, float]:
        """The numbers of a case by `group.name`, and a core's seconds beyond the prediction."""
        encoding = self.model.manifest.encoding
        encoded = encode(bind(case, self.model.protocol), encoding, self.divisor)
        x = torch.from_numpy(encoded.input)[None]
        self._deepest.clear()
        with torch.inference_mode():
            plain, turned = (
                final_dose(self.network(each.contiguous(memory_format=torch.channels_last_3d)))
                for each in (x, x[:, self.mirrored].flip(-1))
            )
        dose, turned = (plain + turned.flip(-1)) / 2, turned.flip(-1)
        differences = {"spread.mirrored": (plain - turned).abs().numpy()}
        if encoded.beams is not None:
            coarse, nearest = earlier_doses(dose.numpy(), encoded.beams)
            differences["beams.residual"] = np.abs(nearest - coarse)
        started = time.process_time()
        scale_gy = encoding.dose_scale_gy
        masks = self._masks(encoded)
        maps = {name: scale_gy * values for name, values in differences.items()}
        found = _features(self._deepest, encoded) | _means(maps, encoded, masks)
        found |= _dose(scale_gy * dose.numpy(), encoded, masks)
        return found, time.process_time() - started

    def _masks(self, encoded: EncodedCase) -> dict[str, NDArray[np.bool_]]:
        """Structure → mask on the model's grid, where there is one."""
        masks = majority(encoded.input[encoded.channels.structures])
        named = zip(self.model.protocol.inputs, masks, strict=True)
        return {channel.name: m for channel, m in named if m.sum() >= _FEWEST_VOXELS}


def _features(deepest: dict[str, Tensor], encoded: EncodedCase) -> Numbers:
    """The logarithm of each channel's mean over the body; features are rectified."""
    found: Numbers = {}
    body = torch.from_numpy(np.asarray(encoded.body, dtype=np.float32))[None, None]
    for name, values in deepest.items():
        _, z, y, x = values.shape
        weights = nn.functional.adaptive_avg_pool3d(body, (z, y, x))[0, 0]
        pooled = (values.float() * weights).sum((1, 2, 3)) / weights.sum().clamp(min=1e-6)
        for channel, value in enumerate(pooled.clamp(min=0).log1p().tolist()):
            found[f"features.{name}.{channel}"] = value
    return found


def _means(
    maps: dict[str, NDArray], encoded: EncodedCase, masks: dict[str, NDArray[np.bool_]]
) -> Numbers:
    """The logarithm of each map's mean in each structure, and of its 99th percentile, Gy."""
    found: Numbers = {}
    body = np.asarray(encoded.body, dtype=bool)
    for name, values in maps.items():
        for structure, mask in {**masks, "body": body}.items():
            found[f"{name}.{structure}"] = float(np.log(values[mask].mean() + 1e-3))
        found[f"{name}.most"] = float(np.log(np.percentile(values[body], 99) + 1e-3))
    return found


def _dose(dose_gy: NDArray, encoded: EncodedCase, masks: dict[str, NDArray[np.bool_]]) -> Numbers:
    """Coverage and hot spots of targets, doses of organs, and what the rest of the body gets."""
    found: Numbers = {}
    body = np.asarray(encoded.body, dtype=bool)
    for name, mask in masks.items():
        cold, middle, hot = np.percentile(dose_gy[mask], (5, 50, 99))
        found |= {f"dose.{name}.cold": cold, f"dose.{name}.middle": middle}
        found |= {f"dose.{name}.hot": hot, f"dose.{name}.mean": dose_gy[mask].mean()}
    found["dose.outside"] = float(np.maximum(dose_gy[~body], 0).mean()) if (~body).any() else 0.0
    found["dose.below_zero"] = float(np.maximum(-dose_gy[body], 0).mean())
    for level_gy in (10, 20, 30, 40, 50, 60):
        found[f"dose.above_{level_gy}"] = 100 * float((dose_gy[body] > level_gy).mean())
    return {name: float(value) for name, value in found.items()}


@dataclass(frozen=True, eq=False)
class Usual:
    """What numbers are in regular patients: medians, standard deviations, their correlation."""

    names: tuple[str, ...]
    median: Array
    scale: Array
    precision: Array

    @classmethod
    def of(cls, patients: Sequence[Numbers]) -> Usual:
        """Learned from the numbers that half of the patients have."""
        every = sorted({name for numbers in patients for name in numbers})
        names = [n for n in every if 2 * sum(n in numbers for numbers in patients) >= len(patients)]
        table = np.array([[numbers.get(n, np.nan) for n in names] for numbers in patients])
        median = np.nanmedian(table, axis=0)
        scale = np.nanstd(table, axis=0) + 1e-3
        away = np.nan_to_num(np.clip((table - median) / scale, -4, 4))
        known = (~np.isnan(table)).astype(float)
        both = away.T @ away / np.maximum(known.T @ known, 1)  # of the patients who have them
        values, vectors = np.linalg.eigh((1 - _SHRINKAGE) * both + _SHRINKAGE * np.eye(len(names)))
        precision = (vectors / np.maximum(values, 0.02)) @ vectors.T
        return cls(tuple(names), median, scale, np.asarray(precision))

    def away(self, numbers: Numbers) -> Array:
        """Standard deviations from the median; 0 for what a case does not have."""
        values = np.array([numbers.get(name, np.nan) for name in self.names])
        return np.nan_to_num(np.clip((values - self.median) / self.scale, -20, 20))


def mahalanobis(usual: Usual, numbers: Numbers) -> float:
    """Root of the mean squared distance in the shrunk Gaussian."""
    away = usual.away(numbers)
    return float(np.sqrt(np.mean(away * (usual.precision @ away))))


def largest(usual: Usual, numbers: Numbers) -> float:
    """The largest deviation, alone or beside what the group's other numbers let expect."""
    away = usual.away(numbers)
    by_rest = np.abs(usual.precision @ away) / np.sqrt(np.diag(usual.precision))
    return float(max(np.abs(away).max(), by_rest.max()))


_SCORES = {"mahalanobis": mahalanobis, "largest": largest}
_COLUMNS = (
    ("features", "mahalanobis"),
    ("spread", "largest"),
    ("beams", "largest"),
    ("dose", "largest"),
    ("dose", "mahalanobis"),
)


def _of_group(numbers: Numbers, group: str) -> Numbers:
    return {name: value for name, value in numbers.items() if name.startswith(f"{group}.")}


@dataclass(frozen=True)
class _Column:
    """A score after the inference, in units of its threshold."""

    group: str
    kind: str
    usual: Usual
    threshold: float

    @classmethod
    def of(cls, group: str, kind: str, patients: Sequence[Numbers]) -> _Column:
        """The threshold is that of patients scored by the others, as before the inference."""
        own = [_of_group(numbers, group) for numbers in patients]
        folds = np.random.default_rng(0).permutation(len(own)) % _FOLDS
        scores = []
        for fold in range(_FOLDS):
            usual = Usual.of([n for n, f in zip(own, folds, strict=True) if f != fold])
            held = [n for n, f in zip(own, folds, strict=True) if f == fold]
            scores += [_SCORES[kind](usual, numbers) for numbers in held]
        threshold = float(np.percentile(scores, _SHARE_PERCENT, method="higher"))
        return cls(group, kind, Usual.of(own), max(threshold, 1e-6))

    def score(self, numbers: Numbers) -> float:
        """Of one case."""
        return _SCORES[self.kind](self.usual, _of_group(numbers, self.group)) / self.threshold


class _Kept:
    """What was measured, one JSON object a line, by case, kind and size."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.records: dict[tuple[str, str, str], dict[str, Any]] = {}
        if path is not None and path.is_file():
            for line in path.read_text().splitlines():
                record = json.loads(line)
                self.records[record["case"], record["kind"], record["size"]] = record

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record, and write it down."""
        self.records[record["case"], record["kind"], record["size"]] = record
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(record) + "\n")


def _measured(
    paths: Iterable[Path], kinds: Sequence[Perturbation], measuring: Measuring, kept: _Kept
) -> list[dict[str, Any]]:
    """Records of each case as it is, then of its changes."""
    found = []
    known = read_distribution(measuring.model.folder / DISTRIBUTION_FILE)
    for path in paths:
        case = None
        for each in (None, *kinds):
            kind, size = ("", "") if each is None else (each.kind, each.size)
            key = (case_name(path), kind, size)
            if key not in kept.records:
                case = case or around_body(read_case(path))
                seed = zlib.crc32(f"{case.name} {kind} {size}".encode())
                changed = case if each is None else each.change(case, np.random.default_rng(seed))
                if changed is None:
                    continue
                before = score(changed, measuring.model, known) / known.threshold
                numbers, seconds = measuring.numbers(changed)
                record = {"case": case.name, "kind": kind, "size": size, "before": before}
                kept.add({**record, "seconds": seconds, "numbers": numbers})
            found.append(kept.records[key])
    return found


def main() -> None:
    """Print the AUC of each kind and size before and after the inference, and of both together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="openkbp-beams")
    parser.add_argument("--train", type=Path, help="folder of cases to learn from")
    parser.add_argument("--cases", type=Path, help="folder of cases to change")
    parser.add_argument("--patients", type=int, default=40, help="of the training cases, in steps")
    parser.add_argument("--regular", type=int, default=16, help="of the other cases, in steps")
    parser.add_argument("--changed", type=int, default=8, help="those that are changed, in steps")
    parser.add_argument("--kinds", nargs="+", help="of changes; all otherwise")
    parser.add_argument("--numbers", type=Path, metavar="FILE", help="where they are kept")
    arguments = parser.parse_args()
    if arguments.train is None or arguments.cases is None:
        sys.stdout.write("skipped: needs --train and --cases\n")
        return
    measuring, kept = Measuring(DoseModel.load(arguments.model)), _Kept(arguments.numbers)
    kinds = [k for k in KINDS if k.stated and (not arguments.kinds or k.kind in arguments.kinds)]
    train = _measured(_some(arguments.train, arguments.patients), (), measuring, kept)
    tested = _measured(_some(arguments.cases, arguments.regular), (), measuring, kept)
    changed = _measured(_some(arguments.cases, arguments.changed), kinds, measuring, kept)
    tested += [each for each in changed if each["kind"] or each not in tested]
    columns = [
        _Column.of(group, kind, [each["numbers"] for each in train])
        for group, kind in _COLUMNS
        if any(name.startswith(f"{group}.") for name in train[0]["numbers"])
    ]
    _print(kinds, tested, columns)
    seconds = 1000 * np.median([each["seconds"] for each in tested])
    sys.stdout.write(f"{seconds:.0f} ms of a core a case beyond the prediction\n")


def _some(folder: Path, count: int) -> list[Path]:
    """So many cases of a folder, evenly spread over it."""
    paths = cohort_paths(folder)
    return [paths[i] for i in np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)]


def _print(
    kinds: Sequence[Perturbation], tested: Sequence[dict[str, Any]], columns: Sequence[_Column]
) -> None:
    """Alone, and together with the check before: the larger score counts."""
    heads = ["before", *(f"{each.group} {each.kind}" for each in columns)]
    after = {id(r): [each.score(r["numbers"]) for each in columns] for r in tested}

    def scores(record: dict[str, Any], together: bool) -> list[float]:
        least = record["before"] if together else 0.0
        return [record["before"], *(max(least, found) for found in after[id(record)])]

    for together in (False, True):
        title = "the larger of before and" if together else "alone"
        sys.stdout.write(f"{title:<50}" + "".join(f"{head:>22}" for head in heads) + "\n")
        regular = np.array([scores(r, together) for r in tested if not r["kind"]])
        flagged = "".join(f"{n:>22}" for n in (regular > 1).sum(axis=0))
        sys.stdout.write(f"{f'flagged of {len(regular)} regular cases':<50}{flagged}\n")
        by_kind: dict[str, list[list[float]]] = {}
        for each in kinds:
            of_it = [r for r in tested if (r["kind"], r["size"]) == (each.kind, each.size)]
            if not of_it:
                continue
            changed = np.array([scores(r, together) for r in of_it])
            found = [auc(a, b) for a, b in zip(regular.T, changed.T, strict=True)]
            by_kind.setdefault(each.kind, []).append(found)
            row = "".join(f"{value:>22.3f}" for value in found)
            sys.stdout.write(f"{each.kind:<22}{each.size:<24}{len(of_it):>4}{row}\n")
        mean = np.mean([np.mean(values, axis=0) for values in by_kind.values()], axis=0)
        sys.stdout.write(f"{'mean over the kinds':<50}")
        sys.stdout.write("".join(f"{value:>22.3f}" for value in mean) + "\n")


if __name__ == "__main__":
    main()
