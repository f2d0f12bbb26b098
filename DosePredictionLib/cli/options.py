"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..app.options import MAPPING_OPTIONS, Options

__all__ = ["add_case_options", "add_json_option", "add_options"]


def add_options(parser: argparse.ArgumentParser, options: Options) -> None:
    """Add options that are stated as data."""
    for name, settings in options.items():
        parser.add_argument(name, **settings)


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """`--json`, which `main` looks for before the call is parsed."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def add_case_options(parser: argparse.ArgumentParser) -> None:
    """Cases, and how their structures find the channels."""
    parser.add_argument(
        "case", type=Path, nargs="+", help="case folder (NIfTI, DICOM, OpenKBP) or npz file"
    )
    add_options(parser, MAPPING_OPTIONS)
    add_json_option(parser)
