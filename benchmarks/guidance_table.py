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


def of_patients(seeds: Sequence[Sequence[Record]], figure: str) -> dict[str, float]:
    """A figure of each patient, its mean over organs and seeds; None counts as not there."""
    values: dict[str, list[float]] = {}
    for records in seeds:
        for record in records:
            found = [each.get(figure) for each in record["organs"].values()]
            values.setdefault(record["case"], []).extend(v for v in found if v is not None)
    return {case: float(np.mean(each)) for case, each in values.items() if each}


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted for their number, step by step (Holm 1979); None stays None."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[index] = largest
    return adjusted


def verdict(means: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether guidance helps, as declared before.

    Args:
        means: arm → figure → its mean over patients.
    """
    guided = means["B"]
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
    patients = {
        figure: {
            arm: of_patients([plans[arm]] if figure == "replanned_gy" else records[arm], figure)
            for arm in ARMS
            if figure != "replanned_gy" or plans
        }
        for figure in FIGURES
    }
    there = {figure: each for figure, each in patients.items() if each and all(each.values())}
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
    lines += ["", *_organ_lines(records), "", *_comparisons(there)]
    helps = "helps" if verdict(means) else "does not help"
    lines += [
        "",
        "By what was declared before (reading at least 10 % lower than A and C, Dice at most 0.005 "
        f"lower), guidance {helps}.",
        f"D {'equals A bit for bit' if equal else 'DIFFERS FROM A'} after five steps.",
        "",
    ]
    return "\n".join(lines)


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
