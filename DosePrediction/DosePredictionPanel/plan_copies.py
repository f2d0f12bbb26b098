"""The files of a plan, which the planner wrote, to where a person wants them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from .i18n import _
from .plan_facts import PLAN_OPTION

if TYPE_CHECKING:
    from .services import KeptResult

__all__ = ["copied_of_plan", "write_plan"]


def write_plan(kept: KeptResult | None, name: str, folder: Path) -> Path:
    """Copy all of a plan's files into a folder of its name in `folder`.

    Raises:
        ValueError: they are gone; the folder is there already.
    """
    from DosePredictionLib.files import whole_folder

    record = _file(kept, "plan.json")
    place = folder / "".join(c if c.isalnum() or c in "-_ " else "_" for c in name).strip()
    with whole_folder(place) as aside:
        for file in record.parent.iterdir():
            shutil.copyfile(file, aside / file.name)
    return place


def copied_of_plan(kept: KeptResult | None, name: str, path: Path) -> bool:
    """Copy a plan's file; of a prediction, which has none, nothing is.

    Raises:
        ValueError: the plan's files are gone.
    """
    from DosePredictionLib.files import whole_file

    if kept is None or PLAN_OPTION not in kept.result.record.options:
        return False
    source = _file(kept, name)
    with whole_file(path) as aside:
        shutil.copyfile(source, aside)
    return True


def _file(kept: KeptResult | None, name: str) -> Path:
    path = kept.output / "plan" / name if kept is not None and kept.output is not None else None
    if path is None or not path.is_file():
        raise ValueError(_("The plan's files are gone. Make the plan again."))
    return path
