"""How well a model finds organs, pass by pass, on cases whose contours are known.

    python -m benchmarks.organs [CASE…] [--model NAME|FOLDER]

A CASE is a case folder, or a folder of them. Of each organ: the medians over the cases of Dice,
HD95 and the share of both surfaces within 3 mm, after every pass. Then the mean Dice of all organs
and cases, each pass against the one before (Wilcoxon, paired by case), in how many cases a paired
organ overlaps the other side more than its own, and what finding took.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from DosePredictionLib.app.segment import model_of_organs
from DosePredictionLib.evaluation.contours import ContourAgreement, compare_contours
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io import read_case
from DosePredictionLib.mask import Mask
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.networks.configs import MultiPassUNet3DConfig
from DosePredictionLib.resources import resource_path
from DosePredictionLib.structures.bound import BoundCase, bind
from training.data import case_paths

__all__ = ["main", "mirrored_organs"]

_SAMPLE = resource_path("SampleData", "simulated_pelvis")
Agreements = dict[str, ContourAgreement]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=Path, nargs="*", default=[_SAMPLE])
    parser.add_argument("--model")
    call = parser.parse_args()
    predictors = [Predictor(each) for each in _passes(model_of_organs(call.model))]
    paths = [path for each in call.cases for path in _cases(each)]
    found: list[list[Agreements]] = [[] for _ in predictors]
    swapped, seconds = [], []
    for path in paths:
        case = read_case(path)
        protocol = predictors[0].model.protocol
        bound = bind(case, protocol, required=())
        for number, predictor in enumerate(predictors):
            started = time.perf_counter()
            prediction = predictor.predict(replace(case, structures={}))
            seconds.append(time.perf_counter() - started)
            masks = {o.structure: Mask.of(o.volume) for o in prediction.of_roles(["segment"])}
            contours = {name: mask for name, mask in masks.items() if name is not None}
            found[number].append(_agreements(contours, bound))
        swapped += [f"{path.stem} {name}" for name in mirrored_organs(contours, bound)]
        last = {name: each.dice or 0.0 for name, each in found[-1][-1].items()}
        line = "  ".join(f"{name} {dice:.3f}" for name, dice in last.items())
        sys.stdout.write(f"{path.stem:<20} {line}\n")
        sys.stdout.flush()
    _table(found)
    sys.stdout.write(
        f"{len(swapped)} paired organs lie on the other side{': ' if swapped else ''}"
        f"{', '.join(swapped)}\n{np.median(seconds):.1f} s a case and pass model, median\n"
    )


def mirrored_organs(contours: Mapping[str, Mask], bound: BoundCase) -> list[str]:
    """Organs that overlap their partner's contour on the other side more than their own."""
    protocol = bound.protocol
    assert protocol is not None
    own = {name: each.mask.majority() for name, each in bound.structures.items()}
    wrong = []
    for channel, index in zip(protocol.inputs, protocol.mirrored, strict=True):
        name, other = channel.name, protocol.inputs[index].name
        if name == other or name not in contours or name not in own or other not in own:
            continue
        mask = contours[name].majority()
        if np.count_nonzero(mask & own[other]) > np.count_nonzero(mask & own[name]):
            wrong.append(name)
    return wrong


def _cases(path: Path) -> list[Path]:
    """The case itself, or the cases of a folder."""
    is_case = path.is_file() or any(each.is_file() for each in path.iterdir())
    return [path] if is_case else case_paths(path)


def _passes(model: DoseModel) -> list[DoseModel]:
    """The model after its first pass, its second …: the same weights, fewer looks."""
    architecture = model.manifest.architecture
    config = architecture.config
    if not isinstance(config, MultiPassUNet3DConfig) or not config.shared:
        return [model]
    looks = range(1, config.passes + 1)
    fewer = [replace(architecture, arguments=architecture.arguments | {"passes": n}) for n in looks]
    return [
        DoseModel(model.folder, replace(model.manifest, architecture=each), model.findings)
        for each in fewer
    ]


def _agreements(contours: Mapping[str, Mask], bound: BoundCase) -> Agreements:
    """Of every organ that the case has; what was not found is an empty contour."""
    organs = {name: each.mask for name, each in bound.structures.items() if each.role == "organ"}
    empty = Mask(np.zeros(bound.case.grid.shape, dtype=bool), bound.case.grid)
    return {
        name: compare_contours(contours.get(name, empty), mask) for name, mask in organs.items()
    }


def _table(found: Sequence[Sequence[Agreements]]) -> None:
    """Organs by passes, and what the last pass adds."""
    names = list(dict.fromkeys(name for each in found[-1] for name in each))
    passes = range(1, len(found) + 1)
    heads = "".join(f"{f'Dice {n}':>8}{f'HD95 {n}':>8}{f'3 mm {n}':>8}" for n in passes)
    sys.stdout.write(f"\n{'medians':<18}{'cases':>6}{heads}{'lowest':>8}\n")
    for name in names:
        rows = [[each[name] for each in of_pass if name in each] for of_pass in found]
        line = f"{name:<18}{len(rows[0]):>6}"
        for row in rows:
            near = [each.surface_dice or 0.0 for each in row]
            far = [np.inf if each.hd95_mm is None else each.hd95_mm for each in row]
            line += f"{np.median(_dice(row)):>8.3f}{np.median(far):>8.1f}{np.median(near):>8.3f}"
        sys.stdout.write(f"{line}{min(_dice(rows[-1])):>8.3f}\n")
    means = [[float(np.mean(_dice(list(case.values())))) for case in each] for each in found]
    shown = ", ".join(f"pass {n} {np.mean(each):.4f}" for n, each in enumerate(means, start=1))
    sys.stdout.write(f"mean Dice of organs and cases: {shown}\n")
    for one, other in itertools.pairwise(means):
        if len(one) > 1 and one != other:
            p_value = float(stats.wilcoxon(other, one).pvalue)
            sys.stdout.write(f"pass by pass, paired by case: p = {p_value:.2g}\n")


def _dice(row: Sequence[ContourAgreement]) -> list[float]:
    return [each.dice or 0.0 for each in row]


if __name__ == "__main__":
    main()
