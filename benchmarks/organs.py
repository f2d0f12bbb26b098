"""How well a model finds organs, pass by pass, on cases whose contours are known.

    python -m benchmarks.organs [CASE…] [--model NAME|FOLDER] [--card TEXT]

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
from typing import Any

import numpy as np
from scipy import stats

from DosePredictionLib.app.segment import model_of_organs
from DosePredictionLib.evaluation.contours import ContourAgreement, compare_contours
from DosePredictionLib.inference.predictor import Predictor
from DosePredictionLib.io import read_case
from DosePredictionLib.mask import Mask
from DosePredictionLib.models.dose_model import DoseModel, write_manifest
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
    parser.add_argument("--card", metavar="TEXT")
    call = parser.parse_args()
    model = model_of_organs(call.model)
    predictors = [Predictor(each) for each in _passes(model)]
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
    rows = _rows(found)
    _table(rows)
    _compare(found)
    sys.stdout.write(
        f"{len(swapped)} paired organs lie on the other side{': ' if swapped else ''}"
        f"{', '.join(swapped)}\n{np.median(seconds):.1f} s a case and pass model, median\n"
    )
    if call.card:
        command = "python -m benchmarks.organs CASES"
        card = {"cases": call.card, "command": command, "count": len(paths), "organs": rows}
        write_manifest(model.folder, replace(model.manifest, validation=card))


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


def _rows(found: Sequence[Sequence[Agreements]]) -> dict[str, dict[str, Any]]:
    """Of each organ medians over its cases, a list over the passes, and the last pass's lowest."""
    names = dict.fromkeys(name for each in found[-1] for name in each)
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        passes = [[each[name] for each in of_pass if name in each] for of_pass in found]
        far = [[np.inf if a.hd95_mm is None else a.hd95_mm for a in row] for row in passes]
        near = [[a.surface_dice or 0.0 for a in row] for row in passes]
        rows[name] = {
            "cases": len(passes[0]),
            "dice": [round(float(np.median(_dice(row))), 4) for row in passes],
            "hd95_mm": [_finite(float(np.median(row))) for row in far],
            "surface_dice": [round(float(np.median(row)), 4) for row in near],
            "lowest_dice": round(min(_dice(passes[-1])), 4),
        }
    return rows


def _table(rows: Mapping[str, Mapping[str, Any]]) -> None:
    passes = range(1, 1 + len(next(iter(rows.values()))["dice"]))
    heads = "".join(f"{f'Dice {n}':>8}{f'HD95 {n}':>8}{f'3 mm {n}':>8}" for n in passes)
    sys.stdout.write(f"\n{'medians':<18}{'cases':>6}{heads}{'lowest':>8}\n")
    for name, row in rows.items():
        columns = zip(row["dice"], row["hd95_mm"], row["surface_dice"], strict=True)
        values = "".join(
            f"{dice:>8.3f}{'-' if far is None else f'{far:.1f}':>8}{near:>8.3f}"
            for dice, far, near in columns
        )
        sys.stdout.write(f"{name:<18}{row['cases']:>6}{values}{row['lowest_dice']:>8.3f}\n")


def _compare(found: Sequence[Sequence[Agreements]]) -> None:
    """The mean Dice after each pass, and whether the difference may be chance."""
    means = [[float(np.mean(_dice(list(case.values())))) for case in each] for each in found]
    shown = ", ".join(f"pass {n} {np.mean(each):.4f}" for n, each in enumerate(means, start=1))
    sys.stdout.write(f"mean Dice of organs and cases: {shown}\n")
    for one, other in itertools.pairwise(means):
        if len(one) > 1 and one != other:
            p_value = float(stats.wilcoxon(other, one).pvalue)
            sys.stdout.write(f"pass by pass, paired by case: p = {p_value:.2g}\n")


def _finite(value: float) -> float | None:
    """None: in half of the cases the organ was not found."""
    return round(value, 2) if np.isfinite(value) else None


def _dice(row: Sequence[ContourAgreement]) -> list[float]:
    return [each.dice or 0.0 for each in row]


if __name__ == "__main__":
    main()
