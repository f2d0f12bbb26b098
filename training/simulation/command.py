"""`python -m training simulate …`: a cohort of simulated patients with plans."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from DosePredictionLib.processes import usable_cores

from ..arguments import COUNT, WORKERS, field_of, within
from .settings import CohortSettings, EdgeMm, PlanSettings

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
    parser.add_argument("--beams", type=field_of(PlanSettings, "beams"), default=plan.beams)
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
    from .cohort import read_records, simulate
    from .cutoff import check_cutoff
    from .summary import write_summary

    plan = PlanSettings(
        beams=arguments.beams,
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


def _share(text: str) -> tuple[int, int]:
    try:
        first, machines = (int(part) for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not K/M, such as 3/10") from None
    if not 0 <= first < machines:
        raise argparse.ArgumentTypeError(f"{text!r}: K must be at least 0 and below M")
    return first, machines
