"""`plan`: a plan that a machine could deliver, from a predicted dose."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..app.choices import MappingChoice, PrescriptionChoice, chosen_goals
from ..app.options import GOALS_OPTION, MAPPING_OPTIONS
from ..app.output import Output
from ..app.plan import PlanRequest, plan_case
from ..planning.monte_carlo import MonteCarloSettings
from ..planning.planner import PlanningSettings
from .options import add_json_option, add_options
from .progress import Bars

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    defaults = PlanningSettings()
    parser = commands.add_parser("plan", help="plan leaf positions and monitor units for a dose")
    parser.add_argument("case", type=Path, help="case folder (NIfTI, DICOM, OpenKBP) or npz file")
    parser.add_argument("--output", type=Path, required=True, help="folder for DIR/<case>/…")
    parser.add_argument(
        "--prediction", type=Path, metavar="DOSE", help="dose to reach (default: it is predicted)"
    )
    parser.add_argument(
        "--own-plan", action="store_true", help="reach the case's own plan dose instead"
    )
    parser.add_argument("--model", help="that predicts (default: the one that fits the case)")
    parser.add_argument("--protocol", help="id of the protocol (default: the one that fits)")
    parser.add_argument("--machine", default="generic-120", metavar="NAME|FILE")
    parser.add_argument(
        "--beams",
        metavar="N|ANGLES",
        help="how many, equally spaced, or gantry angles as in 0,40,80 (default: the case's own, "
        "or 20)",
    )
    parser.add_argument(
        "--goal",
        action="append",
        default=[],
        metavar="'STRUCTURE GOAL'",
        help="ask the plan for a goal, as in 'Rectum V40Gy <= 30 %%' (repeatable)",
    )
    parser.add_argument(
        "--goal-weight",
        action="append",
        type=float,
        default=[],
        metavar="X",
        help="by how much what a --goal concerns counts (default 10); once, or once for each",
    )
    parser.add_argument("--prescription", action="append", default=[], metavar="TARGET=GY")
    parser.add_argument("--fractions", type=int, metavar="N")
    parser.add_argument(
        "--dose-grid",
        type=float,
        default=defaults.dose_grid_mm,
        metavar="MM",
        help="of the optimizer (default %(default)s)",
    )
    parser.add_argument(
        "--segments",
        type=int,
        default=defaults.segments,
        metavar="N",
        help="at most, about (default %(default)s)",
    )
    _add_monte_carlo(parser)
    add_options(parser, GOALS_OPTION)
    add_options(parser, MAPPING_OPTIONS)
    add_json_option(parser)
    parser.set_defaults(run=run)


def _add_monte_carlo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--monte-carlo",
        action="store_true",
        help="hold the plan's dose against one simulated by ompMC (GPL-3, installed separately)",
    )
    parser.add_argument(
        "--histories",
        type=int,
        default=MonteCarloSettings().histories,
        metavar="N",
        help="of --monte-carlo (default %(default)s)",
    )


def run(call: argparse.Namespace, output: Output) -> int:
    """Plan the case."""
    request = PlanRequest(
        case=call.case,
        output=call.output,
        machine=call.machine,
        beams=call.beams,
        dose=call.prediction,
        own_plan=call.own_plan,
        model=call.model,
        protocol=call.protocol,
        mapping=MappingChoice.parse(call.map, call.mapping),
        prescription=PrescriptionChoice.parse(call.prescription, call.fractions),
        goals=chosen_goals(call.goals),
        wishes=tuple(call.goal),
        wish_weights=tuple(call.goal_weight) or (10.0,),
        settings=PlanningSettings(dose_grid_mm=call.dose_grid, segments=call.segments),
        monte_carlo=MonteCarloSettings(call.histories) if call.monte_carlo else None,
    )
    bars = Bars()
    try:
        planned = plan_case(request, lambda share, stage: bars(call.case.name, share, stage))
    finally:
        bars.close()
    output.findings(planned.findings)
    output.result(planned.as_json(), planned.text())
    return 0
