"""`evaluate-contours`: how contours agree with a case's own, and what the dose says of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..app.choices import MappingChoice
from ..app.contour_doses import DoseChoice
from ..app.contours import ContourEvaluation, ContoursRequest, evaluate_contours
from ..app.options import MAPPING_OPTIONS, PREDICTION_OPTIONS
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
    parser.add_argument(
        "--predict",
        action="store_true",
        help="predict the dose on both contours, too: what a plan for the others would change",
    )
    shared = ("--model", "--device", "--precision")
    add_options(parser, {name: PREDICTION_OPTIONS[name] for name in shared})
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="a picture of each organ in the slice where its contour moves the dose most",
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(call: argparse.Namespace, output: Output) -> int:
    """Compare the contours."""
    mapping = MappingChoice.parse(call.map, call.mapping)
    wanted = call.predict or call.model is not None
    choice = DoseChoice(call.model, call.device, call.precision) if wanted else None
    request = ContoursRequest(
        call.case, call.prediction, call.protocol, mapping, choice, call.pictures
    )
    evaluated = evaluate_contours(request)
    output.findings(evaluated.findings)
    output.result(evaluated.as_json(), _describe(evaluated))
    return 0


_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("dose", "Dmean_gy", "dDmean Gy"),
    ("dose", "D2cc_gy", "dD2cc Gy"),
    ("predicted", "Dmean_gy", "pred dDmean"),
    ("predicted", "D2cc_gy", "pred dD2cc"),
)


def _describe(evaluated: ContourEvaluation) -> str:
    shown = [
        column
        for column in _COLUMNS
        if any(each[column[0]] for each in evaluated.structures.values())
    ]
    within = f"<{SURFACE_TOLERANCE_MM:g} mm"
    head = f"  {'organ':<24}{'Dice':>7}{'HD95 mm':>9}{within:>8}{'cc':>9}{'own cc':>9}{'dV cc':>9}"
    lines = [f"{evaluated.case} ({evaluated.protocol or 'no protocol'})"]
    lines.append(head + "".join(f"{title:>12}" for _, _, title in shown))
    for name, each in evaluated.structures.items():
        line = f"  {name:<24}{_number(each['dice'], 7, 3)}{_number(each['hd95_mm'], 9, 1)}"
        line += _number(each["surface_dice"], 8, 3)
        line += _number(each["volume_cc"], 9, 1) + _number(each["reference_cc"], 9, 1)
        line += _number(each["volume_difference_cc"], 9, 1, "+")
        for key, endpoint, _ in shown:
            change = (each[key] or {}).get(endpoint, {}).get("difference")
            line += _number(change, 12, 2, "+")
        lines.append(line)
    if evaluated.model is not None:
        lines.append(
            f"  pred: the dose that {evaluated.model} predicts for the other contours less that "
            "for the own ones, in the own organ."
        )
    for label, names in (
        ("only in the case", evaluated.only_in_case),
        ("only in the prediction", evaluated.only_in_prediction),
    ):
        if names:
            lines.append(f"  {label}: {', '.join(names)}")
    return "\n".join(lines)


def _number(value: float | None, width: int, decimals: int, sign: str = "") -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{sign}{width}.{decimals}f}"
