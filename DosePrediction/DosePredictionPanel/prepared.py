"""The inputs, read from the scene and laid out for the worker.

Reading and writing alternate, an array a step. What stays in Slicer's memory afterwards is what a
result needs to become nodes, without voxels: those lie in the folder.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .i18n import _

if TYPE_CHECKING:
    from DosePredictionLib.case import Case
    from DosePredictionLib.findings import Finding
    from DosePredictionLib.scene import SceneCase, Step

__all__ = ["PreparedInputs", "Scratch", "prepare_steps"]


@dataclass(frozen=True, eq=False)
class PreparedInputs:
    """Inputs as they were read.

    Args:
        folder: the case, as the worker reads it.
        light: where it came from; its `case` is None.
        findings: what was noticed while it was read.
    """

    folder: Path
    light: SceneCase
    findings: tuple[Finding, ...]

    @property
    def names(self) -> list[str]:
        """Names of the structures."""
        return list(self.light.segments)

    @property
    def empty(self) -> list[str]:
        """Structures without volume."""
        return [name for name, cc in self.light.volumes_cc.items() if cc <= 0]

    def source(self, only: Collection[str] | None = None) -> SceneCase:
        """The inputs with their voxels, from the folder; of the structures all, or only some."""
        from DosePredictionLib.worker.exchange import read_exchanged_case

        return replace(self.light, case=read_exchanged_case(self.folder, only))


def prepare_steps(
    ct: Any,
    segmentation: Any,
    plan_dose: Any,
    folder: Path,
    before: PreparedInputs | None = None,
) -> Generator[Step, None, PreparedInputs]:
    """Read the nodes and write the case into `folder`; returns `PreparedInputs`.

    Args:
        before: inputs as they were read earlier; what has not changed is neither read nor written.

    Raises:
        DosePredictionError: as `scene.case_steps` and `exchange.CaseWriter`.
    """
    from DosePredictionLib.scene import Step, case_steps
    from DosePredictionLib.worker.exchange import CaseWriter

    earlier = None if before is None or not before.folder.is_dir() else before.source()
    source = yield from case_steps(ct, segmentation, plan_dose, before=earlier)
    case = source.case
    total = len(case.structures) + 2
    writer = CaseWriter(folder, case.name, case.grid)
    writer.ct(case.ct)
    yield Step(_("handing over the CT"), 1, total)
    for number, (name, mask) in enumerate(case.structures.items(), start=2):
        writer.structure(name, mask)
        yield Step(_("handing over {name}").format(name=name), number, total)
    if case.dose_mask is not None:
        writer.dose_mask(case.dose_mask)
    if case.plan_dose is not None:
        for _nothing in writer.plan_dose(case.plan_dose):
            yield Step(_("handing over the plan dose"), total - 1, total)
    writer.finish(case.prescription, case.findings)
    yield Step(_("inputs read"), total, total)
    # The voxels are in the folder now; Slicer's memory is given back.
    light = replace(source, case=cast("Case", None))
    return PreparedInputs(folder, light, case.findings)


class Scratch:
    """Folders for cases and predictions, in one that only this user can read."""

    def __init__(self) -> None:
        self._root: Path | None = None
        self._numbers = itertools.count(1)

    @property
    def root(self) -> Path:
        """The folder of all; made when it is first needed.

        Raises:
            WorkerError: the system's folder for temporary files cannot be written.
        """
        from DosePredictionLib.worker.exchange import new_scratch

        if self._root is None or not self._root.is_dir():
            self._root = new_scratch()
        return self._root

    def new(self, kind: str) -> Path:
        """A name in it that is not taken."""
        return self.root / f"{kind}-{next(self._numbers)}"

    def discard(self, folders: Sequence[Path]) -> None:
        """Delete folders; one that is still mapped (Windows) goes with the rest in the end."""
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Delete everything."""
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)
            self._root = None
