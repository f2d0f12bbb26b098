"""How surely the check of a case against a model's patients notices what is foreign.

Every kind and size of `benchmarks.perturbations` is done to each case, and its score is held
against those of the cases as they are: the AUC is the chance that a changed case scores higher.

    python -m benchmarks.out_of_distribution --model openkbp-beams --cases DIR [--only 10]
        [--unchanged]

With `--unchanged` the cases as they are, and the check's time, are all.
"""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.perturbations import KINDS
from DosePredictionLib.app.distribution import cohort_paths
from DosePredictionLib.case import Case
from DosePredictionLib.checks.anatomy import anatomy
from DosePredictionLib.checks.distribution import Distribution, read_distribution
from DosePredictionLib.checks.view import CaseView
from DosePredictionLib.io import read_case
from DosePredictionLib.mask import Mask
from DosePredictionLib.models.dose_model import DoseModel
from DosePredictionLib.structures.bound import bind
from DosePredictionLib.volume import Volume

_FOREIGN = 1e6
"""The score of a case that the checks before this one refuse: no numbers can be made of it."""


def score(case: Case, model: DoseModel, known: Distribution) -> float:
    """The score of one case."""
    bound = bind(case, model.protocol)
    view = CaseView(bound, model.manifest.expectations)
    found = known.deviations(anatomy(view))
    return found[0].score if found else _FOREIGN


def around_body(case: Case) -> Case:
    """The case without the air around the body: the numbers are the same, made in less time."""
    name = next((n for n in ("External", "Body") if n in case.structures), None)
    box = None if name is None else case.structures[name].bounding_box(2)
    if box is None:
        return case
    start = [place.start for place in box[::-1]]
    ct = case.ct.array[box].copy()
    grid = case.grid.cropped(start, ct.shape[::-1])
    masks = {n: Mask(mask.array[box].copy(), grid) for n, mask in case.structures.items()}
    return Case(case.name, Volume(ct, grid), masks, prescription=case.prescription)


def auc(regular: np.ndarray, changed: np.ndarray) -> float:
    """The chance that a changed case scores higher than a regular one; ties count half."""
    higher = changed[:, None] > regular[None]
    return float((higher + 0.5 * (changed[:, None] == regular[None])).mean())


def changed_scores(
    case: Case, model: DoseModel, known: Distribution
) -> Iterator[tuple[int, float]]:
    """Place in `KINDS` and score of each change that the case allows; the draws are its own."""
    for index, each in enumerate(KINDS):
        seed = zlib.crc32(f"{case.name} {each.kind} {each.size}".encode())
        changed = each.change(case, np.random.default_rng(seed))
        if changed is not None:
            yield index, score(changed, model, known)


def main() -> None:
    """Print the AUC and the share flagged of each kind and size, and the time of the check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="openkbp-beams")
    parser.add_argument("--cases", type=Path, default=Path("Resources/SampleData/openkbp"))
    parser.add_argument("--distribution", type=Path, help="instead of the model's own")
    parser.add_argument("--only", type=int, help="the first N cases")
    parser.add_argument("--unchanged", action="store_true", help="change nothing, only time")
    arguments = parser.parse_args()
    model = DoseModel.load(arguments.model)
    known = read_distribution(arguments.distribution or model.folder / "distribution.json")
    regular: list[float] = []
    changed: list[list[float]] = [[] for _ in KINDS]
    seconds: list[tuple[float, float]] = []
    for path in cohort_paths(arguments.cases)[: arguments.only]:
        whole = read_case(path)
        started, busy = time.perf_counter(), time.process_time()
        score(whole, model, known)  # as a prediction asks for it, with the air around the body
        seconds.append((time.perf_counter() - started, time.process_time() - busy))
        case = around_body(whole)
        regular.append(score(case, model, known))
        for index, found in () if arguments.unchanged else changed_scores(case, model, known):
            changed[index].append(found)
    _print(np.array(regular), changed, known.threshold)
    wall, busy = 1000 * np.median(seconds, axis=0)
    slowest = 1000 * np.max(seconds, axis=0)[1]
    sys.stdout.write(
        f"before the inference: {busy:.0f} ms of a core a case (median; {slowest:.0f} ms at most), "
        f"{wall:.0f} ms by the clock\n"
    )


def _print(regular: np.ndarray, changed: list[list[float]], threshold: float) -> None:
    flagged = int((regular > threshold).sum())
    sys.stdout.write(
        f"{len(regular)} regular cases, {flagged} flagged (threshold {threshold:.2f}, scores "
        f"{regular.min():.2f} to {regular.max():.2f})\n"
    )
    by_kind: dict[str, list[float]] = {}
    every: list[float] = []
    for each, scores in zip(KINDS, changed, strict=True):
        if not scores:
            continue
        found = auc(regular, np.array(scores))
        every.append(found)
        if each.stated:
            by_kind.setdefault(each.kind, []).append(found)
        share = 100 * float((np.array(scores) > threshold).mean())
        mark = "*" if each.stated else " "
        sys.stdout.write(
            f"{mark} {each.kind:<22}{each.size:<26}{len(scores):>4} AUC {found:.3f}  flagged "
            f"{share:.0f} %\n"
        )
    if by_kind:
        mean = np.mean([np.mean(values) for values in by_kind.values()])
        sys.stdout.write(f"mean over the {len(by_kind)} kinds at the sizes marked *: {mean:.3f}; ")
    if every:
        sys.stdout.write(f"over all sizes {np.mean(every):.3f}\n")


if __name__ == "__main__":
    main()
