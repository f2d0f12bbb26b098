"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..case import Case, Prescription
from ..errors import CaseError
from ..structures.mapping import fitting_protocol
from ..structures.mapping_files import parse_map_option, read_mapping
from ..structures.protocol import StructureProtocol

if TYPE_CHECKING:
    from ..evaluation.goals import GoalSet

__all__ = [
    "add_case_options",
    "add_goals_option",
    "add_json_option",
    "chosen_goals",
    "chosen_mapping",
    "chosen_prescription",
    "protocol_of",
]


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """`--json`, which `main` looks for before the call is parsed."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def add_case_options(parser: argparse.ArgumentParser) -> None:
    """Cases, and how their structures find the channels."""
    parser.add_argument(
        "case", type=Path, nargs="+", help="case folder (NIfTI, DICOM, OpenKBP) or npz file"
    )
    add_mapping_options(parser)
    add_json_option(parser)


def add_mapping_options(parser: argparse.ArgumentParser) -> None:
    """`--map` and `--mapping`."""
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="CHANNEL=NAME",
        help="take structure NAME for CHANNEL (repeatable)",
    )
    parser.add_argument("--mapping", type=Path, metavar="FILE", help="mapping file (JSON)")


def add_goals_option(parser: argparse.ArgumentParser) -> None:
    """`--goals`."""
    parser.add_argument(
        "--goals",
        default="suiting",
        metavar="NAME|FILE",
        help="clinical goals: a shipped set, a JSON file, or none "
        "(default: the shipped set that suits the protocol and the prescription)",
    )


def chosen_goals(call: argparse.Namespace) -> GoalSet | Literal["suiting"] | None:
    """What `--goals` says; "suiting" leaves the choice to the case."""
    if call.goals in ("suiting", "none"):
        return "suiting" if call.goals == "suiting" else None
    from ..evaluation.goals import GoalSet

    return GoalSet.load(call.goals)


def chosen_mapping(call: argparse.Namespace, protocol: StructureProtocol) -> dict[str, str | None]:
    """What `--mapping` and `--map` say; the latter wins."""
    chosen: dict[str, str | None] = {}
    if call.mapping is not None:
        chosen.update(read_mapping(call.mapping, protocol))
    chosen.update(parse_map_option(option) for option in call.map)
    return chosen


def chosen_prescription(call: argparse.Namespace, case: Case) -> Prescription | None:
    """What `--prescription` and `--fractions` say, over what the case says."""
    if not call.prescription and call.fractions is None:
        return None
    targets = dict(case.prescription.target_gy) if case.prescription else {}
    for option in call.prescription:
        target, separator, dose = option.partition("=")
        try:
            targets[target.strip()] = float(dose)
        except ValueError:
            separator = ""
        if not separator or not target.strip():
            raise CaseError(f"--prescription takes TARGET=GY, as in PTV=50.4; got {option!r}.")
    own = case.prescription
    fractions = call.fractions if call.fractions is not None else own.fractions if own else None
    return Prescription(targets, fractions, own.technique if own else None)


def protocol_of(case: Case, name: str | None = None) -> StructureProtocol:
    """The protocol of a name, or the one whose channels the case's structures fill best.

    Raises:
        MappingError: no protocol fits.
    """
    if name is not None:
        return StructureProtocol.load(name)
    return fitting_protocol(list(case.structures))
