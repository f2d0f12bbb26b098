"""`objectives`: a dose as isodose structures and a table of objectives, for other planners."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..app.choices import MappingChoice
from ..app.objectives import ObjectivesRequest, write_objectives
from ..app.options import MAPPING_OPTIONS
from ..app.output import Output
from .options import add_json_option, add_options

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "objectives", help="a dose as isodoses and objectives for another planning system"
    )
    parser.add_argument("case", type=Path, help="case folder (NIfTI, DICOM, OpenKBP) or npz file")
    parser.add_argument("--prediction", type=Path, required=True, metavar="DOSE")
    parser.add_argument("--output", type=Path, required=True, help="folder for DIR/<case>/…")
    parser.add_argument(
        "--levels",
        type=float,
        nargs="+",
        default=[95.0, 80.0, 50.0],
        metavar="PERCENT",
        help="isodoses, of the highest prescription (default 95 80 50)",
    )
    parser.add_argument("--protocol", help="id of the protocol (default: the one that fits)")
    add_options(parser, MAPPING_OPTIONS)
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(call: argparse.Namespace, output: Output) -> int:
    """Write the files."""
    request = ObjectivesRequest(
        call.case,
        call.prediction,
        call.output,
        tuple(call.levels),
        call.protocol,
        MappingChoice.parse(call.map, call.mapping),
    )
    written = write_objectives(request)
    output.findings(written.findings)
    output.result(written.as_json(), "\n".join(map(str, written.files)))
    return 0
