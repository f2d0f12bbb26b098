"""`plan-check`: an RTPLAN against the limits of a machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..app.output import Output
from ..app.plan_check import PlanCheckRequest, check_plan_file
from .options import add_json_option

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "plan-check", help="check an RTPLAN against the limits of a machine"
    )
    parser.add_argument("plan", type=Path, help="an RTPLAN file")
    parser.add_argument(
        "--machine",
        default="generic-120",
        metavar="NAME|FILE",
        help="a shipped machine, or a JSON file of limits (default %(default)s)",
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(call: argparse.Namespace, output: Output) -> int:
    """Check the plan; broken limits are the result, not an error."""
    checked = check_plan_file(PlanCheckRequest(call.plan, call.machine))
    output.result(checked.as_json(), checked.text())
    return 0
