"""`strips`: write the tangent strip masks of cases."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from ..encoding.strips import STRIP_ANGLES, tangent_strips
from ..errors import CaseError
from ..io import case_name, read_case
from ..structures.bound import bind
from ..volume import Volume
from .options import add_case_options, chosen_mapping, protocol_of
from .output import Output
from .several import run_cases

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

    def one(path: Path) -> dict[str, Any]:
        return {"case": case_name(path), "files": [str(file) for file in _strips(path, call)]}

    return run_cases(call.case, one, output, lambda record: "\n".join(record["files"]))


def _strips(path: Path, call: argparse.Namespace) -> list[Path]:
    from ..io.volumes import write_volume

    if call.output is None and not path.is_dir():
        raise CaseError(f"{path} is a file: name a folder for the strips by --output.")
    case = read_case(path)
    protocol = protocol_of(case, call.protocol)
    bound = bind(case, protocol, chosen_mapping(call, protocol))
    targets = [target.majority() for target in bound.targets]
    if not targets:
        raise CaseError(f"{case.name} has no target: map one by --map.")
    target = Volume(np.logical_or.reduce(targets), case.grid)
    masks = tangent_strips(target, bound.external, STRIP_ANGLES, call.margin_mm)
    folder = path if call.output is None else call.output / case.name
    files = []
    for angle, mask in masks.items():
        files.append(folder / f"strip_full_theta{angle:03d}.nii.gz")
        write_volume(files[-1], mask, "tangent strip mask")
    return files
