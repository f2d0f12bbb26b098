"""Tasks by the name that manifests and recipes give them. Without torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from .. import __version__
from ..errors import ModelError
from ..structures.protocol import StructureProtocol

if TYPE_CHECKING:
    from .task import Task

__all__ = ["TASKS", "TaskEntry", "task_class", "task_entry"]


@dataclass(frozen=True)
class TaskEntry:
    """What is known of a task before torch is loaded.

    Args:
        implementation: `module:Class` of its `task.Task`, imported when a network is run.
        required: the channels of a protocol without which it cannot be done; by default those that
            the protocol itself calls required.
    """

    implementation: str
    required: Callable[[StructureProtocol], tuple[str, ...]] = attrgetter("required")


TASKS: dict[str, TaskEntry] = {
    "beam_dose": TaskEntry(f"{__package__}.beam_dose:BeamDose"),
    "dose_regression": TaskEntry(f"{__package__}.dose_regression:DoseRegression"),
    "segmentation": TaskEntry(
        f"{__package__}.segmentation:Segmentation", required=lambda protocol: ()
    ),
}
"""Every task of this version."""


def task_entry(name: str, of: str = "The model") -> TaskEntry:
    """A task of this version.

    Args:
        of: what is of the task, for the message.

    Raises:
        ModelError: this version does not know it.
    """
    if name not in TASKS:
        raise ModelError(
            f"{of} is of the task {name!r}, which version {__version__} of DosePrediction does not "
            f"know; it knows {', '.join(sorted(TASKS))}. Install a version that knows it, or "
            "choose another model."
        )
    return TASKS[name]


def task_class(name: str, of: str = "The model") -> type[Task]:
    """The implementation of a task, which needs torch; raises as `task_entry`."""
    module, _, attribute = task_entry(name, of).implementation.partition(":")
    implementation: type[Task] = getattr(importlib.import_module(module), attribute)
    return implementation
