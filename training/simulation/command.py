"""`python -m training simulate …`: a cohort of simulated patients with plans."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from DosePredictionLib.errors import DosePredictionError
from DosePredictionLib.processes import usable_cores

from ..arguments import COUNT, WORKERS, field_of, within
from .settings import (
    MOST_LEVELS,
    TECHNIQUES,
    CohortSettings,
    EdgeMm,
    PlanCohortSettings,
    PlanSettings,
)

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    cohort = CohortSettings(seed=0)
    parser.add_argument(
        "--cases", type=within(COUNT), required=True, help="cases of the whole cohort"
    )
    parser.add_argument(
        "--seed", type=field_of(CohortSettings, "seed"), required=True, help="of the cohort"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the cohort")
    parser.add_argument(
        "--workers", type=within(WORKERS), default=usable_cores(), help="plans side by side"
    )
    parser.add_argument(
        "--index",
        type=_share,
        default=(0, 1),
        metavar="K/M",
        help="make only every Mth case from the Kth on (0 ≤ K < M), for M machines",
    )
    parser.add_argument(
        "--prescription",
        type=field_of(CohortSettings, "prescription_gy"),
        default=cohort.prescription_gy,
        metavar="GY",
    )
    parser.add_argument(
        "--spacing",
        type=within(EdgeMm),
        nargs=3,
        default=cohort.spacing_mm,
        metavar="MM",
    )
    parser.add_argument(
        "--anatomy-only",
        action="store_true",
        help="no plans: CTs as many scanners show them, and organs, to learn to find organs",
    )
    _add_plan(parser)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    """How each patient is planned, and the check of it."""
    plan = PlanSettings()
    parser.add_argument(
        "--beams",
        type=_beams,
        nargs="+",
        default=[str(plan.beams)],
        metavar="N|NAME",
        help="one number: all plans with that many fields from 0°; several, or with --goals: every "
        f"anatomy is planned in several ways, out of {', '.join(TECHNIQUES)} (mixed: all)",
    )
    parser.add_argument(
        "--goals",
        type=field_of(PlanCohortSettings, "levels"),
        metavar="N",
        help="plan each anatomy in several ways, with N levels of wishes for its organs "
        f"(1: none; at most {MOST_LEVELS})",
    )
    parser.add_argument(
        "--arrangements",
        type=field_of(PlanCohortSettings, "arrangements"),
        default=PlanCohortSettings(seed=0).arrangements,
        metavar="N",
        help="of modulated fields, of each anatomy that is planned in several ways",
    )
    parser.add_argument(
        "--bixel", type=field_of(PlanSettings, "bixel_mm"), default=plan.bixel_mm, metavar="MM"
    )
    parser.add_argument(
        "--dose-grid",
        type=field_of(PlanSettings, "dose_grid_mm"),
        default=plan.dose_grid_mm,
        metavar="MM",
    )
    parser.add_argument(
        "--lateral-cutoff",
        type=field_of(PlanSettings, "lateral_cutoff_mm"),
        default=plan.lateral_cutoff_mm,
        metavar="MM",
    )
    parser.add_argument(
        "--iterations", type=field_of(PlanSettings, "iterations"), default=plan.iterations
    )
    parser.add_argument(
        "--check-cutoff",
        type=within(COUNT),
        metavar="N",
        help="make nothing; compute the plans of the first N cases again without the cut-off",
    )


def run(arguments: argparse.Namespace) -> int:
    """Make the cohort, or compare its plans with such without a cut-off."""
    if arguments.anatomy_only:
        return _anatomies(arguments)
    if arguments.goals or len(arguments.beams) > 1 or not arguments.beams[0].isdecimal():
        return _plans(arguments)
    from .cohort import read_records, simulate
    from .cutoff import check_cutoff
    from .summary import write_summary

    plan = PlanSettings(
        beams=int(arguments.beams[0]),
        bixel_mm=arguments.bixel,
        dose_grid_mm=arguments.dose_grid,
        lateral_cutoff_mm=arguments.lateral_cutoff,
        iterations=arguments.iterations,
    )
    x, y, z = arguments.spacing
    settings = CohortSettings(arguments.seed, (x, y, z), arguments.prescription, plan)
    if arguments.check_cutoff:
        count, workers = arguments.check_cutoff, arguments.workers
        for line in check_cutoff(arguments.output, settings, count, workers):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        return 0
    first, step = arguments.index
    indices = range(first, arguments.cases, step)
    records = simulate(arguments.output, settings, indices, arguments.workers)
    thrown_away = sum(len(record.thrown_away) for record in records)
    seconds = sum(record.plan_seconds for record in records) / max(len(records), 1)
    sys.stdout.write(
        f"{arguments.output} holds {len(records)} cases of this share; {thrown_away} plans were "
        f"thrown away. A plan took {seconds:.0f} s on average.\n"
    )
    figure = write_summary(arguments.output, read_records(arguments.output))
    sys.stdout.write(f"Summary: {figure}\n")
    return 0


def _anatomies(arguments: argparse.Namespace) -> int:
    """Make a cohort without plans."""
    from .anatomies import AnatomySettings, simulate_anatomies

    x, y, z = arguments.spacing
    first, step = arguments.index
    indices = range(first, arguments.cases, step)
    settings = AnatomySettings(arguments.seed, (x, y, z))
    records, seconds = simulate_anatomies(arguments.output, settings, indices, arguments.workers)
    splits = Counter(record.split for record in records)
    counts = ", ".join(f"{count} {split}" for split, count in sorted(splits.items()))
    sys.stdout.write(
        f"{arguments.output} holds {len(records)} anatomies of this share ({counts}); made in "
        f"{seconds:.0f} s.\n"
    )
    return 0


def _plans(arguments: argparse.Namespace) -> int:
    """Make a cohort whose anatomies are planned in several ways."""
    from .plans import read_plan_records, simulate_plans
    from .plans_summary import write_plans_summary

    plan = PlanSettings()
    of_one = {
        "--bixel": arguments.bixel != plan.bixel_mm,
        "--dose-grid": arguments.dose_grid != plan.dose_grid_mm,
        "--lateral-cutoff": arguments.lateral_cutoff != plan.lateral_cutoff_mm,
        "--iterations": arguments.iterations != plan.iterations,
        "--check-cutoff": arguments.check_cutoff is not None,
    }
    if any(of_one.values()):
        names = ", ".join(name for name, given in of_one.items() if given)
        raise DosePredictionError(
            f"{names} is for plans with one number of --beams and no --goals: leave it out."
        )
    given = TECHNIQUES if "mixed" in arguments.beams else tuple(dict.fromkeys(arguments.beams))
    unknown = [each for each in given if each not in TECHNIQUES]
    if unknown:
        raise DosePredictionError(
            f"--beams {' '.join(unknown)}: plans in several ways have {', '.join(TECHNIQUES)}."
        )
    x, y, z = arguments.spacing
    settings = PlanCohortSettings(
        arguments.seed,
        given,
        arguments.arrangements,
        arguments.goals or 1,
        (x, y, z),
        arguments.prescription,
    )
    first, step = arguments.index
    indices = range(first, arguments.cases, step)
    records = simulate_plans(arguments.output, settings, indices, arguments.workers)
    plans = [plan for record in records for plan in record.plans]
    left_out = sum(bool(plan.faults) for plan in plans)
    seconds = sum(record.cpu_seconds for record in records) + sum(p.cpu_seconds for p in plans)
    sys.stdout.write(
        f"{arguments.output} holds {len(plans) - left_out} plans of {len(records)} anatomies of "
        f"this share; {left_out} plans were left out. They took {seconds / 60:.1f} CPU minutes.\n"
    )
    figure = write_plans_summary(arguments.output, read_plan_records(arguments.output))
    sys.stdout.write(f"Summary: {figure}\n")
    return 0


def _beams(text: str) -> str:
    """A number of fields, or a technique."""
    if text in ("mixed", *TECHNIQUES):
        return text
    return str(field_of(PlanSettings, "beams")(text))


def _share(text: str) -> tuple[int, int]:
    try:
        first, machines = (int(part) for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not K/M, such as 3/10") from None
    if not 0 <= first < machines:
        raise argparse.ArgumentTypeError(f"{text!r}: K must be at least 0 and below M")
    return first, machines
