"""`check`: a copyable report on the installation."""

from __future__ import annotations

import argparse
from typing import Any

from ..app.check import installation, report_text
from ..app.output import Output
from .options import add_json_option

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("check", help="report on the installation")
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(call: argparse.Namespace, output: Output) -> int:
    """Print the report."""
    report = installation()
    output.result({"check": report}, report_text(report))
    return 0
