"""`rtstruct`: write masks as a structure set of a DICOM CT."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..app.output import Output
from ..app.rtstruct import RtstructRequest, write_structure_set
from .options import add_json_option

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("rtstruct", help="write masks as an RTSTRUCT of a DICOM CT")
    parser.add_argument("ct", type=Path, help="DICOM folder with one CT series, or a slice of it")
    parser.add_argument(
        "--masks",
        type=Path,
        nargs="+",
        required=True,
        help="NIfTI, NRRD or MetaImage files, or folders of them: one a structure and named like "
        "it, or segmentations and label maps with names",
    )
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="names of a label map's labels (JSON, CSV, txt)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the RTSTRUCT")
    parser.add_argument("--label", default="Masks", help="label of the structure set")
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(call: argparse.Namespace, output: Output) -> int:
    """Write the structure set."""
    request = RtstructRequest(call.ct, tuple(call.masks), call.output, call.label, call.labels)
    written = write_structure_set(request)
    output.findings(written.findings)
    output.result(written.as_json(), f"{written.path}: {', '.join(written.structures)}")
    return 0
