"""The four tangent strip masks of cases, as files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..encoding.strips import case_strips
from ..errors import CaseError
from ..files import file_set
from ..io import read_case
from ..structures.bound import bind
from ..structures.protocol import StructureProtocol
from .choices import MappingChoice
from .several import CaseFailure, Several, work_on_cases

__all__ = ["StripFiles", "StripsRequest", "write_strips"]


@dataclass(frozen=True)
class StripsRequest:
    """Which strips to write.

    Args:
        cases: folders and files that `read_case` takes.
        output: folder for a folder a case; None: beside the case's own files.
        margin_mm: around the target.
        protocol: id; None: the one that fits.
        mapping: structures for channels.
    """

    cases: tuple[Path, ...]
    output: Path | None = None
    margin_mm: float = 0.0
    protocol: str | None = None
    mapping: MappingChoice = field(default_factory=MappingChoice)


@dataclass(frozen=True)
class StripFiles:
    """The files of a case."""

    case: str
    files: tuple[Path, ...]

    def as_json(self) -> dict[str, Any]:
        """`case` and `files`."""
        return {"case": self.case, "files": [str(file) for file in self.files]}


def write_strips(
    request: StripsRequest, failed: Callable[[CaseFailure], None] = lambda failure: None
) -> Several[StripFiles]:
    """Write the strips of each case, four files as one set."""
    return work_on_cases(request.cases, lambda path: _strips(path, request), failed)


def _strips(path: Path, request: StripsRequest) -> StripFiles:
    from ..io.volumes import write_volume

    if request.output is None and not path.is_dir():
        raise CaseError(f"{path} is a file: name a folder for the strips by --output.")
    case = read_case(path)
    named = request.protocol or request.mapping.protocol
    protocol = None if named is None else StructureProtocol.load(named)
    bound = bind(case, protocol, request.mapping.of(protocol))
    masks = case_strips(bound, request.margin_mm)
    folder = path if request.output is None else request.output / case.name
    names = {angle: f"strip_full_theta{angle:03d}.nii.gz" for angle in masks}
    with file_set(folder) as aside:
        for angle, mask in masks.items():
            write_volume(aside / names[angle], mask, "tangent strip mask")
    return StripFiles(case.name, tuple(folder / name for name in names.values()))
