"""`strips`: write the tangent strip masks of cases."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..app.choices import MappingChoice
from ..app.output import Output
from ..app.strips import StripsRequest, write_strips
from .options import add_case_options
from .several import finish, note_failure

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("strips", help="write the four tangent strip masks of a case")
    add_case_options(parser)
    parser.add_argument("--output", type=Path, help="folder for DIR/<case>/ (default: the case)")
    parser.add_argument("--margin-mm", type=float, default=0.0, help="margin around the target")
    parser.add_argument("--protocol", help="id of the protocol (default: the one that fits)")
    parser.set_defaults(run=run)


def run(call: argparse.Namespace, output: Output) -> int:
    """Write the strips of each case."""
    mapping = MappingChoice.parse(call.map, call.mapping)
    request = StripsRequest(tuple(call.case), call.output, call.margin_mm, call.protocol, mapping)
    several = write_strips(request, note_failure(output))
    return finish(several, output, lambda case: "\n".join(map(str, case.files)))
