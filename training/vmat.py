"""`python -m training prepare-vmat`: plans as npz files of the VMAT diffusion project."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from DosePredictionLib.app.choices import MappingChoice
from DosePredictionLib.checks.plan_dose import learning_finding
from DosePredictionLib.delivery import TreatmentBeam
from DosePredictionLib.errors import CaseError
from DosePredictionLib.findings import Finding
from DosePredictionLib.io import case_name, read_case
from DosePredictionLib.io.vmat_writer import PROTOCOL, write_vmat
from DosePredictionLib.processes import usable_cores
from DosePredictionLib.structures.bound import bind

from .arguments import WORKERS, within
from .attempts import attempts
from .data import case_paths

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--cases", type=Path, required=True, help="folder of cases with plan dose")
    parser.add_argument("--output", type=Path, required=True, help="folder of npz files")
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="CHANNEL=NAME",
        help=f"structure for one of {', '.join(PROTOCOL.names)}; in every case",
    )
    parser.add_argument("--workers", type=within(WORKERS), default=usable_cores())


def run(arguments: argparse.Namespace) -> int:
    """Write the file of every case; one that is there already is written anew.

    Returns:
        0: done; 3: some cases were refused.
    """
    paths = case_paths(arguments.cases)
    names = [case_name(path) for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CaseError(f"{arguments.cases} holds two cases called {twice[0]}: rename one.")
    mapping = MappingChoice.parse(arguments.map).of(PROTOCOL)
    work = partial(_prepare, output=arguments.output, mapping=mapping)
    failed = 0
    for index, findings, reason in attempts(work, paths, arguments.workers, "prepare"):
        failed += findings is None
        if findings is None:
            sys.stderr.write(f"refused: {paths[index]}: {reason}\n")
        for finding in findings or ():
            sys.stderr.write(f"{names[index]}: {finding.severity}: {finding.message}\n")
    sys.stdout.write(f"{len(paths) - failed} of {len(paths)} prepared in {arguments.output}.\n")
    return 3 if failed else 0


def _prepare(path: Path, output: Path, mapping: Mapping[str, str | None]) -> tuple[Finding, ...]:
    """Write one file; what is not in it, and what its reader noticed."""
    case = read_case(path)
    bound = bind(case, PROTOCOL, mapping)
    doubt = learning_finding(bound)
    if doubt is not None:
        raise CaseError(f"{path} has no dose to learn from: {doubt.message}")
    beams: tuple[TreatmentBeam, ...] = ()
    if case.origin is not None and case.origin.plan is not None:
        from DosePredictionLib.io.dicom.files import quiet_parser
        from DosePredictionLib.io.dicom.selection import select

        with quiet_parser():
            plan = select(path).plan
        beams = () if plan is None else plan.beams
    lost = write_vmat(output / f"{case.name}.npz", bound, beams)
    return (*(found for found in bound.findings if found.severity == "warning"), *lost)
