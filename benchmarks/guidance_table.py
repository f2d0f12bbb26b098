"""The table of `benchmarks.dose_guidance`: means, paired tests, and the verdict declared before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from DosePredictionLib.evaluation.cohort import compare_models

__all__ = ["ARMS", "FIGURES", "holm", "of_patients", "table", "verdict"]

ARMS: dict[str, str | None] = {"A": None, "B": "guided", "C": "weighted"}
"""What is trained: the recipe's `task_options.kind`."""

FIGURES = {
    "dice": "Dice",
    "reading_gy": "reading, Gy",
    "guide_gy": "plan by the guide, Gy",
    "other_gy": "plan by another seed, Gy",
    "replanned_gy": "planned again, Gy",
}
_PAIRS = (("A", "B"), ("C", "B"), ("A", "C"))
_LEAST_GAIN, _MOST_DICE = 0.10, 0.005

Record = Mapping[str, Any]


def of_patients(
    arms: Mapping[str, Sequence[Sequence[Record]]], figure: str
) -> dict[str, dict[str, float]]:
    """A figure of each patient by arm: its mean over organs and seeds.

    Organs of a patient that lack it in any arm or seed, for nothing was found, are left out of all:
    an arm must not gain by finding less.

    Args:
        arms: arm → seed → patient.
    """
    known: dict[str, dict[tuple[str, str], list[float]]] = {}
    for arm, seeds in arms.items():
        found: dict[tuple[str, str], list[float]] = {}
        for record in (record for records in seeds for record in records):
            for organ, each in record["organs"].items():
                values = found.setdefault((record["case"], organ), [])
                if each.get(figure) is not None:
                    values.append(each[figure])
        known[arm] = {key: each for key, each in found.items() if len(each) == len(seeds)}
    shared = set.intersection(*(set(each) for each in known.values())) if known else set()
    result: dict[str, dict[str, float]] = {}
    for arm, each in known.items():
        patients: dict[str, list[float]] = {}
        for case, organ in sorted(shared):
            patients.setdefault(case, []).extend(each[case, organ])
        result[arm] = {case: float(np.mean(values)) for case, values in patients.items()}
    return result


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted for their number, step by step (Holm 1979); None stays None."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[index] = largest
    return adjusted


def verdict(means: Mapping[str, Mapping[str, float]]) -> bool | None:
    """Whether guidance helps, as declared before; None: no organ was found by all.

    Args:
        means: arm → figure → its mean over patients.
    """
    guided = means["B"]
    if "reading_gy" not in guided:
        return None
    return all(
        guided["reading_gy"] <= (1 - _LEAST_GAIN) * means[arm]["reading_gy"]
        and guided["dice"] >= means[arm]["dice"] - _MOST_DICE
        for arm in ("A", "C")
    )


def table(
    records: Mapping[str, Sequence[Sequence[Record]]],
    plans: Mapping[str, Sequence[Record]],
    equal: bool,
    trained: str,
) -> str:
    """Markdown, as docs/segmentation.md publishes it.

    Args:
        records: arm → seed → patient.
        plans: arm → patient that was planned again.
        equal: whether the published term changed no bit.
        trained: how long, in words.
    """
    once = {arm: [each] for arm, each in plans.items()}
    patients = {
        figure: of_patients(once if figure == "replanned_gy" else records, figure)
        for figure in FIGURES
    }
    there = {figure: each for figure, each in patients.items() if each and each["A"]}
    means = {
        arm: {figure: float(np.mean(list(each[arm].values()))) for figure, each in there.items()}
        for arm in ARMS
    }
    count = len(next(iter(there.values()))["A"])
    seeds = len(records["A"])
    lines = [f"{count} unseen patients, {seeds} seeds, {trained} from one network.", ""]
    lines += ["| | " + " | ".join(f"{arm}" for arm in ARMS) + " |", "|---" * (1 + len(ARMS)) + "|"]
    for figure in there:
        decimals = 4 if figure == "dice" else 3
        cells = (f"{means[arm][figure]:.{decimals}f}" for arm in ARMS)
        lines.append(f"| {FIGURES[figure]} | {' | '.join(cells)} |")
    lines.append(f"| organs not found | {' | '.join(str(_not_found(records[a])) for a in ARMS)} |")
    lines += ["", *_organ_lines(records), "", *_comparisons(there)]
    words = {True: "helps", False: "does not help", None: "cannot be judged"}
    helps = words[verdict(means)]
    lines += [
        "",
        "By what was declared before (reading at least 10 % lower than A and C, Dice at most 0.005 "
        f"lower), guidance {helps}.",
        f"D {'equals A bit for bit' if equal else 'DIFFERS FROM A'} after five steps.",
        "",
    ]
    return "\n".join(lines)


def _not_found(seeds: Sequence[Sequence[Record]]) -> int:
    """Organs of patients, over all seeds, of which no voxel was found."""
    every = (each for records in seeds for record in records for each in record["organs"].values())
    return sum("reading_gy" in each and each["reading_gy"] is None for each in every)


def _organ_lines(records: Mapping[str, Sequence[Sequence[Record]]]) -> list[str]:
    """Dice and reading of each organ, mean over patients and seeds."""
    names = list(dict.fromkeys(n for seed in records["A"] for r in seed for n in r["organs"]))
    head = "| organ | " + " | ".join(f"Dice {a}" for a in ARMS)
    lines = [head + " | " + " | ".join(f"reading {a}, Gy" for a in ARMS) + " |"]
    lines.append("|---" * (1 + 2 * len(ARMS)) + "|")
    for name in names:
        cells = []
        for figure in ("dice", "reading_gy"):
            for arm in ARMS:
                every = [r["organs"].get(name, {}) for seed in records[arm] for r in seed]
                known = [each[figure] for each in every if each.get(figure) is not None]
                cells.append(f"{np.mean(known):.3f}" if known else "-")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _comparisons(patients: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Paired differences with their intervals, and tests adjusted for their number."""
    found = []
    for figure, arms in patients.items():
        for first, second in _PAIRS:
            one, other = (
                [{"case": case, figure: value} for case, value in arms[arm].items()]
                for arm in (first, second)
            )
            found.append((figure, first, second, compare_models(one, other, figure)))
    adjusted = holm([each["p_value"] for *_, each in found])
    lines = [
        "| figure | difference | mean | 95 % interval | p (Wilcoxon, Holm) |",
        "|---|---|---|---|---|",
    ]
    for (figure, first, second, each), p in zip(found, adjusted, strict=True):
        low, high = each["ci95"]
        shown = "-" if p is None else f"{p:.3f}"
        lines.append(
            f"| {FIGURES[figure]} | {second} − {first} | {each['mean_difference']:+.4f} | "
            f"{low:+.4f} … {high:+.4f} | {shown} |"
        )
    return lines
