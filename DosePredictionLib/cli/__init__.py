"""The command line: `dose-prediction …`, the same as `python -m DosePredictionLib …`.

Every command takes `--json` and then prints one JSON object on stdout and nothing else there.
Exit codes: 0 done; 2 the call or the one case given is wrong; 3 some of several cases failed;
130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from .. import __version__
from ..app.ending import exit_code_of, interrupt_on_termination
from ..app.output import Output
from ..arguments import Parser

__all__ = ["build_parser", "main"]

_DESCRIPTION = """Predict radiotherapy dose distributions and evaluate them.
Research software, not a medical device; not for clinical use."""


_COMMANDS = (
    "predict",
    "strips",
    "segment",
    "evaluate",
    "evaluate-contours",
    "rtstruct",
    "plan",
    "plan-check",
    "objectives",
    "models",
    "check",
)


def build_parser(names: Sequence[str] = _COMMANDS) -> argparse.ArgumentParser:
    """The parser of the commands; each command's module adds its own."""
    parser = Parser(prog="dose-prediction", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    for name in names:
        importlib.import_module(f".{name.replace('-', '_')}", __name__).add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    output = Output(as_json="--json" in arguments)
    interrupt_on_termination()

    def command() -> int:
        # `check` alone must work where packages are missing.
        names = ("check",) if "check" in arguments[:1] else _COMMANDS
        call = build_parser(names).parse_args(arguments)
        return int(call.run(call, output))

    return exit_code_of(command, output)
