"""`segment`: CTs in, contours of organs out."""

from __future__ import annotations

import argparse
from typing import Any

from ..app.choices import MappingChoice
from ..app.options import PREDICTION_OPTIONS
from ..app.output import Output
from ..app.predict import Watch
from ..app.segment import FORMATS, SegmentedCase, SegmentRequest, segment_cases
from .options import add_case_options, add_options
from .progress import Bars
from .several import finish, note_failure

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("segment", help="find the organs of a protocol on CTs")
    add_case_options(parser)
    shared = ("--output", "--device", "--precision")
    add_options(parser, {name: PREDICTION_OPTIONS[name] for name in shared})
    parser.add_argument("--model", help="name or folder (default: the one that is installed)")
    parser.add_argument(
        "--fill-missing",
        action="store_true",
        help="keep the case's own contours and add the organs that have none",
    )
    parser.add_argument(
        "--format",
        default="nifti",
        choices=FORMATS,
        help="a case folder, a segmentation of 3D Slicer, or an RTSTRUCT or SEG of a DICOM CT",
    )
    parser.set_defaults(run=run)


def run(call: argparse.Namespace, output: Output) -> int:
    """Find the organs of each case."""
    from ..inference.allocator import keep_freed_memory

    request = SegmentRequest(
        cases=tuple(call.case),
        output=call.output,
        model=call.model,
        device=call.device,
        precision=call.precision,
        mapping=MappingChoice.parse(call.map, call.mapping),
        fill_missing=call.fill_missing,
        format=call.format,
    )
    keep_freed_memory()
    bars = Bars()
    try:
        several = segment_cases(request, Watch(bars, output.findings, note_failure(output)))
    finally:
        bars.close()
    return finish(several, output, SegmentedCase.text)
