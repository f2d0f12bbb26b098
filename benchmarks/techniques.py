"""How far a model's doses are from simulated plans, technique by technique.

    python -m benchmarks.techniques --cohort COHORT --model MODEL [--beside RUN] [--workers 2]

For each technique, each level of wishes and both kinds of arrangement: the mean absolute error in
the body with its 95 % interval over anatomies, the errors of the PTV's D95, those of prostates
alone apart, and the mean error of the organs' mean doses. With `--beside`, such as a run that sees
the PTV and the beams alone (`pelvis_wishes_blind`): its body MAE, and by how much the model's is
less. At last what soft organs change of the dose, as a share of the error (`--no-soft` leaves that
out). A plan is predicted once (`plan_figures.py`): the command goes on where it stopped. `--card`
writes the figures into the model's card, with a text that says what the cases are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from DosePredictionLib.models.dose_model import DoseModel, write_manifest
from training.simulation.settings import TECHNIQUES

from .plan_figures import SOFT_MM, Planned, add_arguments, figures_of_cohort

__all__ = ["card_of", "describe", "main"]

_SMALL = "prostate_only"
_BOOTSTRAPS = 2000
_ALL = 1_000_000


def main() -> None:
    """Print the tables."""
    if len(sys.argv) == 1:
        sys.stdout.write("needs a cohort and a model: --cohort, --model\n")
        return
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--anatomies", type=int, default=_ALL, help="at most; the first ones")
    parser.add_argument("--beside", metavar="MODEL|RUN", help="what it is held against")
    parser.add_argument("--no-soft", action="store_true", help="do not predict for soft organs")
    parser.add_argument("--card", metavar="TEXT", help="write the model's card; TEXT: the cases")
    call = parser.parse_args()
    most = call.anatomies
    beside = figures_of_cohort(call, call.beside, most) if call.beside else []
    plans = figures_of_cohort(call, call.model, most, soft=not call.no_soft)
    sys.stdout.write(describe(plans, beside))
    if call.card:
        model = DoseModel.load(call.model)
        card = card_of(plans, call.card)
        write_manifest(model.folder, replace(model.manifest, validation=card))


def card_of(plans: Sequence[Planned], cases: str) -> dict[str, Any]:
    """What the card says of the figures.

    Args:
        cases: what they are, in words.
    """
    low, high = _interval(plans)
    groups: dict[str, Any] = {}
    for words, holds in _groups():
        chosen = [each for each in plans if holds(each)]
        if chosen:
            d95_gy = float(np.mean([_target_error(each) for each in chosen]))
            organs_gy = float(np.mean([_organ_error(each) for each in chosen]))
            groups[words] = {
                "plans": len(chosen),
                "mae_body_gy": round(_mae(chosen), 3),
                "target_d95_gy": round(d95_gy, 3),
                "organ_means_gy": round(organs_gy, 3),
            }
    return {
        "cases": cases,
        "command": "python -m benchmarks.techniques --cohort COHORT --model MODEL",
        "mae_body_gy": {"mean": _mae(plans), "ci95": [low, high], "patients": _anatomies(plans)},
        "by_group": groups,
    }


def describe(plans: Sequence[Planned], beside: Sequence[Planned] = ()) -> str:
    """The tables.

    Args:
        plans: all, with the model's figures.
        beside: the same plans with another's; empty: none.
    """
    heads = ("plans", "body MAE, Gy (95 %)", "PTV D95", "others", "small", "organs")
    widths = (7, 24, 9, 9, 12, 8)
    head = "".join(f"{text:>{width}}" for text, width in zip(heads, widths, strict=True))
    lines = [
        f"{len(plans)} plans of {_anatomies(plans)} anatomies; mean absolute errors, Gy; small: "
        "prostates alone",
        f"{'':<16}{head}" + (f"{'beside':>9}{'less by':>9}" if beside else ""),
    ]
    for words, holds in _groups():
        chosen = [each for each in plans if holds(each)]
        if chosen:
            lines.append(f"{words:<16}{_row(chosen)}{_against(chosen, beside)}")
    lines += ["", *_organ_lines(plans), *_soft_lines(plans)]
    return "\n".join(lines) + "\n"


def _groups() -> list[tuple[str, Callable[[Planned], bool]]]:
    """Words of a row, and which plans it is about."""
    by_technique: list[tuple[str, Callable[[Planned], bool]]] = [
        (name, lambda each, name=name: each.plan.technique == name)  # type: ignore[misc]
        for name in TECHNIQUES
    ]
    return [
        *by_technique,
        ("modulated", lambda each: each.plan.technique != "open"),
        ("symmetric", lambda each: not each.plan.asymmetric),
        ("not symmetric", lambda each: each.plan.asymmetric),
        ("without wishes", lambda each: each.plan.level == 0),
        ("with wishes", lambda each: each.plan.level > 0),
        ("all", lambda each: True),
    ]


def _row(plans: Sequence[Planned]) -> str:
    low, high = _interval(plans)
    body = f"{_mae(plans):.2f} ({low:.2f} to {high:.2f})"
    small = [each for each in plans if _is_small(each)]
    others = [each for each in plans if not _is_small(each)]
    few = f"{_d95(small)} ({len(small)})"
    organs = np.mean([_organ_error(each) for each in plans])
    return f"{len(plans):>7}{body:>24}{_d95(plans):>9}{_d95(others):>9}{few:>12}{organs:>8.2f}"


def _against(plans: Sequence[Planned], beside: Sequence[Planned]) -> str:
    """The other's error on the same plans, and how much less the model's is."""
    if not beside:
        return ""
    names = {each.plan.name for each in plans}
    other = _mae([each for each in beside if each.plan.name in names])
    return f"{other:>9.2f}{100 * (1 - _mae(plans) / other):>7.0f} %"


def _organ_lines(plans: Sequence[Planned]) -> list[str]:
    """The error of each organ's mean dose, and of the volume that wishes limit."""
    lines = [f"{'organ':<18}{'plans':>7}{'Dmean, Gy':>11}{'V of wishes, %':>16}"]
    for name in dict.fromkeys(name for each in plans for name in each.figures.organs):
        found = [o for each in plans if (o := each.figures.organs.get(name)) is not None]
        means = np.mean([abs(o.mean_gy[0] - o.mean_gy[1]) for o in found])
        volumes = [v for o in found if (v := o.wished_percent) is not None]
        wished = f"{np.mean([abs(v[0] - v[1]) for v in volumes]):>16.1f}" if volumes else ""
        lines.append(f"{name:<18}{len(found):>7}{means:>11.2f}{wished}")
    return lines


def _soft_lines(plans: Sequence[Planned]) -> list[str]:
    """What soft organs change, against what the prediction is off by."""
    pairs = [(s, each.figures.mae_gy) for each in plans if (s := each.figures.soft_gy) is not None]
    if not pairs:
        return []
    soft, error = np.mean(pairs, axis=0)
    return [
        "",
        f"Organs with soft edges (Gaussian of {SOFT_MM:g} mm) change the dose by {soft:.3f} Gy in "
        f"the body, {100 * soft / error:.0f} % of the error of the same {len(pairs)} plans "
        f"({error:.2f} Gy).",
    ]


def _is_small(each: Planned) -> bool:
    return each.anatomy.patient.site == _SMALL


def _mae(plans: Sequence[Planned]) -> float:
    return float(np.mean([each.figures.mae_gy for each in plans]))


def _d95(plans: Sequence[Planned]) -> str:
    return f"{np.mean([_target_error(each) for each in plans]):.2f}" if plans else "-"


def _target_error(each: Planned) -> float:
    ours, plan = each.figures.target_d95_gy
    return abs(ours - plan)


def _anatomies(plans: Sequence[Planned]) -> int:
    return len({each.anatomy.name for each in plans})


def _organ_error(each: Planned) -> float:
    pairs = [organ.mean_gy for organ in each.figures.organs.values()]
    return float(np.mean([abs(ours - plan) for ours, plan in pairs]))


def _interval(plans: Sequence[Planned]) -> tuple[float, float]:
    """Of the mean body error: a bootstrap over anatomies, whose plans are not independent."""
    by_anatomy: dict[str, list[float]] = {}
    for each in plans:
        by_anatomy.setdefault(each.anatomy.name, []).append(each.figures.mae_gy)
    sums = np.array([sum(values) for values in by_anatomy.values()])
    counts = np.array([len(values) for values in by_anatomy.values()])
    drawn = np.random.default_rng(0).integers(0, sums.size, (_BOOTSTRAPS, sums.size))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    main()
