"""`rtstruct`: write masks as a structure set of a DICOM CT."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..case import Case
from ..errors import CaseError
from ..findings import Finding
from ..io import case_name
from .options import add_json_option
from .output import Output

__all__ = ["add_parser"]

_CONTRIBUTION = "Contours drawn around masks; research only"


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("rtstruct", help="write masks as an RTSTRUCT of a DICOM CT")
    parser.add_argument("ct", type=Path, help="DICOM folder with one CT series, or a slice of it")
    parser.add_argument(
        "--masks",
        type=Path,
        nargs="+",
        required=True,
        help="NIfTI or NRRD files, one a structure and named like it, or folders of them",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the RTSTRUCT")
    parser.add_argument("--label", default="Masks", help="label of the structure set")
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(call: argparse.Namespace, output: Output) -> int:
    """Write the structure set."""
    from ..io.dicom import read_images
    from ..io.dicom.rtstruct import Equipment, write_rtstruct
    from ..io.nifti import read_mask

    if not call.ct.exists():
        raise CaseError(f"There is no CT {call.ct}: no such file or folder.")
    files = _mask_files(call.masks)
    ct, origin = read_images(call.ct)
    findings = list(ct.findings)
    grid = ct.volume.grid
    masks = {name: read_mask(file, grid, findings) for name, file in files.items()}
    empty = [name for name, mask in masks.items() if not mask.array.any()]
    if empty:
        message = f"Structures without contours: {', '.join(empty)}."
        findings.append(Finding("structures-without-contours", "warning", message))
    equipment = Equipment("masks from files", __version__, _CONTRIBUTION)
    case = Case(case_name(call.ct), ct.volume, masks, origin=origin)
    findings += write_rtstruct(call.output, masks, case, equipment, call.label)
    output.findings(findings)
    record = {
        "rtstruct": str(call.output),
        "structures": list(masks),
        "checks": [finding.as_json() for finding in findings],
    }
    output.result(record, f"{call.output}: {', '.join(masks)}")
    return 0


def _mask_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Structure → file: those named, and those in the folders named.

    Raises:
        CaseError: a folder holds no masks, or two files have one name.
    """
    from ..io.nifti import mask_files
    from ..io.volumes import file_stem

    files: dict[str, Path] = {}
    for path in paths:
        found = mask_files(path) if path.is_dir() else {file_stem(path): path}
        if not found:
            raise CaseError(f"{path} holds no masks: expected a NIfTI or NRRD file a structure.")
        for name, file in found.items():
            if name in files:
                raise CaseError(f"{files[name]} and {file} are both called {name}: rename one.")
            files[name] = file
    return files
