"""`evaluate-contours`: how contours agree with a case's own, and what the dose says of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..app.choices import MappingChoice
from ..app.contours import ContourEvaluation, ContoursRequest, evaluate_contours
from ..app.options import MAPPING_OPTIONS
from ..app.output import Output
from ..evaluation.contours import SURFACE_TOLERANCE_MM
from .options import add_json_option, add_options

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("evaluate-contours", help="hold contours against a case's own")
    parser.add_argument("--case", type=Path, required=True, help="the contours that are right")
    parser.add_argument(
        "--prediction",
        type=Path,
        required=True,
        metavar="DIR",
        help="other contours: a folder of masks, a segmentation, an RTSTRUCT or a DICOM folder",
    )
    parser.add_argument("--protocol", help="id of the protocol (default: the one that fits)")
    add_options(parser, MAPPING_OPTIONS)
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(call: argparse.Namespace, output: Output) -> int:
    """Compare the contours."""
    mapping = MappingChoice.parse(call.map, call.mapping)
    request = ContoursRequest(call.case, call.prediction, call.protocol, mapping)
    evaluated = evaluate_contours(request)
    output.findings(evaluated.findings)
    output.result(evaluated.as_json(), _describe(evaluated))
    return 0


def _describe(evaluated: ContourEvaluation) -> str:
    with_dose = any(each["dose"] for each in evaluated.structures.values())
    within = f"<{SURFACE_TOLERANCE_MM:g} mm"
    head = f"  {'organ':<24}{'Dice':>7}{'HD95 mm':>9}{within:>8}{'cc':>9}{'own cc':>9}"
    lines = [f"{evaluated.case} ({evaluated.protocol or 'no protocol'})"]
    lines.append(head + (f"{'dDmean Gy':>11}{'dD2cc Gy':>10}" if with_dose else ""))
    for name, each in evaluated.structures.items():
        line = f"  {name:<24}{_number(each['dice'], 7, 3)}{_number(each['hd95_mm'], 9, 1)}"
        line += _number(each["surface_dice"], 8, 3)
        line += _number(each["volume_cc"], 9, 1) + _number(each["reference_cc"], 9, 1)
        if each["dose"]:
            line += _number(each["dose"]["Dmean_gy"]["difference"], 11, 2, "+")
            line += _number(each["dose"]["D2cc_gy"]["difference"], 10, 2, "+")
        lines.append(line)
    for label, names in (
        ("only in the case", evaluated.only_in_case),
        ("only in the prediction", evaluated.only_in_prediction),
    ):
        if names:
            lines.append(f"  {label}: {', '.join(names)}")
    return "\n".join(lines)


def _number(value: float | None, width: int, decimals: int, sign: str = "") -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{sign}{width}.{decimals}f}"
